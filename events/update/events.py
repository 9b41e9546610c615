"""What can happen to updates and groups. Subjects: `update:<provider>/<name>/<version>` and `group:<id>`, in the fleet's stream."""

import msgspec
from msgspec import UNSET, UnsetType

from events.canonical import JsonObject
from events.update.names import UpdateId


class RollbackPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When all devices of a group go back, and to which update (seed 004, Automatic rollback policy).

    Without an update each device goes back to what it had, and was well with, before: its last known good.
    Both thresholds must be reached (>=): `percent` (0 to 100) of those who count, `count` of devices; and not before
    `answered_min` devices have answered.
    """

    update: UpdateId | None
    percent: float
    count: int = 1
    answered_min: int = 0


class UpdateImported(msgspec.Struct, frozen=True, tag="UpdateImported", forbid_unknown_fields=True):
    """An update can be deployed from here on. `content` never changes; `{"$secret": id}` stands where a secret was.

    It is for devices that one of `compatibility` fits, and for all where there is none; see `condition_of`.
    """

    update: UpdateId
    content: JsonObject
    compatibility: tuple[dict[str, str], ...] = ()
    description: str = ""
    friendly_name: str = ""


class UpdateDeleted(msgspec.Struct, frozen=True, tag="UpdateDeleted", forbid_unknown_fields=True):
    """The update cannot be deployed any more; where it was, it stays."""


UpdateEvent = UpdateImported | UpdateDeleted


class GroupDefined(msgspec.Struct, frozen=True, tag="GroupDefined", forbid_unknown_fields=True):
    """Whoever `condition` is true for is in the group; empty: whoever is tagged with its name.

    `priority` is that of the deployments which carry its updates.
    """

    condition: str
    priority: int


class GroupRemoved(msgspec.Struct, frozen=True, tag="GroupRemoved", forbid_unknown_fields=True):
    """The group is by its tag again, and what was deployed to it is forgotten."""


class UpdateDeployed(msgspec.Struct, frozen=True, tag="UpdateDeployed", forbid_unknown_fields=True):
    """The group gets an update from here on, or from `start_at` (milliseconds); what it got until now is superseded."""

    deployment: str
    update: UpdateId
    start_at: int = 0
    policy: RollbackPolicy | UnsetType = UNSET


class UpdateDeploymentCanceled(msgspec.Struct, frozen=True, tag="UpdateDeploymentCanceled", forbid_unknown_fields=True):
    """Nobody else of the group gets the deployment, ever."""

    deployment: str
    reason: str = ""


class UpdateDeploymentRetried(msgspec.Struct, frozen=True, tag="UpdateDeploymentRetried", forbid_unknown_fields=True):
    """Those of the group who failed are to try again."""

    deployment: str


class UpdateDeploymentDeleted(msgspec.Struct, frozen=True, tag="UpdateDeploymentDeleted", forbid_unknown_fields=True):
    """The deployment is forgotten, and gone from its devices."""

    deployment: str


GroupEvent = (
    GroupDefined
    | GroupRemoved
    | UpdateDeployed
    | UpdateDeploymentCanceled
    | UpdateDeploymentRetried
    | UpdateDeploymentDeleted
)
