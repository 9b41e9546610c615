"""Reads of the stored form: a device's assignment, and the status sets of deployments."""

from collections import defaultdict
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
from events.stored_projection.not_applied import NOT_APPLIED, Why, in_the_way, ranks_of, targets_of
from events.stored_projection.stored_partition import StoredPartition, target_field

# Readers name the hashes and arrays that they need: a partition of a large fleet has megabytes of others.
STATUS_HASHES = ("deployments", "assignments", "sets", "targets", "undelivered")
STATUS_ARRAYS = ("assignment_of",)
STATUSES = ("target", "actual", "reportedSuccessful", "reportedFailed", "healthy", "unhealthy", "unknown", "pending")


class DeviceAssignment(msgspec.Struct, frozen=True):
    """The assignment of a device at a vector, and the number of the assignment change that gave it (0: it never had one).

    `hand_written` and `delivered` are as in `StoredDevice`.
    """

    device_id: str
    ordinal: int
    vector: Vector
    assignment: Assignment
    assignment_change: int
    hand_written: int = 0
    delivered: int = 0


class StatusSets(msgspec.Struct, frozen=True):
    """The status sets of one deployment in one partition (DESIGN §3), as ordinals; each count is the size of a set.

    Devices do not report success or failure for configurations of own twins and of modules: a device is healthy with such a
    configuration once it has received it.
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
        """The sets by their public names."""
        return dict(zip(STATUSES, msgspec.structs.astuple(self), strict=True))


class PartitionReading:
    """The status sets of one partition; `stored` holds STATUS_HASHES and STATUS_ARRAYS."""

    def __init__(self, stored: StoredPartition) -> None:
        self.vector = stored.checkpoint.vector
        self._stored = stored
        self._sets = {name: from_bytes(data) for name, data in stored.hashes["sets"].items()}
        self._targets = {layer.id: (layer, sets) for layer, sets in targets_of(stored).items()}
        self._by_layer = ranks_of(stored)
        self._rank_by_id = {layer.id: rank for layer, rank in self._by_layer.items()}
        self._assignment_of = assignment_numbers(stored)
        self._assignments = assignments_of(stored)

    def deployments(self) -> list[str]:
        """The ids of the deployments that exist at this vector, sorted."""
        return sorted(self._targets)

    def set(self, name: str) -> BitMap:
        """One of the partition-wide sets: live, edge, enabled, acknowledged and so on."""
        return self._sets.get(name, BitMap())

    def status(self, deployment_id: str) -> StatusSets:
        """The status sets of a deployment; empty if it does not exist at this vector."""
        by_module = list(self.by_module(deployment_id))
        target = BitMap().union(*(members for members, _ in by_module))
        actual = BitMap().union(*(members for _, members in by_module))
        # Devices acknowledge these by a delivery alone, so `undelivered` decides (docs/decisions/0032).
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
        """The devices that a deployment's condition is true for, even before its start and after its end."""
        return BitMap().union(*self._targeted(deployment_id)[1].values())

    def targeted_assignments(self, deployment_id: str) -> Collection[BitMap]:
        """As `targeted`, one set for each module; a deployment to devices has one set."""
        return self._targeted(deployment_id)[1].values()

    def over_limit(self, deployment_id: str) -> BitMap:
        """The devices for which a deployment's merge is over a limit."""
        layer = self._targeted(deployment_id)[0]
        return self._in_assignments(
            lambda assignment: assignment.status is AssignmentStatus.OVER_LIMIT and layer in assignment.wanted
        )

    def not_applied(self, deployment_id: str) -> dict[Why, BitMap]:
        """The devices to which a deployment does not apply for one of the reasons NOT_APPLIED, by reason, targeted or not."""
        layer = self._targeted(deployment_id)[0]
        rank = self._rank_by_id.get(deployment_id)
        if rank is None or rank.own:
            return {}
        numbers: dict[Why, list[int]] = {}
        # The assignment of devices that never had a configuration is not kept.
        for number, assignment in {UNASSIGNED: NO_ASSIGNMENT, **self._assignments}.items():
            if not rank.layered and assignment.status not in PINNED:
                continue  # Of two bases one outranks the other, so no reason fits; in a large fleet this saves most of the work.
            obstacle = in_the_way(layer, assignment, self._by_layer)
            if obstacle is not None and obstacle.why in NOT_APPLIED:
                numbers.setdefault(obstacle.why, []).append(number)
        return {why: self._of_numbers(members) for why, members in numbers.items()}

    def is_open_to_all(self, deployment_id: str) -> bool:
        """Whether a deployment admits every device that it targets."""
        rank = self._rank_by_id.get(deployment_id)
        return rank is not None and rank.admission == "Everyone"

    def already(self, deployment_id: str) -> BitMap:
        """The devices that ran the same configuration before they were admitted; `stored` also holds `already`."""
        layer = self._targeted(deployment_id)[0]
        data = self._stored.hashes["already"].get(target_field(layer.created, layer.id))
        return BitMap() if data is None else from_bytes(data)

    def settled(self, deployment_id: str) -> BitMap:
        """The devices that are healthy with their current configuration of the twins that a deployment is for."""
        if self._is_own(deployment_id):
            return self.set("live") - self._lacking(deployment_id)
        return self.set("healthy") - self.with_status(AssignmentStatus.UNMANAGED)

    def unsettled(self, deployment_id: str) -> BitMap:
        """As `settled`, the devices that are unhealthy; none for configurations of single twins, which devices do not judge."""
        if self._is_own(deployment_id):
            return BitMap()
        return self.set("unhealthy") - self.with_status(AssignmentStatus.UNMANAGED)

    def stranded(self, deployment_id: str) -> BitMap:
        """The devices that no deployment manages; none for configurations of single twins, which need no base."""
        return BitMap() if self._is_own(deployment_id) else self.with_status(AssignmentStatus.UNMANAGED)

    def _is_own(self, deployment_id: str) -> bool:
        rank = self._rank_by_id.get(deployment_id)
        return rank is not None and rank.own

    def _lacking(self, deployment_id: str) -> BitMap:
        """The devices that have not received the configuration of a twin that a deployment is for."""
        undelivered = self._stored.hashes["undelivered"]
        modules = self._targeted(deployment_id)[1]
        fields = (undelivered.get(module or DEVICE) for module in modules)
        return BitMap().union(*(from_bytes(data) for data in fields if data is not None))

    def _targeted(self, deployment_id: str) -> tuple[Layer, Mapping[str, BitMap]]:
        return self._targets.get(deployment_id, (Layer(deployment_id, 0), {}))

    def _in_assignments(self, holds: Callable[[Assignment], bool]) -> BitMap:
        return self._of_numbers([number for number, assignment in self._assignments.items() if holds(assignment)])

    def _of_numbers(self, numbers: list[int]) -> BitMap:
        return _with_numbers(self._assignment_of, numbers)

    def by_module(self, deployment_id: str) -> Iterator[tuple[BitMap, BitMap]]:
        """For each module, the devices that a deployment targets, and those of them that run it; one pair for devices."""
        rank = self._rank_by_id.get(deployment_id)
        if rank is None or not rank.is_open:
            # `targets` keeps the devices of the condition before the start and after the end, for `not_applied`.
            return
        layer, sets = self._targets[deployment_id]
        for module, target in sets.items():
            numbers = [number for number, assignment in self._assignments.items() if assignment.has(layer, module)]
            yield target, target & self._of_numbers(numbers)

    def with_status(self, status: AssignmentStatus) -> BitMap:
        """The live devices with an assignment status, without the devices that never had a configuration."""
        return self.set("live") & self._in_assignments(
            lambda assignment: assignment.status is status and assignment.was_assigned
        )


def assignments_of(stored: StoredPartition) -> dict[int, Assignment]:
    """The assignments by number, without UNASSIGNED; `stored` holds `assignments`."""
    return {
        int(number): msgspec.json.decode(data, type=Assignment) for number, data in stored.hashes["assignments"].items()
    }


def assignment_numbers(stored: StoredPartition) -> Any:
    """The number of the assignment of each device, by ordinal; `stored` holds `assignment_of`."""
    return np.frombuffer(stored.arrays["assignment_of"], dtype=np.uint32)


def in_assignments(numbers: Collection[int], stored: StoredPartition) -> BitMap:
    """The ordinals of the devices whose assignment has one of these numbers; `stored` holds `assignment_of`."""
    return _with_numbers(assignment_numbers(stored), list(numbers))


def _with_numbers(assignment_of: Any, numbers: list[int]) -> BitMap:
    # Most questions match no assignment: the scan of all devices is skipped then.
    return BitMap(np.flatnonzero(np.isin(assignment_of, numbers)).astype(np.uint32)) if numbers else BitMap()


def pages_of(ordinals: BitMap) -> tuple[str, ...]:
    """The `ids` fields that hold the device ids of ordinals."""
    return tuple(str(page) for page in sorted({ordinal // PAGE_ITEMS for ordinal in ordinals}))


def ids_of(ordinals: BitMap, stored: StoredPartition) -> Iterator[str]:
    """The device ids of ordinals, in the order of ordinals; `stored` holds their `ids` pages."""
    page, names = -1, []
    for ordinal in ordinals:
        if ordinal // PAGE_ITEMS != page:
            page = ordinal // PAGE_ITEMS
            names = msgspec.json.decode(stored.hashes["ids"][str(page)], type=list[str])
        yield names[ordinal % PAGE_ITEMS]


def having(layer: Layer, stored: StoredPartition, *, module_id: str = "") -> BitMap:
    """The ordinals whose assignment has a deployment in its stack, or in a module's stack, targeted or not.

    `stored` holds `assignments` and `assignment_of`.
    """
    return _in_assignments(lambda assignment: assignment.has(layer, module_id), stored)


def configured(digests: Collection[str], stored: StoredPartition) -> BitMap:
    """The ordinals of the live devices that have one of these configurations in any of their twins.

    `stored` holds `assignments`, `sets` and `assignment_of`.
    """
    digest_set = frozenset(digests)
    live = from_bytes(stored.hashes["sets"]["live"]) if "live" in stored.hashes["sets"] else BitMap()
    return live & _in_assignments(lambda assignment: not digest_set.isdisjoint(assignment.configurations), stored)


def _in_assignments(holds: Callable[[Assignment], bool], stored: StoredPartition) -> BitMap:
    return in_assignments(
        [number for number, assignment in assignments_of(stored).items() if holds(assignment)], stored
    )


class Targeting:
    """Which deployments target a device of a partition; `stored` holds NOT_APPLIED_HASHES.

    A `twin` is empty for edge deployments, `DEVICE` for configurations of devices' own twins, and else the id of a module.
    """

    def __init__(self, stored: StoredPartition) -> None:
        self.checkpoint = stored.checkpoint
        self._by_twin: dict[str, list[tuple[Layer, BitMap]]] = defaultdict(list)
        ranks = ranks_of(stored)
        for layer, sets in targets_of(stored).items():
            if not ranks[layer].is_open:
                continue
            for module, members in sets.items():
                twin = module or (DEVICE if ranks[layer].own else "")
                self._by_twin[twin].append((layer, members))

    def names(self) -> list[str]:
        """The ids of the deployments that have started and not ended."""
        return [layer.id for targets in self._by_twin.values() for layer, _ in targets]

    def status(self, deployment_id: str, stored: StoredPartition, twin: str = "") -> tuple[BitMap, BitMap]:
        """The devices that run a deployment, and the devices that it targets.

        `stored` also holds `assignments` and `assignment_of`.
        """
        for layer, members in self._by_twin.get(twin, ()):
            if layer.id == deployment_id:
                return members & having(layer, stored, module_id=_module_of(twin)), members
        return BitMap(), BitMap()

    def has_of_module(self, module_id: str) -> bool:
        """Whether any configuration is for a module."""
        return module_id in self._by_twin

    def own_members(self) -> BitMap:
        """The devices that any configuration of devices' own twins targets."""
        return BitMap().union(*(members for _, members in self._by_twin.get(DEVICE, ())))

    def statuses(self, ordinal: int, assignment: Assignment, twin: str = "") -> dict[str, bool]:
        """The deployments that target a device, and whether each is part of what it runs."""
        targets, module_id = self._by_twin.get(twin, ()), _module_of(twin)
        return {layer.id: assignment.has(layer, module_id) for layer, members in targets if ordinal in members}


def _module_of(twin: str) -> str:
    return "" if twin == DEVICE else twin
