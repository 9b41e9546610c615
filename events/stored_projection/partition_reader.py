"""Reads of the stored form: a device's assignment, and the status sets of deployments."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from pyroaring import BitMap

from events.bitmaps import as_stored, from_bytes, members_where
from events.fleet.assignments import NO_ASSIGNMENT, PINNED, UNASSIGNED, Assignment, AssignmentStatus, Layer
from events.fleet.deployment_status import Applied, StatusSets
from events.fleet.packed import PAGE_ITEMS
from events.manifest.document import DEVICE
from events.stored_projection.not_applied import (
    NOT_APPLIED,
    NotApplied,
    Why,
    deployment_of,
    in_the_way,
    ranks_of,
    targets_of,
)
from events.stored_projection.stored_partition import DeploymentRank, StoredPartition, target_field

# Readers name the hashes and arrays that they need: a partition of a large fleet has megabytes of others.
DEPLOYMENT_HASHES = ("deployments", "targets", "applied", "undelivered")
STATUS_HASHES = (*DEPLOYMENT_HASHES, "assignments", "sets")
STATUS_ARRAYS = ("assignment_of",)


class StoredAssignments:
    """The assignments of a partition's devices; `stored` holds `assignments` and `assignment_of`."""

    def __init__(self, stored: StoredPartition) -> None:
        self.by_number = assignments_of(stored)
        """Without UNASSIGNED."""
        self.of_devices = assignment_numbers(stored)

    def of(self, ordinal: int) -> Assignment:
        """The assignment of a device."""
        number = int(self.of_devices[ordinal]) if ordinal < len(self.of_devices) else UNASSIGNED
        return self.by_number.get(number, NO_ASSIGNMENT)

    def among(self, ordinals: BitMap) -> Iterator[tuple[Assignment, BitMap]]:
        """The assignments of these devices, each with the devices that have it."""
        devices = np.array(ordinals, dtype=np.uint32)
        numbers = np.full(len(devices), UNASSIGNED, dtype=np.uint32)
        is_stored = devices < len(self.of_devices)
        numbers[is_stored] = self.of_devices[devices[is_stored]]
        # The assignment of devices that never had a configuration is not stored.
        for number in np.unique(numbers).tolist():
            yield self.by_number.get(number, NO_ASSIGNMENT), BitMap(devices[numbers == number])

    def where(self, holds: Callable[[Assignment], bool]) -> BitMap:
        """The devices with an assignment for which a condition holds."""
        numbers = [number for number, assignment in self.by_number.items() if holds(assignment)]
        # Most questions match no assignment: the scan of all devices is skipped then.
        return members_where(np.isin(self.of_devices, numbers)) if numbers else BitMap()


class PartitionReading:
    """The status sets of one partition.

    `stored` holds STATUS_HASHES and STATUS_ARRAYS. DEPLOYMENT_HASHES with `sets`, or the fields of single deployments of them, are
    enough for everything but `over_limit`, `not_applied`, `settled` and `with_status`, which read assignments.
    """

    def __init__(self, stored: StoredPartition) -> None:
        self.checkpoint, self.vector = stored.checkpoint, stored.checkpoint.vector
        self._stored = stored
        self._sets = {name: as_stored(data) for name, data in stored.hashes["sets"].items()}
        # Sets are decoded when they are read: of thousands of deployments, a caller reads a few.
        self._fields: dict[str, tuple[Layer, list[str]]] = {}
        for field in (*stored.hashes["deployments"], *stored.hashes["targets"]):
            layer = deployment_of(field)
            self._fields.setdefault(layer.id, (layer, []))
        for field in stored.hashes["targets"]:
            self._fields[deployment_of(field).id][1].append(field)

    @cached_property
    def _assignments(self) -> StoredAssignments:
        return StoredAssignments(self._stored)

    @cached_property
    def _by_layer(self) -> Mapping[Layer, DeploymentRank]:
        return ranks_of(self._stored)

    def deployments(self) -> list[str]:
        """The ids of the deployments that exist at this vector, sorted."""
        return sorted(self._fields)

    def set(self, name: str) -> BitMap:
        """One of the partition-wide sets: live, edge, enabled, acknowledged and so on."""
        return self._sets.get(name, BitMap())

    def status(self, deployment_id: str) -> StatusSets:
        """The status sets of a deployment; empty if it does not exist at this vector."""
        by_module = list(self.by_module(deployment_id))
        target = BitMap().union(*(members for members, _ in by_module))
        actual = BitMap().union(*(members for _, members in by_module))
        lacking = self._lacking(deployment_id) if self._is_own(deployment_id) else None
        return StatusSets.of(target, actual, self._sets, lacking)

    def targeted(self, deployment_id: str) -> BitMap:
        """The devices that a deployment's condition is true for, even before its start and after its end."""
        return BitMap().union(*self._targeted(deployment_id).values())

    def targeted_assignments(self, deployment_id: str) -> Collection[BitMap]:
        """As `targeted`, one set for each module; a deployment to devices has one set."""
        return self._targeted(deployment_id).values()

    def over_limit(self, deployment_id: str) -> BitMap:
        """The devices for which a deployment's merge is over a limit."""
        layer = self._layer(deployment_id)
        return self._assignments.where(
            lambda assignment: assignment.status is AssignmentStatus.OVER_LIMIT and layer in assignment.wanted
        )

    def not_applied(self, deployment_id: str, among: BitMap) -> dict[Why, BitMap]:
        """The devices among these to which a deployment does not apply for one of the reasons NOT_APPLIED, by reason."""
        layer = self._layer(deployment_id)
        rank = self._rank(deployment_id)
        if rank is None or rank.own:
            return {}
        devices_by_reason: dict[Why, BitMap] = {}
        for assignment, devices in self._assignments.among(among):
            if not rank.layered and assignment.status not in PINNED:
                continue  # Of two bases one outranks the other, so no reason fits; in a large fleet this saves most of the work.
            obstacle = in_the_way(layer, assignment, self._by_layer)
            if obstacle is not None and obstacle.why in NOT_APPLIED:
                devices_by_reason[obstacle.why] = devices_by_reason.get(obstacle.why, BitMap()) | devices
        return devices_by_reason

    def is_open_to_all(self, deployment_id: str) -> bool:
        """Whether a deployment admits every device that it targets."""
        rank = self._rank(deployment_id)
        return rank is not None and rank.admission == "Everyone"

    def already(self, deployment_id: str) -> BitMap:
        """The devices that ran the same configuration before they were admitted; `stored` also holds `already`."""
        layer = self._layer(deployment_id)
        data = self._stored.hashes["already"].get(target_field(layer.created, layer.id))
        return BitMap() if data is None else as_stored(data)

    def settled(self, deployment_id: str) -> tuple[BitMap, BitMap, BitMap]:
        """The devices that are healthy with their current configuration, that are unhealthy, and that no deployment manages.

        For configurations of single twins the last two are empty: devices do not judge them, and they need no base.
        """
        if self._is_own(deployment_id):
            return self.set("live") - self._lacking(deployment_id), BitMap(), BitMap()
        unmanaged = self.with_status(AssignmentStatus.UNMANAGED)
        return self.set("healthy") - unmanaged, self.set("unhealthy") - unmanaged, unmanaged

    def _is_own(self, deployment_id: str) -> bool:
        rank = self._rank(deployment_id)
        return rank is not None and rank.own

    def _lacking(self, deployment_id: str) -> BitMap:
        """The devices that have not received the configuration of a twin that a deployment is for."""
        undelivered = self._stored.hashes["undelivered"]
        modules = self._targeted(deployment_id)
        fields = (undelivered.get(module or DEVICE) for module in modules)
        return BitMap().union(*(as_stored(data) for data in fields if data is not None))

    def _layer(self, deployment_id: str) -> Layer:
        return self._fields.get(deployment_id, (Layer(deployment_id, 0), ()))[0]

    def _rank(self, deployment_id: str) -> DeploymentRank | None:
        layer = self._layer(deployment_id)
        data = self._stored.hashes["deployments"].get(target_field(layer.created, layer.id))
        return None if data is None else msgspec.json.decode(data, type=DeploymentRank)

    def _targeted(self, deployment_id: str) -> dict[str, BitMap]:
        return {
            module: as_stored(self._stored.hashes["targets"][field]) for module, field in self._modules(deployment_id)
        }

    def _modules(self, deployment_id: str) -> Iterator[tuple[str, str]]:
        """By module (empty for devices themselves), the field of a deployment in `targets` and `applied`."""
        rank = self._rank(deployment_id)
        _, fields = self._fields.get(deployment_id, (None, ()))
        yield from ((field.partition("/")[2] or (rank.module if rank else ""), field) for field in fields)

    def by_module(self, deployment_id: str) -> Iterator[tuple[BitMap, BitMap]]:
        """For each module, the devices that a deployment targets, and those of them that run it; one pair for devices."""
        rank = self._rank(deployment_id)
        if rank is None or not rank.is_open:
            # `targets` keeps the devices of the condition before the start and after the end, for `not_applied`.
            return
        for _, field in self._modules(deployment_id):
            target, data = as_stored(self._stored.hashes["targets"][field]), self._stored.hashes["applied"].get(field)
            yield target, target if data is None else Applied.from_bytes(data).within(target)

    def is_of_modules(self, deployment_id: str) -> bool:
        """Whether a deployment configures modules."""
        rank = self._rank(deployment_id)
        return rank is not None and bool(rank.module)

    def in_twin(self, deployment_id: str, twin: str = "") -> tuple[BitMap, BitMap]:
        """The devices that run a deployment, and those that it targets, in a twin (see `Targeting`)."""
        rank = self._rank(deployment_id)
        for (module, _), (target, actual) in zip(
            self._modules(deployment_id), self.by_module(deployment_id), strict=False
        ):
            if twin == (module or (DEVICE if rank is not None and rank.own else "")):
                return actual, target
        return BitMap(), BitMap()

    def with_status(self, status: AssignmentStatus) -> BitMap:
        """The live devices with an assignment status, without the devices that never had a configuration."""
        return self.set("live") & self._assignments.where(
            lambda assignment: assignment.status is status and assignment.was_assigned
        )


def assignments_of(stored: StoredPartition) -> dict[int, Assignment]:
    """The assignments by number, without UNASSIGNED; `stored` holds `assignments`."""
    assignments = stored.hashes["assignments"].items()
    return {int(number): msgspec.json.decode(data, type=Assignment) for number, data in assignments}


def assignment_numbers(stored: StoredPartition) -> Any:
    """The number of the assignment of each device, by ordinal; `stored` holds `assignment_of`."""
    return np.frombuffer(stored.arrays["assignment_of"], dtype=np.uint32)


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


def configured(digests: Collection[str], stored: StoredPartition) -> BitMap:
    """The live devices with one of these configurations in any twin; `stored` holds `assignments`, `sets`, `assignment_of`."""
    digest_set = frozenset(digests)
    live = from_bytes(stored.hashes["sets"]["live"]) if "live" in stored.hashes["sets"] else BitMap()
    return live & StoredAssignments(stored).where(
        lambda assignment: not digest_set.isdisjoint(assignment.configurations)
    )


class Targeting:
    """Which deployments target a device of a partition; `stored` holds NOT_APPLIED_HASHES.

    A `twin` is empty for edge deployments, `DEVICE` for configurations of devices' own twins, and else the id of a module.
    """

    def __init__(self, stored: StoredPartition) -> None:
        self.checkpoint = stored.checkpoint
        self.by_twin: dict[str, list[tuple[Layer, BitMap]]] = defaultdict(list)
        self._ranks = ranks = ranks_of(stored)
        self._targets = targets_of(stored)
        for layer, sets in self._targets.items():
            if not ranks[layer].is_open:
                continue
            for module, members in sets.items():
                twin = module or (DEVICE if ranks[layer].own else "")
                self.by_twin[twin].append((layer, members))

    def not_applied(self, ordinal: int, assignment: Assignment) -> tuple[NotApplied, ...]:
        """The deployments that target a device and do not apply, by id, each with its reason (contract/hub.md §3.3)."""
        pairs = ((layer, module, members) for layer, sets in self._targets.items() for module, members in sets.items())
        targeting = sorted((layer, module) for layer, module, members in pairs if ordinal in members)
        reasons = (in_the_way(layer, assignment, self._ranks, module) for layer, module in targeting)
        # A deployment for several modules of the device can have one reason in several of them.
        return tuple(dict.fromkeys(reason for reason in reasons if reason is not None))

    def names(self) -> list[str]:
        """The ids of the deployments that have started and not ended."""
        return [layer.id for targets in self.by_twin.values() for layer, _ in targets]

    def statuses(self, ordinal: int, assignment: Assignment, twin: str = "") -> dict[str, bool]:
        """The deployments that target a device, and whether each is part of what it runs."""
        targets, module_id = self.by_twin.get(twin, ()), "" if twin == DEVICE else twin
        return {layer.id: assignment.has(layer, module_id) for layer, members in targets if ordinal in members}
