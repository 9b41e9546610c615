"""The fleet as readers ask for it: one device's assignment, and the status of deployments over all partitions."""

import time
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec
from pyroaring import BitMap

from events.canonical import JsonObject
from events.envelope import Vector
from events.fleet.answers import Deliveries, lacking
from events.fleet.assignment_change import AssignmentChange
from events.fleet.assignments import NO_ASSIGNMENT, Assignment, AssignmentStatus
from events.fleet.configuration import NOTHING
from events.log.keys import partition_of
from events.manifest.document import DEVICE, MODULE
from events.projection_store.device_pages import FIRST, DevicePosition, device_ids, device_ids_at, locations_after
from events.projection_store.port import Blocked, ProjectionSelection, ProjectionStore, StoredDevice
from events.properties import merge_patch
from events.stored_projection.not_applied import NOT_APPLIED_HASHES, NotApplied, not_applied
from events.stored_projection.partition_reader import (
    STATUS_ARRAYS,
    STATUS_HASHES,
    STATUSES,
    DeviceAssignment,
    PartitionReading,
    Targeting,
)
from events.stored_projection.stored_partition import Checkpoint

_ASSIGNMENT_CHANGES = 200
LATELY_SECONDS = 1.0
"""For how long it counts as known that no own twin of a partition has anything from a configuration."""

Within = Callable[[int], BitMap]
"""The ordinals of a partition that a reader is kept within; `None` in its place is the whole fleet."""


class Effective(msgspec.Struct, frozen=True):
    """A device's effective configuration, with why it has it.

    `since` (milliseconds) and `assignment_change` name the assignment change that gave it, 0 where it never had one.
    """

    device_id: str
    ordinal: int
    checkpoint: Checkpoint
    assignment: Assignment
    sections: dict[str, JsonObject]
    assignment_change: int
    since: int
    cause: str
    own: JsonObject | None = None
    """The desired properties that configurations give the device's own twin; `None` where they give none."""
    hand_written: int = 0
    """How often desired properties of the device or of its modules were written by hand."""
    given: dict[str, JsonObject] = {}
    """By module, what configurations of modules lie over its section."""

    @property
    def vector(self) -> Vector:
        """What the answer is as of."""
        return self.checkpoint.vector

    @property
    def modules(self) -> dict[str, JsonObject]:
        """The desired properties of each module, whoever gives them."""
        laid = {name: merge_patch(self.sections.get(name, {}), given) for name, given in self.given.items()}
        return {**self.sections, **laid}

    @property
    def managed(self) -> bool:
        """Whether a deployment decides what the device runs; a over limit device is managed."""
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

    def assignment(self, device_id: str) -> DeviceAssignment | None:
        """What a device runs; `None` when the projections do not know it (yet)."""
        found = self._projections.device(partition_of(device_id, self._partitions), device_id)
        if found is None:
            return None
        return DeviceAssignment(
            device_id,
            found.ordinal,
            found.checkpoint.vector,
            _assignment(found),
            found.assignment_change,
            found.hand_written,
            found.delivered,
        )

    def undelivered(self, assignment: DeviceAssignment) -> dict[str, int]:
        """The versions of sections that a device is not known to have, by module; `$device` stands for its own twin.

        Those of the system modules are not among them, and neither is what nothing ever changed.
        """
        expected = assignment.assignment.deliverable
        if not expected:
            return {}
        number, field = partition_of(assignment.device_id, self._partitions), str(assignment.delivered)
        kept = self._projections.read(number, ProjectionSelection(fields=(("deliveries", (field,)),))).hashes[
            "deliveries"
        ]
        known: Deliveries = msgspec.json.decode(kept[field], type=Deliveries) if field in kept else ()
        return {name: expected[name] for name in sorted(lacking(expected, known))}

    def applied_version(self, device_id: str) -> int:
        """How many of a device's own events the projections know; 0 where they do not know the device."""
        number = partition_of(device_id, self._partitions)
        found = self._projections.device(number, device_id)
        return 0 if found is None else self._projections.numbers(number, found.ordinal, ("twin_versions",))[0]

    def effective(self, device_id: str) -> Effective | None:
        """A device's effective configuration; `None` when the projections do not know the device (yet)."""
        number = partition_of(device_id, self._partitions)
        while True:
            found = self._projections.device(number, device_id)
            if found is None:
                return None
            given = self._given(number, _assignment(found))
            # Otherwise a commit came between, and what the modules had is gone.
            if given is not None:
                break
        sections: dict[str, JsonObject] = msgspec.json.decode(found.configuration) if found.configuration else {}
        own: JsonObject | None = msgspec.json.decode(found.own).get(DEVICE) if found.own else None
        return Effective(
            device_id,
            found.ordinal,
            found.checkpoint,
            _assignment(found),
            sections,
            found.assignment_change,
            found.at,
            found.cause,
            own,
            found.hand_written,
            given,
        )

    def _given(self, number: int, assignment: Assignment) -> dict[str, JsonObject] | None:
        """What configurations of modules give, by module; `None` where it is not kept any more."""
        wanted = {name: part.configuration for name, part in assignment.module_parts.items()}
        wanted = {name: digest for name, digest in wanted.items() if digest != NOTHING.digest}
        if not wanted:
            return {}
        fields = tuple(sorted(set(wanted.values())))
        kept = self._projections.read(number, ProjectionSelection(fields=(("configurations", fields),))).hashes[
            "configurations"
        ]
        if kept.keys() != set(fields):
            return None
        return {name: msgspec.json.decode(kept[digest]).get(MODULE, {}) for name, digest in wanted.items()}

    def has_own(self, device_id: str) -> bool:
        """Whether configurations can have given the device's own twin anything: there is one, or was."""
        number = partition_of(device_id, self._partitions)
        if self._projections.checkpoint(number).has_own is True:
            self._has_none_until.pop(number, None)
            return True
        self._has_none_until[number] = self._clock()
        return False

    def had_no_own_lately(self, device_id: str) -> bool:
        """Whether `has_own` said no a moment ago for the device's partition; asks nobody."""
        looked = self._has_none_until.get(partition_of(device_id, self._partitions))
        return looked is not None and self._clock() - looked < LATELY_SECONDS

    def not_applied(self, device_id: str) -> tuple[NotApplied, ...]:
        """The deployments that target a device and do not apply, each with its reason; none where it is not known."""
        number = partition_of(device_id, self._partitions)
        while True:
            assignment = self.assignment(device_id)
            if assignment is None:
                return ()
            kept = self._projections.read(number, ProjectionSelection(hashes=NOT_APPLIED_HASHES))
            # Otherwise a commit came between, and what was read does not belong together.
            if kept.checkpoint.vector == assignment.vector:
                return not_applied(assignment.ordinal, assignment.assignment, kept)

    def statuses(self, effective: Effective) -> dict[str, bool]:
        """The deployments that target a device, and whether each is part of what it runs, as of now."""
        return self._targeting_of(effective).statuses(effective.ordinal, effective.assignment)

    def own_statuses(self, effective: Effective) -> dict[str, bool]:
        """As `statuses`, of the configurations of its own twin."""
        return self._targeting_of(effective).statuses(effective.ordinal, effective.assignment, DEVICE)

    def module_standings(self, module_id: str, effective: Effective) -> dict[str, bool]:
        """As `statuses`, of the configurations of one of its modules."""
        return self._targeting_of(effective).statuses(effective.ordinal, effective.assignment, module_id)

    def _targeting_of(self, effective: Effective) -> Targeting:
        number = partition_of(effective.device_id, self._partitions)
        known = self._targeting.get(number)
        if known is None or known.checkpoint != effective.checkpoint:
            known = Targeting(self._projections.read(number, ProjectionSelection(hashes=NOT_APPLIED_HASHES)))
            self._targeting[number] = known
        return known

    def status(self, *deployment_ids: str, within: Within | None = None) -> dict[str, Counter[str]]:
        """Counts by status of some deployments, or of all of them; each is the number of `members`."""
        counts: dict[str, Counter[str]] = {name: Counter(dict.fromkeys(STATUSES, 0)) for name in deployment_ids}
        for number in range(self._partitions):
            reading = self._reading(number)
            seen = None if within is None else within(number)
            for name in deployment_ids or reading.deployments():
                sets = reading.status(name).named()
                counts.setdefault(name, Counter(dict.fromkeys(STATUSES, 0))).update(
                    {status: size_within(members, seen) for status, members in sets.items()}
                )
        return counts

    def targets(self, number: int, deployment_id: str) -> BitMap:
        """The ordinals of one partition for whose devices a deployment's condition is true, started or not."""
        return self._reading(number).targeted(deployment_id)

    def targeted(self, deployment_id: str, *, within: Within | None = None) -> int:
        """For how many devices a deployment's condition is true, started or not; a configuration of modules counts these."""
        return sum(
            size_within(members, None if within is None else within(number))
            for number in range(self._partitions)
            for members in self._reading(number).targeted_assignments(deployment_id)
        )

    def twins(self, *deployment_ids: str, within: Within | None = None) -> dict[str, Counter[str]]:
        """As `status`, of configurations of modules and in twins: how many are targeted, and how many have what it gives.

        A device counts once for each of its modules, so that each is the number of rows of a query.
        """
        counts = {name: Counter({"target": 0, "actual": 0}) for name in deployment_ids}
        for number in range(self._partitions if deployment_ids else 0):
            reading = self._reading(number)
            seen = None if within is None else within(number)
            for name in deployment_ids:
                for target, actual in reading.by_module(name):
                    counts[name].update({"target": size_within(target, seen), "actual": size_within(actual, seen)})
        return counts

    def metrics(self) -> dict[str, dict[str, int]]:
        """How many rows each kept custom metric has, by deployment and name; only those that every partition knows."""
        known: Counter[tuple[str, str]] = Counter()
        assignments: Counter[tuple[str, str]] = Counter()
        for number in range(self._partitions):
            for field, count in (
                self._projections.read(number, ProjectionSelection(hashes=("metrics",))).hashes["metrics"].items()
            ):
                _, deployment_id, name = msgspec.json.decode(field, type=tuple[int, str, str])
                known[deployment_id, name] += 1
                assignments[deployment_id, name] += int(count)
        found: dict[str, dict[str, int]] = {}
        for (deployment_id, name), partitions in known.items():
            if partitions == self._partitions:
                found.setdefault(deployment_id, {})[name] = assignments[deployment_id, name]
        return found

    def members(self, deployment_id: str, status: str, *, within: Within | None = None) -> Iterator[str]:
        """Device ids in one status set of a deployment, by partition and order of registration."""
        for number in range(self._partitions):
            ordinals = self._reading(number).status(deployment_id).named()[status]
            if within is not None:
                ordinals = ordinals & within(number)
            yield from device_ids(self._projections, number, ordinals)

    def page(
        self,
        deployment_id: str,
        status: str,
        *,
        after: DevicePosition = FIRST,
        limit: int,
        within: Within | None = None,
    ) -> tuple[list[str], DevicePosition | None]:
        """Device ids in one status set from behind a place on, and the place to go on from; `None` at the end.

        A device that is in it throughout is on one page exactly, as of `locations_after`.
        """
        return self.page_of(
            lambda number: self._reading(number).status(deployment_id).named()[status],
            after=after,
            limit=limit,
            within=within,
        )

    def devices(
        self, *, after: DevicePosition = FIRST, limit: int, within: Within | None = None
    ) -> tuple[list[str], DevicePosition | None]:
        """Device ids of the whole fleet, as `page`."""
        return self.page_of(lambda number: self._reading(number).set("live"), after=after, limit=limit, within=within)

    def totals(self, *, within: Within | None = None) -> tuple[int, int]:
        """How many devices are registered, and how many of them are enabled."""
        live = enabled = 0
        for number in range(self._partitions):
            reading, seen = self._reading(number), None if within is None else within(number)
            live += size_within(reading.set("live"), seen)
            enabled += size_within(reading.set("enabled"), seen)
        return live, enabled

    def page_of(
        self,
        members: Callable[[int], BitMap],
        *,
        after: DevicePosition = FIRST,
        limit: int,
        within: Within | None = None,
    ) -> tuple[list[str], DevicePosition | None]:
        """Device ids of a set that each partition has, as `page`; no partition is asked twice."""
        ranks, location_after = locations_after(
            members if within is None else lambda number: members(number) & within(number),
            partitions=self._partitions,
            after=after,
            limit=limit,
        )
        return device_ids_at(self._projections, ranks), location_after

    def with_status(self, status: AssignmentStatus) -> Iterator[str]:
        """Device ids of a standing."""
        for number in range(self._partitions):
            ordinals = self._reading(number).with_status(status)
            yield from device_ids(self._projections, number, ordinals)

    def blocked(self) -> dict[int, Blocked]:
        """The partitions that are stopped, with where and why."""
        found = {number: self._projections.blocked(number) for number in range(self._partitions)}
        return {number: blocked for number, blocked in found.items() if blocked is not None}

    def recorded(self, number: int, *, after: int = 0) -> Iterator[tuple[int, int, AssignmentChange]]:
        """(position, time, assignment change) of a partition, from position after + 1 to the newest."""
        while entries := self._projections.assignment_changes(number, after=after, limit=_ASSIGNMENT_CHANGES):
            for entry in entries:
                after = entry.position
                yield entry.position, entry.at, msgspec.json.decode(entry.data, type=AssignmentChange)

    def assignment_changes(self, number: int, *, after: int = 0, limit: int = 100) -> Iterator[AssignmentChange]:
        """The assignment changes of a partition, decoded."""
        for entry in self._projections.assignment_changes(number, after=after, limit=limit):
            yield msgspec.json.decode(entry.data, type=AssignmentChange)

    def _reading(self, number: int) -> PartitionReading:
        return PartitionReading(
            self._projections.read(number, ProjectionSelection(hashes=STATUS_HASHES, arrays=STATUS_ARRAYS))
        )


def size_within(members: BitMap, within: BitMap | None) -> int:
    """How many of a set are within another, or in it at all."""
    return len(members) if within is None else members.intersection_cardinality(within)


def _assignment(found: StoredDevice) -> Assignment:
    return msgspec.json.decode(found.assignment, type=Assignment) if found.assignment else NO_ASSIGNMENT
