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


class DeploymentCreated(msgspec.Struct, frozen=True, tag="DeploymentCreated", forbid_unknown_fields=True):
    """A deployment exists from here on. `content` never changes; `{"$secret": id}` stands where a secret was.

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


class DeploymentUpdated(msgspec.Struct, frozen=True, tag="DeploymentUpdated", forbid_unknown_fields=True):
    """Target condition, priority, labels and metrics are now exactly these."""

    target_condition: str
    priority: int
    labels: dict[str, str]
    metrics: dict[str, str]


class AdmissionChanged(msgspec.Struct, frozen=True, tag="AdmissionChanged", forbid_unknown_fields=True):
    """Who may receive the deployment changed: it started, a phase opened, or it ended."""

    admission: Admission


class DeploymentDeleted(msgspec.Struct, frozen=True, tag="DeploymentDeleted", forbid_unknown_fields=True):
    """The deployment is gone; its devices fall back to what else targets them."""


DeploymentFact = DeploymentCreated | DeploymentUpdated | AdmissionChanged | DeploymentDeleted
