"""What can happen to a deployment. Subject: the deployment's id; all stand in the fleet's stream."""

import msgspec
from msgspec import UNSET, UnsetType

from events.canonical import JsonObject


class NotStarted(msgspec.Struct, frozen=True, tag="NotStarted"):
    """Nobody is admitted yet."""


class Everyone(msgspec.Struct, frozen=True, tag="Everyone"):
    """Whoever is targeted is admitted."""


class Admitted(msgspec.Struct, frozen=True, tag="Admitted"):
    """Exactly these devices are admitted, as far as they are targeted. Ids are sorted and unique."""

    device_ids: tuple[str, ...]


class Ended(msgspec.Struct, frozen=True, tag="Ended"):
    """Nobody is admitted any more."""


Admission = NotStarted | Everyone | Admitted | Ended


class Kept(msgspec.Struct, frozen=True, tag="Kept"):
    """Exactly these devices keep it, as far as they are targeted: by partition, the base64 of a set of ordinals.

    For who acts on a fleet as it was read (a canceled update); nobody asks for it by hand.
    """

    devices: dict[str, str]


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a deployment starts and ends, in milliseconds since 1970; 0 is not set. `zone` is how people read these times."""

    start_at: int = 0
    end_at: int = 0
    zone: str = "UTC"


class DeploymentCreated(msgspec.Struct, frozen=True, tag="DeploymentCreated", forbid_unknown_fields=True):
    """A deployment exists from here on. `content` never changes; `{"$secret": id}` stands where a secret was.

    `schedule` is left out where it has none.
    `scope` is that of whoever created it: a second condition, for as long as the deployment lives. Left out where they had none.
    """

    content: JsonObject
    target_condition: str = ""
    priority: int = 0
    labels: dict[str, str] = {}
    metrics: dict[str, str] = {}
    schema_version: str = "1.0"
    admission: Admission = Everyone()
    scope: str | UnsetType = UNSET
    schedule: Schedule | UnsetType = UNSET


class DeploymentUpdated(msgspec.Struct, frozen=True, tag="DeploymentUpdated", forbid_unknown_fields=True):
    """Target condition, priority, labels and metrics are now exactly these."""

    target_condition: str
    priority: int
    labels: dict[str, str]
    metrics: dict[str, str]


class AdmissionChanged(msgspec.Struct, frozen=True, tag="AdmissionChanged", forbid_unknown_fields=True):
    """Who may receive the deployment changed: it started, or it ended; `late_ms` after it was due, where it was due at a time."""

    admission: Admission | Kept
    late_ms: int | UnsetType = UNSET


class DeploymentScheduled(msgspec.Struct, frozen=True, tag="DeploymentScheduled", forbid_unknown_fields=True):
    """Its times are now these."""

    schedule: Schedule


class DeploymentDeleted(msgspec.Struct, frozen=True, tag="DeploymentDeleted", forbid_unknown_fields=True):
    """The deployment is gone; its devices fall back to what else targets them."""


DeploymentEvent = DeploymentCreated | DeploymentUpdated | AdmissionChanged | DeploymentScheduled | DeploymentDeleted
