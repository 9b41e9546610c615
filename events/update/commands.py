"""The commands on updates and groups."""

from typing import Any

import msgspec
from typing_extensions import override

from events.manifest.document import in_modern_form
from events.rollout.events import Devices
from events.rollout.plan import RolloutPlan
from events.update.events import RollbackPolicy
from events.update.names import UpdateId

# Above the priorities that operators type by hand, and below half of the maximum of 2**31 - 1, so that both sides have room.
PRIORITY_DEFAULT = 1_000_000_000
"""The priority of a group's deployments where the group defines none."""


class ImportUpdate(msgspec.Struct, frozen=True):
    """Import an update: a manifest or a layer, for the devices that at least one of `compatibility` fits."""

    update: UpdateId
    content: dict[str, Any]
    compatibility: tuple[dict[str, str], ...] = ()
    description: str = ""
    friendly_name: str = ""

    def __post_init__(self) -> None:
        """Read the content as `CreateDeployment` does."""
        msgspec.structs.force_setattr(self, "content", in_modern_form(self.content))

    @override
    def __repr__(self) -> str:
        """The command without its content."""
        # The content holds plain-text secrets until they are moved into the secret store; a log line must not print them.
        return f"ImportUpdate(update={self.update!r})"


class DeleteUpdate(msgspec.Struct, frozen=True):
    """Delete an update; rejected while an active deployment uses it or would roll back to it."""

    update: UpdateId


class DefineGroup(msgspec.Struct, frozen=True):
    """Define a group by a target condition, or by the group tag if it is empty; rejected while a deployment is active."""

    group: str
    condition: str = ""
    priority: int = PRIORITY_DEFAULT


class RemoveGroup(msgspec.Struct, frozen=True):
    """Delete a group and its deployments; rejected while a deployment is active."""

    group: str


class DeployUpdate(msgspec.Struct, frozen=True):
    """Deploy an update to a group, at once or from `start_at` until `end_at` (milliseconds), when it is canceled.

    `plan` rolls it out in phases; a policy replaces the plan's failure thresholds and rollback. `keepers` are the devices that run
    the group's previous update, by deployment: they keep it until the new update reaches them.
    """

    group: str
    deployment: str
    update: UpdateId
    start_at: int = 0
    policy: RollbackPolicy | None = None
    plan: RolloutPlan | None = None
    keepers: dict[str, Devices] = {}
    end_at: int = 0


class CancelUpdateDeployment(msgspec.Struct, frozen=True):
    """Cancel a deployment finally. `keepers` are the devices that have it, by deployment: they keep it."""

    group: str
    deployment: str
    reason: str = ""
    keepers: dict[str, Devices] = {}


class RetryUpdateDeployment(msgspec.Struct, frozen=True):
    """Retry the devices that failed."""

    group: str
    deployment: str


class DeleteUpdateDeployment(msgspec.Struct, frozen=True):
    """Delete a deployment that is not active; its devices fall back to the other deployments that target them."""

    group: str
    deployment: str


OfUpdate = ImportUpdate | DeleteUpdate
OfGroup = (
    DefineGroup | RemoveGroup | DeployUpdate | CancelUpdateDeployment | RetryUpdateDeployment | DeleteUpdateDeployment
)
UpdateCommand = OfUpdate | OfGroup
