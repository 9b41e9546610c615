"""What can be asked of updates and groups."""

from typing import Any

import msgspec
from typing_extensions import override

from events.manifest.document import in_modern_form
from events.rollout.events import Devices
from events.rollout.plan import RolloutPlan
from events.update.events import RollbackPolicy
from events.update.names import UpdateId

PRIORITY_DEFAULT = 1_000_000_000
"""Of deployments that carry updates: above what people write by hand, with as much room above again."""


class ImportUpdate(msgspec.Struct, frozen=True):
    """Make an update known: a manifest or a layer, for the devices that one of `compatibility` fits.

    The content can hold secrets until they are taken out, so it does not show when the command is printed.
    """

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
        """Without the content."""
        return f"ImportUpdate(update={self.update!r})"


class DeleteUpdate(msgspec.Struct, frozen=True):
    """Take an update off the list; not while an active deployment uses it, or would go back to it."""

    update: UpdateId


class DefineGroup(msgspec.Struct, frozen=True):
    """Say who is in a group, by a target condition or (empty) by the tag; not while a deployment of it is active."""

    group: str
    condition: str = ""
    priority: int = PRIORITY_DEFAULT


class RemoveGroup(msgspec.Struct, frozen=True):
    """Forget a group and what was deployed to it; not while a deployment of it is active."""

    group: str


class DeployUpdate(msgspec.Struct, frozen=True):
    """Bring an update to a group, at once or from `start_at` (milliseconds) on, until `end_at`, when it is canceled.

    `plan` rolls it out in phases; its failure and rollback are those of the policy, where there is one. `keepers` are those who
    have what the group got until now, by the deployments that carry it: they keep it until the update reaches them.
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
    """Stop a deployment for good. `keepers` are those who have it, by the deployments that carry it: they keep it."""

    group: str
    deployment: str
    reason: str = ""
    keepers: dict[str, Devices] = {}


class RetryUpdateDeployment(msgspec.Struct, frozen=True):
    """Let the devices that failed try again."""

    group: str
    deployment: str


class DeleteUpdateDeployment(msgspec.Struct, frozen=True):
    """Forget a deployment that is not active; its devices fall back to what else targets them."""

    group: str
    deployment: str


OfUpdate = ImportUpdate | DeleteUpdate
OfGroup = (
    DefineGroup | RemoveGroup | DeployUpdate | CancelUpdateDeployment | RetryUpdateDeployment | DeleteUpdateDeployment
)
UpdateCommand = OfUpdate | OfGroup
