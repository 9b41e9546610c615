"""What readers make of the stored form: a device's assignment, and the status sets of deployments with their counts."""

import enum
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
from pyroaring import BitMap

from events.bitmaps import from_bytes
from events.envelope import Vector
from events.fleet.assignments import NO_ASSIGNMENT, PINNED, UNASSIGNED, Assignment, AssignmentStatus, Layer
from events.fleet.packed import PAGE_ITEMS
from events.manifest.document import DEVICE
from events.stored_projection.stored_partition import DeploymentRank, StoredPartition, target_field

STATUS_HASHES = ("deployments", "assignments", "sets", "targets", "undelivered")
STATUS_ARRAYS = ("assignment_of",)
STATUSES = ("target", "actual", "reportedSuccessful", "reportedFailed", "healthy", "unhealthy", "unknown", "pending")


class DeviceAssignment(msgspec.Struct, frozen=True):
    """What one device runs as of a vector, and since which assignment change (0: it never had anything).

    `hand_written` and `delivered` are as in `StoredDevice`.
    """

    device_id: str
    ordinal: int
    vector: Vector
    assignment: Assignment
    assignment_change: int
    hand_written: int = 0
    delivered: int = 0


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
"""Why a device that is targeted and admitted has nothing of a deployment, though none like it wins."""


class NotApplied(msgspec.Struct, frozen=True):
    """A deployment that targets a device in vain, and what stands in its way (`by`, where it is a deployment)."""

    deployment_id: str
    why: Why
    by: str = ""

    @property
    def text(self) -> str:
        """Why, and by which deployment."""
        return f"{self.why.value}: {self.by}" if self.by else self.why.value


class StatusSets(msgspec.Struct, frozen=True):
    """The status sets of one deployment in one partition (DESIGN §3), of devices; each count is the size of a set.

    Nobody reports success or failure of what configurations of own twins and of modules give: a device is healthy with these
    once it has what they give.
    """

    target: BitMap
    actual: BitMap
    succeeded: BitMap
    failed: BitMap
    healthy: BitMap
    unhealthy: BitMap
    unknown: BitMap
    pending: BitMap

    def named(self) -> dict[str, BitMap]:
        """The sets by the names people see."""
        sets = (
            self.target,
            self.actual,
            self.succeeded,
            self.failed,
            self.healthy,
            self.unhealthy,
            self.unknown,
            self.pending,
        )
        return dict(zip(STATUSES, sets, strict=True))


class PartitionReading:
    """Status sets from what is kept of one partition; `kept` holds STATUS_HASHES and STATUS_ARRAYS."""

    def __init__(self, stored: StoredPartition) -> None:
        self.vector = stored.checkpoint.vector
        self._kept = stored
        self._sets = {name: from_bytes(data) for name, data in stored.hashes["sets"].items()}
        self._targets = {layer.id: (layer, sets) for layer, sets in targets_of(stored).items()}
        self._by_layer = ranks_of(stored)
        self._locations = {layer.id: rank for layer, rank in self._by_layer.items()}
        self._assignment_of = assignment_numbers(stored)
        self._assignments = assignments_of(stored)

    def deployments(self) -> list[str]:
        """Ids of the deployments that stand at this vector."""
        return sorted(self._targets)

    def set(self, name: str) -> BitMap:
        """One of the partition-wide sets: live, edge, enabled, acknowledged and so on."""
        return self._sets.get(name, BitMap())

    def status(self, deployment_id: str) -> StatusSets:
        """The status sets of a deployment; empty where it is not known at this vector."""
        by_module = list(self.by_module(deployment_id))
        target = BitMap().union(*(members for members, _ in by_module))
        actual = BitMap().union(*(members for _, members in by_module))
        if self._is_own(deployment_id):
            pending, none = actual & self._lacking(deployment_id), BitMap()
            return StatusSets(target, actual, none, none, actual - pending, none, pending, pending)
        healthy, unhealthy = actual & self.set("healthy"), actual & self.set("unhealthy")
        return StatusSets(
            target=target,
            actual=actual,
            succeeded=actual & self.set("succeeded"),
            failed=actual & self.set("failed"),
            healthy=healthy,
            unhealthy=unhealthy,
            unknown=actual - healthy - unhealthy,
            pending=actual - unhealthy - self.set("acknowledged"),
        )

    def targeted(self, deployment_id: str) -> BitMap:
        """Whom the condition of a deployment is true for, though it may not have started or may have ended."""
        return BitMap().union(*self._targeted(deployment_id)[1].values())

    def targeted_assignments(self, deployment_id: str) -> Collection[BitMap]:
        """As `targeted`, by the module that it may be for; once for what is for devices."""
        return self._targeted(deployment_id)[1].values()

    def over_limit(self, deployment_id: str) -> BitMap:
        """Whom a deployment is over a limit for."""
        layer = self._targeted(deployment_id)[0]
        return self._in_assignments(
            lambda assignment: assignment.status is AssignmentStatus.OVER_LIMIT and layer in assignment.wanted
        )

    def not_applied(self, deployment_id: str) -> dict[Why, BitMap]:
        """The devices for which one of NOT_APPLIED stands in the way of a deployment, targeted or not, by that."""
        layer = self._targeted(deployment_id)[0]
        rank = self._locations.get(deployment_id)
        if rank is None or rank.own:
            return {}
        numbers: dict[Why, list[int]] = {}
        # The assignment of devices that never had a configuration is not kept.
        for number, assignment in {UNASSIGNED: NO_ASSIGNMENT, **self._assignments}.items():
            if not rank.layered and assignment.status not in PINNED:
                continue  # Of two bases one outranks the other; of a large fleet, this saves most of the work.
            passed = in_the_way(layer, assignment, self._by_layer)
            if passed is not None and passed.why in NOT_APPLIED:
                numbers.setdefault(passed.why, []).append(number)
        return {why: self._of_assignments(members) for why, members in numbers.items()}

    def is_open_to_all(self, deployment_id: str) -> bool:
        """Whether a deployment admits every device that it targets."""
        rank = self._locations.get(deployment_id)
        return rank is not None and rank.admission == "Everyone"

    def already(self, deployment_id: str) -> BitMap:
        """Who ran what a deployment gives before they were admitted; the `already` hash must be there."""
        layer = self._targeted(deployment_id)[0]
        data = self._kept.hashes["already"].get(target_field(layer.created, layer.id))
        return BitMap() if data is None else from_bytes(data)

    def settled(self, deployment_id: str) -> BitMap:
        """The devices that have what they are given now, well: of what concerns the twins that a deployment is for."""
        if self._is_own(deployment_id):
            return self.set("live") - self._lacking(deployment_id)
        return self.set("healthy") - self.with_status(AssignmentStatus.UNMANAGED)

    def unsettled(self, deployment_id: str) -> BitMap:
        """As `settled`, those that have it and are not well."""
        return (
            BitMap()
            if self._is_own(deployment_id)
            else self.set("unhealthy") - self.with_status(AssignmentStatus.UNMANAGED)
        )

    def stranded(self, deployment_id: str) -> BitMap:
        """The devices that nothing manages, where what a deployment gives is not laid over what others give."""
        return BitMap() if self._is_own(deployment_id) else self.with_status(AssignmentStatus.UNMANAGED)

    def _is_own(self, deployment_id: str) -> bool:
        rank = self._locations.get(deployment_id)
        return rank is not None and rank.own

    def _lacking(self, deployment_id: str) -> BitMap:
        """Whoever does not have yet what configurations give one of the twins that a deployment is for."""
        undelivered = self._kept.hashes["undelivered"]
        modules = self._targeted(deployment_id)[1]
        fields = (undelivered.get(module or DEVICE) for module in modules)
        return BitMap().union(*(from_bytes(data) for data in fields if data is not None))

    def _targeted(self, deployment_id: str) -> tuple[Layer, Mapping[str, BitMap]]:
        return self._targets.get(deployment_id, (Layer(deployment_id, 0), {}))

    def _in_assignments(self, holds: Callable[[Assignment], bool]) -> BitMap:
        return self._of_assignments([number for number, assignment in self._assignments.items() if holds(assignment)])

    def _of_assignments(self, numbers: list[int]) -> BitMap:
        return BitMap(np.flatnonzero(np.isin(self._assignment_of, numbers)).astype(np.uint32)) if numbers else BitMap()

    def by_module(self, deployment_id: str) -> Iterator[tuple[BitMap, BitMap]]:
        """For each module, whom a deployment targets, and whom it is part of what they have; once for what is for devices."""
        rank = self._locations.get(deployment_id)
        if rank is None or not rank.is_open:
            # Before its start and after its end a deployment targets nobody.
            return
        layer, sets = self._targets[deployment_id]
        for module, target in sets.items():
            numbers = [number for number, assignment in self._assignments.items() if assignment.has(layer, module)]
            yield target, target & BitMap(np.flatnonzero(np.isin(self._assignment_of, numbers)).astype(np.uint32))

    def with_status(self, status: AssignmentStatus) -> BitMap:
        """Live devices of a standing; unmanaged ones that never had a configuration are not among them."""
        numbers = [
            number
            for number, assignment in self._assignments.items()
            if assignment.status is status and assignment.was_assigned
        ]
        return self.set("live") & BitMap(np.flatnonzero(np.isin(self._assignment_of, numbers)).astype(np.uint32))


def assignments_of(stored: StoredPartition) -> dict[int, Assignment]:
    """The assignments by number, without that of devices which never had anything; `stored` holds `assignments`."""
    return {
        int(number): msgspec.json.decode(data, type=Assignment) for number, data in stored.hashes["assignments"].items()
    }


def assignment_numbers(stored: StoredPartition) -> Any:
    """The number of the assignment of each device, by ordinal; `stored` holds `assignment_of`."""
    return np.frombuffer(stored.arrays["assignment_of"], dtype=np.uint32)


def in_assignments(numbers: Collection[int], stored: StoredPartition) -> BitMap:
    """The ordinals of the devices whose assignment has one of some numbers; `stored` holds `assignment_of`."""
    return BitMap(np.flatnonzero(np.isin(assignment_numbers(stored), list(numbers))).astype(np.uint32))


def pages_of(ordinals: BitMap) -> tuple[str, ...]:
    """The `ids` fields that name some ordinals."""
    return tuple(str(page) for page in sorted({ordinal // PAGE_ITEMS for ordinal in ordinals}))


def ids_of(ordinals: BitMap, stored: StoredPartition) -> Iterator[str]:
    """The device ids of some ordinals, in the order of ordinals; `stored` holds their `ids` pages."""
    page, names = -1, []
    for ordinal in ordinals:
        if ordinal // PAGE_ITEMS != page:
            page = ordinal // PAGE_ITEMS
            names = msgspec.json.decode(stored.hashes["ids"][str(page)], type=list[str])
        yield names[ordinal % PAGE_ITEMS]


def having(layer: Layer, stored: StoredPartition, *, module_id: str = "") -> BitMap:
    """The ordinals whose assignment has a deployment in its stack, or in that of a module, targeted or not.

    `stored` holds `assignments` and `assignment_of`.
    """
    return _in_assignments(lambda assignment: assignment.has(layer, module_id), stored)


def configured(digests: Collection[str], stored: StoredPartition) -> BitMap:
    """The ordinals of live devices that have one of these configurations, in whichever of their twins.

    `stored` holds `assignments`, `sets` and `assignment_of`.
    """
    digest_set = frozenset(digests)
    live = from_bytes(stored.hashes["sets"]["live"]) if "live" in stored.hashes["sets"] else BitMap()
    return live & _in_assignments(lambda assignment: not digest_set.isdisjoint(assignment.configurations), stored)


def _in_assignments(holds: Callable[[Assignment], bool], stored: StoredPartition) -> BitMap:
    return in_assignments(
        [number for number, assignment in assignments_of(stored).items() if holds(assignment)], stored
    )


NOT_APPLIED_HASHES = ("deployments", "targets")


def deployment_of(field: str) -> Layer:
    """The deployment of a field of `deployments` or `targets`; one of `targets` may have a module behind it."""
    created, _, name = field.partition(":")
    return Layer(name.partition("/")[0], int(created))


def ranks_of(stored: StoredPartition) -> dict[Layer, DeploymentRank]:
    """Where each deployment stands; `stored` holds the `deployments` hash."""
    return {
        deployment_of(field): msgspec.json.decode(data, type=DeploymentRank)
        for field, data in stored.hashes["deployments"].items()
    }


def targets_of(stored: StoredPartition) -> dict[Layer, dict[str, BitMap]]:
    """Whom each deployment targets, by module; of what is for devices, under no name. `stored` holds NOT_APPLIED_HASHES."""
    ranks = ranks_of(stored)
    targets: dict[Layer, dict[str, BitMap]] = {layer: {} for layer in ranks}
    for field, data in stored.hashes["targets"].items():
        layer = deployment_of(field)
        module = field.partition("/")[2] or ranks[layer].module
        targets[layer][module] = from_bytes(data)
    return targets


class Targeting:
    """Which deployments target a device in a partition; `kept` holds the `deployments` and `targets` hashes."""

    def __init__(self, stored: StoredPartition) -> None:
        self.checkpoint = stored.checkpoint
        self._targets: list[tuple[Layer, BitMap]] = []
        self._own: list[tuple[Layer, BitMap]] = []
        self._of_modules: dict[str, list[tuple[Layer, BitMap]]] = {}
        ranks = ranks_of(stored)
        for layer, sets in targets_of(stored).items():
            rank = ranks[layer]
            if not rank.is_open:
                continue
            for module, members in sets.items():
                chosen = self._own if rank.own else self._targets
                if module:
                    chosen = self._of_modules.setdefault(module, [])
                chosen.append((layer, members))

    def names(self) -> list[str]:
        """The deployments that are open to whom they target."""
        of_modules = itertools.chain(*self._of_modules.values())
        return [layer.id for layer, _ in (*self._targets, *self._own, *of_modules)]

    def status(self, deployment_id: str, stored: StoredPartition) -> tuple[BitMap, BitMap]:
        """Whom a deployment is part of what they run, and whom it targets; `stored` holds `assignments` and `assignment_of`, too."""
        return _status(self._targets, deployment_id, stored)

    def own_status(self, deployment_id: str, stored: StoredPartition) -> tuple[BitMap, BitMap]:
        """As `status`, of a configuration of devices' own twins."""
        return _status(self._own, deployment_id, stored)

    def module_status(self, module_id: str, deployment_id: str, stored: StoredPartition) -> tuple[BitMap, BitMap]:
        """As `status`, of a configuration of one module."""
        return _status(self._of_modules.get(module_id, []), deployment_id, stored, module_id=module_id)

    def has_of_module(self, module_id: str) -> bool:
        """Whether any configuration is for a module."""
        return module_id in self._of_modules

    def own_members(self) -> BitMap:
        """Whom any configuration of devices' own twins targets."""
        return BitMap().union(*(members for _, members in self._own))

    def statuses(self, ordinal: int, assignment: Assignment) -> dict[str, bool]:
        """The deployments that target a device, and whether each is part of what it runs."""
        return {layer.id: assignment.has(layer) for layer, members in self._targets if ordinal in members}

    def own_statuses(self, ordinal: int, assignment: Assignment) -> dict[str, bool]:
        """As `statuses`, of the configurations of its own twin."""
        return {layer.id: assignment.has(layer) for layer, members in self._own if ordinal in members}

    def module_standings(self, module_id: str, ordinal: int, assignment: Assignment) -> dict[str, bool]:
        """As `statuses`, of the configurations of one of its modules."""
        chosen = self._of_modules.get(module_id, [])
        return {layer.id: assignment.has(layer, module_id) for layer, members in chosen if ordinal in members}


def _status(
    targets: list[tuple[Layer, BitMap]], deployment_id: str, stored: StoredPartition, *, module_id: str = ""
) -> tuple[BitMap, BitMap]:
    for layer, members in targets:
        if layer.id == deployment_id:
            return members & having(layer, stored, module_id=module_id), members
    return BitMap(), BitMap()


def not_applied(ordinal: int, assignment: Assignment, stored: StoredPartition) -> tuple[NotApplied, ...]:
    """The deployments that target a device and do not apply, by id, each with its reason (contract/hub.md §3.3).

    `stored` holds the `deployments` and `targets` hashes. Whom nothing outplaces was not admitted: there is no other way to
    be not applied.
    """
    ranks = ranks_of(stored)
    targeting = [
        (layer, module)
        for layer, sets in targets_of(stored).items()
        for module, members in sets.items()
        if ordinal in members
    ]
    reasons: list[NotApplied] = []
    for layer, module in sorted(targeting):
        passed = in_the_way(layer, assignment, ranks, module)
        if passed is not None and passed not in reasons:
            reasons.append(passed)
    return tuple(reasons)


def in_the_way(
    layer: Layer, assignment: Assignment, ranks: Mapping[Layer, DeploymentRank], module: str = ""
) -> NotApplied | None:
    """What stands in the way of a deployment that targets a device with this assignment, or one of its modules; `None` where it applies.

    Of one that does not target it: what would, if it did; NOT_ADMITTED where nothing else is known.
    """
    if ranks[layer].own:
        return _passed_own(layer, assignment, ranks[layer], module)
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


def _passed_own(layer: Layer, assignment: Assignment, rank: DeploymentRank, module: str) -> NotApplied | None:
    """Every configuration that targets one twin of a device applies, unless it is not admitted or all do not fit."""
    own = assignment.module_part(module) if module else assignment.own_part
    if layer in (own.wanted or own.stack):
        return NotApplied(layer.id, Why.OVER_LIMIT) if own.wanted else None
    return NotApplied(layer.id, _shut_out(rank))


def _shut_out(rank: DeploymentRank) -> Why:
    if rank.is_open:
        return Why.NOT_ADMITTED
    return Why.NOT_STARTED if rank.admission == "NotStarted" else Why.ENDED


def _not_applied(layer: Layer, stack: tuple[Layer, ...], ranks: Mapping[Layer, DeploymentRank]) -> NotApplied:
    rank = ranks[layer]
    if not rank.is_open:
        return NotApplied(layer.id, _shut_out(rank))
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
    return NotApplied(layer.id, Why.NOT_ADMITTED)
