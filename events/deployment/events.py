"""Events of deployments. Their subject is the deployment's id, and they are in the fleet's stream."""

import msgspec
from msgspec import UNSET, UnsetType

from events.canonical import JsonObject


class NotStarted(msgspec.Struct, frozen=True, tag="NotStarted"):
    """No device is admitted yet."""


class Everyone(msgspec.Struct, frozen=True, tag="Everyone"):
    """Every targeted device is admitted."""


class Admitted(msgspec.Struct, frozen=True, tag="Admitted"):
    """Only these devices are admitted, if they are targeted. Ids are sorted and unique."""

    device_ids: tuple[str, ...]


class Ended(msgspec.Struct, frozen=True, tag="Ended"):
    """No device is admitted any more."""


Admission = NotStarted | Everyone | Admitted | Ended


class Kept(msgspec.Struct, frozen=True, tag="Kept"):
    """Only these devices keep the deployment, if they are targeted: partition → base64 of a set of ordinals.

    Only the cancelation of an update writes this, with the devices that have the update; operators cannot request it.
    """

    devices: dict[str, str]


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a deployment starts and ends, in milliseconds since 1970; 0 is not set. `zone` is the time zone for display."""

    start_at: int = 0
    end_at: int = 0
    zone: str = "UTC"


class DeploymentCreated(msgspec.Struct, frozen=True, tag="DeploymentCreated", forbid_unknown_fields=True):
    """A deployment was created. `content` never changes, and has `{"$secret": id}` in place of each secret.

    `schedule` is absent without a schedule. `scope` is the scope of the creator, which restricts the targeted devices for
    the deployment's whole life; it is absent if the creator had no scope.
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
    """The target condition, priority, labels and metrics were replaced by these."""

    target_condition: str
    priority: int
    labels: dict[str, str]
    metrics: dict[str, str]


class AdmissionChanged(msgspec.Struct, frozen=True, tag="AdmissionChanged", forbid_unknown_fields=True):
    """The admitted devices changed, such as at the start or end. `late_ms` is the delay after a scheduled time."""

    admission: Admission | Kept
    late_ms: int | UnsetType = UNSET


class DeploymentScheduled(msgspec.Struct, frozen=True, tag="DeploymentScheduled", forbid_unknown_fields=True):
    """The start and end were replaced by these."""

    schedule: Schedule


class DeploymentDeleted(msgspec.Struct, frozen=True, tag="DeploymentDeleted", forbid_unknown_fields=True):
    """The deployment was deleted. Its devices get the other deployments that target them."""


DeploymentEvent = DeploymentCreated | DeploymentUpdated | AdmissionChanged | DeploymentScheduled | DeploymentDeleted
