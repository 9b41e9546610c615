"""The events of updates and groups. Subjects: `update:<provider>/<name>/<version>` and `group:<id>`, in the fleet's stream."""

import msgspec
from msgspec import UNSET, UnsetType

from events.canonical import JsonObject
from events.update.names import UpdateId


class RollbackPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When all devices of a group roll back, and to which update (seed 004, Automatic rollback policy).

    Without an update each device returns to its last known good: what it had, and was healthy with, before.
    Both thresholds must be reached (>=): `percent` (0 to 100) of the counted devices, and `count` devices; and at least
    `answered_min` devices must have answered.
    """

    update: UpdateId | None
    percent: float
    count: int = 1
    answered_min: int = 0


class UpdateImported(msgspec.Struct, frozen=True, tag="UpdateImported", forbid_unknown_fields=True):
    """An update was imported and can be deployed. `content` never changes; `{"$secret": id}` replaces each secret.

    It is for devices that at least one of `compatibility` fits, and for all devices without any; see `condition_of`.
    """

    update: UpdateId
    content: JsonObject
    compatibility: tuple[dict[str, str], ...] = ()
    description: str = ""
    friendly_name: str = ""


class UpdateDeleted(msgspec.Struct, frozen=True, tag="UpdateDeleted", forbid_unknown_fields=True):
    """An update was deleted: it cannot be deployed any more. Devices that have it keep it."""


UpdateEvent = UpdateImported | UpdateDeleted


class GroupDefined(msgspec.Struct, frozen=True, tag="GroupDefined", forbid_unknown_fields=True):
    """A group was defined: the devices that `condition` is true for; if it is empty, the devices tagged with its name.

    `priority` is the priority of the deployments of its updates.
    """

    condition: str
    priority: int


class GroupRemoved(msgspec.Struct, frozen=True, tag="GroupRemoved", forbid_unknown_fields=True):
    """A group was deleted with its deployments; its name again means the devices tagged with it."""


class UpdateDeployed(msgspec.Struct, frozen=True, tag="UpdateDeployed", forbid_unknown_fields=True):
    """A group gets an update, at once or from `start_at` (milliseconds); the previous deployment is superseded."""

    deployment: str
    update: UpdateId
    start_at: int = 0
    policy: RollbackPolicy | UnsetType = UNSET


class UpdateDeploymentCanceled(msgspec.Struct, frozen=True, tag="UpdateDeploymentCanceled", forbid_unknown_fields=True):
    """A deployment was canceled: no further device of the group gets it."""

    deployment: str
    reason: str = ""


class UpdateDeploymentRetried(msgspec.Struct, frozen=True, tag="UpdateDeploymentRetried", forbid_unknown_fields=True):
    """An operator retries the devices of the group that failed."""

    deployment: str


class UpdateDeploymentDeleted(msgspec.Struct, frozen=True, tag="UpdateDeploymentDeleted", forbid_unknown_fields=True):
    """A deployment was deleted, and its devices do not have it any more."""

    deployment: str


GroupEvent = (
    GroupDefined
    | GroupRemoved
    | UpdateDeployed
    | UpdateDeploymentCanceled
    | UpdateDeploymentRetried
    | UpdateDeploymentDeleted
)
