"""Why a deployment that targets a device does not apply to it, from the stored ranks and targets of a partition."""

import enum
from collections.abc import Mapping

import msgspec
from pyroaring import BitMap

from events.bitmaps import as_stored
from events.fleet.assignments import PINNED, Assignment, AssignmentStatus, Layer
from events.stored_projection.stored_partition import DeploymentRank, StoredPartition

NOT_APPLIED_HASHES = ("deployments", "targets")
"""The hashes that say which deployments target a device, and which of these do not apply."""


class Why(enum.Enum):
    """Why a deployment that targets a device is not part of what the device runs."""

    BASE_OUTRANKED = "another base wins"
    LAYER_NOT_ABOVE_BASE = "the layer's priority is not above the base's"
    NEWER_LAYER = "a newer layer has the same priority"
    NO_BASE = "no base targets the device"
    NOT_STARTED = "the deployment has not started"
    ENDED = "the deployment has ended"
    NOT_ADMITTED = "the device is not among those admitted so far"
    OVER_LIMIT = "what it would merge to is over a limit"
    BY_HAND = "a configuration was set on the device by hand"
    RESTORED = "a rollback brought the device back to what it had before"


NOT_APPLIED = (Why.NO_BASE, Why.LAYER_NOT_ABOVE_BASE, Why.BY_HAND, Why.RESTORED)
"""The reasons for which a targeted and admitted device has no part of a deployment although no other deployment outranks it."""


class NotApplied(msgspec.Struct, frozen=True):
    """A deployment that targets a device and does not apply, with the reason, and the other deployment (`by`) if that is the cause."""

    deployment_id: str
    why: Why
    by: str = ""

    @property
    def text(self) -> str:
        """The reason, with the deployment that causes it."""
        return f"{self.why.value}: {self.by}" if self.by else self.why.value


def deployment_of(field: str) -> Layer:
    """The deployment of a field of `deployments` or `targets`: `17:prod`, or `17:prod/module` in `targets`."""
    created, _, name = field.partition(":")
    return Layer(name.partition("/")[0], int(created))


def ranks_of(stored: StoredPartition) -> dict[Layer, DeploymentRank]:
    """The rank of each deployment; `stored` holds the `deployments` hash."""
    ranks = stored.hashes["deployments"].items()
    return {deployment_of(field): msgspec.json.decode(data, type=DeploymentRank) for field, data in ranks}


def targets_of(stored: StoredPartition) -> dict[Layer, dict[str, BitMap]]:
    """The devices that each deployment targets, by module (empty for devices themselves); `stored` holds NOT_APPLIED_HASHES."""
    ranks = ranks_of(stored)
    targets: dict[Layer, dict[str, BitMap]] = {layer: {} for layer in ranks}
    for field, data in stored.hashes["targets"].items():
        layer = deployment_of(field)
        module = field.partition("/")[2] or ranks[layer].module
        targets[layer][module] = as_stored(data)
    return targets


def in_the_way(
    layer: Layer, assignment: Assignment, ranks: Mapping[Layer, DeploymentRank], module: str = ""
) -> NotApplied | None:
    """Why a deployment does not apply to a device with this assignment, or to one of its modules; `None` if it applies.

    For a deployment that does not target the device: the reason that would hold if it did.
    """
    if ranks[layer].own:
        # All configurations of one twin apply together (docs/decisions/0019), so none outranks another.
        own = assignment.module_part(module) if module else assignment.own_part
        if layer in (own.wanted or own.stack):
            return NotApplied(layer.id, Why.OVER_LIMIT) if own.wanted else None
        return NotApplied(layer.id, _admission_reason(ranks[layer]))
    # `wanted` is the stack that targeting gives; the device keeps an older `stack` while the merge is over a limit or pinned.
    stack = assignment.wanted if assignment.status in {AssignmentStatus.OVER_LIMIT, *PINNED} else assignment.stack
    if assignment.status is AssignmentStatus.UNMANAGED:
        stack = ()
    if layer not in stack:
        return _not_applied(layer, stack, ranks)
    if assignment.status is AssignmentStatus.OVER_LIMIT:
        return NotApplied(layer.id, Why.OVER_LIMIT)
    if assignment.status in PINNED:
        return NotApplied(layer.id, Why.BY_HAND if assignment.status is AssignmentStatus.BY_HAND else Why.RESTORED)
    return None


def _admission_reason(rank: DeploymentRank) -> Why:
    if rank.is_open:
        return Why.NOT_ADMITTED
    return Why.NOT_STARTED if rank.admission == "NotStarted" else Why.ENDED


def _not_applied(layer: Layer, stack: tuple[Layer, ...], ranks: Mapping[Layer, DeploymentRank]) -> NotApplied:
    rank = ranks[layer]
    if not rank.is_open:
        return NotApplied(layer.id, _admission_reason(rank))
    if not stack:
        return NotApplied(layer.id, Why.NO_BASE if rank.layered else Why.NOT_ADMITTED)
    base, *layers = stack
    if not rank.layered:
        above = (ranks[base].priority, base.created) > (rank.priority, layer.created)
        return NotApplied(layer.id, Why.BASE_OUTRANKED, base.id) if above else NotApplied(layer.id, Why.NOT_ADMITTED)
    if rank.priority <= ranks[base].priority:
        return NotApplied(layer.id, Why.LAYER_NOT_ABOVE_BASE, base.id)
    for other in layers:
        if ranks[other].priority == rank.priority and other.created > layer.created:
            return NotApplied(layer.id, Why.NEWER_LAYER, other.id)
    # No deployment outranks it, and every other reason was ruled out above.
    return NotApplied(layer.id, Why.NOT_ADMITTED)
