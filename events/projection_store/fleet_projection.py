"""Reads projections of the whole fleet: the assignment of a device, and the status of deployments over all partitions."""

import time
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec
from pyroaring import BitMap

from events.canonical import JsonObject
from events.fleet.answers import Deliveries, lacking
from events.fleet.assignments import Assignment, AssignmentChange, AssignmentStatus
from events.fleet.configuration import NOTHING
from events.log.keys import partition_of
from events.manifest.document import DEVICE, MODULE
from events.projection_store.device_pages import FIRST, DevicePosition, device_ids, device_ids_at, positions_after
from events.projection_store.port import Blocked, ProjectionStore, StoredDevice, read_fields
from events.properties import merge_patch
from events.stored_projection.not_applied import NOT_APPLIED_HASHES, NotApplied, not_applied
from events.stored_projection.partition_reader import (
    STATUS_ARRAYS,
    STATUS_HASHES,
    STATUSES,
    PartitionReading,
    Targeting,
)

_ASSIGNMENT_CHANGES = 200
RECENT_SECONDS = 1.0
"""How long a read is trusted that no device's own twin in a partition has anything from a configuration."""

Within = Callable[[int], BitMap]
"""A set of devices, as the ordinals of each partition: those that a reader may see, `None` for the whole fleet, or others."""


class Effective(StoredDevice, frozen=True):
    """A device with its effective configuration.

    `sections` are the desired properties that edge deployments give, by module, and `given` what configurations of modules lay
    over them; `own_section` is what configurations give the device's own twin, `None` if nothing.
    """

    sections: dict[str, JsonObject] = msgspec.field(default_factory=dict)
    own_section: JsonObject | None = None
    module_patches: dict[str, JsonObject] = msgspec.field(default_factory=dict)

    @property
    def modules(self) -> dict[str, JsonObject]:
        """The desired properties of each module, from all configurations."""
        laid = {name: merge_patch(self.sections.get(name, {}), patch) for name, patch in self.module_patches.items()}
        return {**self.sections, **laid}

    @property
    def managed(self) -> bool:
        """Whether a deployment decides what the device runs; a device over a limit is managed."""
        return self.assignment.status in {AssignmentStatus.MANAGED, AssignmentStatus.OVER_LIMIT}


class FleetProjection:
    """Reads the projections of all partitions."""

    def __init__(
        self, projections: ProjectionStore, *, partitions: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._projections = projections
        self._partitions = partitions
        self._clock = clock
        self._targeting: dict[int, Targeting] = {}
        self._has_none_until: dict[int, float] = {}

    def assignment(self, device_id: str) -> StoredDevice | None:
        """What a device runs; `None` if the projections do not have the device (yet)."""
        return self._projections.device(partition_of(device_id, self._partitions), device_id)

    def undelivered(self, device: StoredDevice) -> dict[str, int]:
        """By module (`$device`: its own twin), the versions of changed sections, except system modules', that no answer confirms."""
        expected = device.assignment.deliverable
        if not expected:
            return {}
        number, field = partition_of(device.device_id, self._partitions), str(device.delivered)
        deliveries = read_fields(self._projections, number, "deliveries", [field])
        delivered: Deliveries = msgspec.json.decode(deliveries[field], type=Deliveries) if field in deliveries else ()
        return {name: expected[name] for name in sorted(lacking(expected, delivered))}

    def applied_version(self, device_id: str) -> int:
        """The number of a device's own events in the projections; 0 if they do not have the device."""
        number = partition_of(device_id, self._partitions)
        device = self._projections.device(number, device_id)
        return 0 if device is None else self._projections.numbers(number, device.ordinal, ("twin_versions",))[0]

    def effective(self, device_id: str) -> Effective | None:
        """A device's effective configuration; `None` if the projections do not have the device (yet)."""
        number = partition_of(device_id, self._partitions)
        while True:
            device = self._projections.device(number, device_id)
            if device is None:
                return None
            module_patches = self._module_patches(number, device.assignment)
            # A commit in between can delete the configurations that the device had at the first read; then read both again.
            if module_patches is not None:
                break
        sections: dict[str, JsonObject] = msgspec.json.decode(device.configuration) if device.configuration else {}
        own: JsonObject | None = msgspec.json.decode(device.own).get(DEVICE) if device.own else None
        return Effective(
            **msgspec.structs.asdict(device), sections=sections, own_section=own, module_patches=module_patches
        )

    def _module_patches(self, number: int, assignment: Assignment) -> dict[str, JsonObject] | None:
        """By module, what configurations of modules give; `None` if a configuration is not stored any more."""
        parts = assignment.module_parts.items()
        digests = {name: part.configuration for name, part in parts if part.configuration != NOTHING.digest}
        if not digests:
            return {}
        fields = tuple(sorted(set(digests.values())))
        configurations = read_fields(self._projections, number, "configurations", fields)
        if configurations.keys() != set(fields):
            return None
        return {name: msgspec.json.decode(configurations[digest]).get(MODULE, {}) for name, digest in digests.items()}

    def has_own(self, device_id: str) -> bool:
        """Whether a configuration gives, or ever gave, anything to an own twin in the device's partition."""
        number = partition_of(device_id, self._partitions)
        if self._projections.checkpoint(number).has_own is True:
            self._has_none_until.pop(number, None)
            return True
        self._has_none_until[number] = self._clock()
        return False

    def had_no_own_recently(self, device_id: str) -> bool:
        """Whether `has_own` was false less than `RECENT_SECONDS` ago for the device's partition. Reads nothing."""
        looked = self._has_none_until.get(partition_of(device_id, self._partitions))
        return looked is not None and self._clock() - looked < RECENT_SECONDS

    def not_applied(self, device_id: str) -> tuple[NotApplied, ...]:
        """The deployments that target a device and do not apply, each with its reason; none if the device is unknown."""
        number = partition_of(device_id, self._partitions)
        while True:
            device = self.assignment(device_id)
            if device is None:
                return ()
            stored = self._projections.read(number, hashes=NOT_APPLIED_HASHES)
            # If a commit came in between, the two reads do not belong together.
            if stored.checkpoint.vector == device.checkpoint.vector:
                return not_applied(device.ordinal, device.assignment, stored)

    def statuses(self, effective: Effective, twin: str = "") -> dict[str, bool]:
        """The deployments that target a device, its own twin (`DEVICE`) or a module, and whether each is part of what it runs."""
        number = partition_of(effective.device_id, self._partitions)
        targeting = self._targeting.get(number)
        if targeting is None or targeting.checkpoint != effective.checkpoint:
            targeting = Targeting(self._projections.read(number, hashes=NOT_APPLIED_HASHES))
            self._targeting[number] = targeting
        return targeting.statuses(effective.ordinal, effective.assignment, twin)

    def status(self, *deployment_ids: str, within: Within | None = None) -> dict[str, Counter[str]]:
        """Counts by status of the given deployments, or of all; each is the number of `members`."""
        counts: dict[str, Counter[str]] = {name: Counter(dict.fromkeys(STATUSES, 0)) for name in deployment_ids}
        for reading, seen in self._each(within):
            for name in deployment_ids or reading.deployments():
                sizes = {status: size_within(members, seen) for status, members in reading.status(name).named().items()}
                counts.setdefault(name, Counter(dict.fromkeys(STATUSES, 0))).update(sizes)
        return counts

    def targets(self, number: int, deployment_id: str) -> BitMap:
        """The ordinals of a partition for which a deployment's condition is true, started or not."""
        return self._reading(number).targeted(deployment_id)

    def targeted(self, deployment_id: str, *, within: Within | None = None) -> int:
        """How many devices (modules, for a configuration of modules) a deployment's condition is true for, started or not."""
        return sum(
            size_within(members, seen)
            for reading, seen in self._each(within)
            for members in reading.targeted_assignments(deployment_id)
        )

    def twins(self, *deployment_ids: str, within: Within | None = None) -> dict[str, Counter[str]]:
        """As `status` for configurations of modules: twins that are targeted (`target`), and that have what it gives (`actual`).

        A device counts once for each of its modules, as in the rows of a query.
        """
        counts = {name: Counter({"target": 0, "actual": 0}) for name in deployment_ids}
        for reading, seen in self._each(within) if deployment_ids else ():
            for name in deployment_ids:
                for target, actual in reading.by_module(name):
                    counts[name].update({"target": size_within(target, seen), "actual": size_within(actual, seen)})
        return counts

    def metrics(self) -> dict[str, dict[str, int]]:
        """How many rows each stored custom metric has, by deployment and name; only metrics that every partition has."""
        partitions_with: Counter[tuple[str, str]] = Counter()
        counts: Counter[tuple[str, str]] = Counter()
        for number in range(self._partitions):
            stored = self._projections.read(number, hashes=("metrics",))
            for field, count in stored.hashes["metrics"].items():
                _, deployment_id, name = msgspec.json.decode(field, type=tuple[int, str, str])
                partitions_with[deployment_id, name] += 1
                counts[deployment_id, name] += int(count)
        complete: dict[str, dict[str, int]] = {}
        for (deployment_id, name), partitions in partitions_with.items():
            if partitions == self._partitions:
                complete.setdefault(deployment_id, {})[name] = counts[deployment_id, name]
        return complete

    def in_status(self, deployment_id: str, status: str) -> Within:
        """The devices of a status of a deployment."""
        return lambda number: self._reading(number).status(deployment_id).named()[status]

    def members(self, deployment_id: str, status: str) -> Iterator[str]:
        """The device ids of a status of a deployment, by partition and order of registration."""
        members = self.in_status(deployment_id, status)
        for number in range(self._partitions):
            yield from device_ids(self._projections, number, members(number))

    def devices(
        self, *, after: DevicePosition = FIRST, limit: int, within: Within | None = None
    ) -> tuple[list[str], DevicePosition | None]:
        """Device ids of the whole fleet, as `page_of`."""
        return self.page_of(lambda number: self._reading(number).set("live"), after=after, limit=limit, within=within)

    def totals(self, *, within: Within | None = None) -> tuple[int, int]:
        """How many devices are registered, and how many of them are enabled."""
        live = enabled = 0
        for reading, seen in self._each(within):
            live += size_within(reading.set("live"), seen)
            enabled += size_within(reading.set("enabled"), seen)
        return live, enabled

    def page_of(
        self, members: Within, *, after: DevicePosition = FIRST, limit: int, within: Within | None = None
    ) -> tuple[list[str], DevicePosition | None]:
        """The next device ids of a set after a position, and the position to continue from; `None` at the end."""
        seen = members if within is None else lambda number: members(number) & within(number)
        positions, position_after = positions_after(seen, partitions=self._partitions, after=after, limit=limit)
        return device_ids_at(self._projections, positions), position_after

    def with_status(self, status: AssignmentStatus) -> Iterator[str]:
        """The device ids with a status."""
        for number in range(self._partitions):
            yield from device_ids(self._projections, number, self._reading(number).with_status(status))

    def blocked(self) -> dict[int, Blocked]:
        """The blocked partitions, with position and reason."""
        blocked_by_partition = {number: self._projections.blocked(number) for number in range(self._partitions)}
        return {number: blocked for number, blocked in blocked_by_partition.items() if blocked is not None}

    def recorded(self, number: int, *, after: int = 0) -> Iterator[tuple[int, int, AssignmentChange]]:
        """(position, time, assignment change) of a partition, from position after + 1 to the newest."""
        while entries := self._projections.assignment_changes(number, after=after, limit=_ASSIGNMENT_CHANGES):
            for entry in entries:
                after = entry.position
                yield entry.position, entry.at, msgspec.json.decode(entry.data, type=AssignmentChange)

    def _each(self, within: Within | None) -> Iterator[tuple[PartitionReading, BitMap | None]]:
        """Each partition, and the ordinals of it that the reader may see."""
        for number in range(self._partitions):
            yield self._reading(number), None if within is None else within(number)

    def _reading(self, number: int) -> PartitionReading:
        return PartitionReading(self._projections.read(number, hashes=STATUS_HASHES, arrays=STATUS_ARRAYS))


def size_within(members: BitMap, within: BitMap | None) -> int:
    """How many members of a set are within another, if given."""
    return len(members) if within is None else members.intersection_cardinality(within)
