"""Reads projections of the whole fleet: the assignment of a device, and the status of deployments over all partitions."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from operator import add

import msgspec
from pyroaring import BitMap

from events.bitmaps import as_stored
from events.canonical import JsonObject
from events.fleet.answers import Deliveries, lacking
from events.fleet.assignments import Assignment, AssignmentChange, AssignmentStatus
from events.fleet.configuration import NOTHING
from events.fleet.deployment_status import STATUSES
from events.log.keys import partition_of
from events.manifest.document import DEVICE, MODULE
from events.projection_store.deployment_reads import DeploymentReads, counts_in, counts_of
from events.projection_store.device_pages import FIRST, DevicePosition, device_ids, device_ids_at, positions_after
from events.projection_store.port import Blocked, ProjectionStore, StoredDevice, read_fields
from events.properties import merge_patch
from events.stored_projection.not_applied import NOT_APPLIED_HASHES, NotApplied, deployment_of
from events.stored_projection.partition_codec import metric_field
from events.stored_projection.partition_reader import (
    DEPLOYMENT_HASHES,
    STATUS_ARRAYS,
    STATUS_HASHES,
    PartitionReading,
    Targeting,
)
from events.stored_projection.stored_partition import Checkpoint, target_field

_ASSIGNMENT_CHANGES = 200

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

    def __init__(self, projections: ProjectionStore, *, partitions: int) -> None:
        self._projections = projections
        self._partitions = partitions
        self._numbers = range(partitions)
        self._deployment_reads = DeploymentReads(projections)
        self._counts_of_fleet: FleetCounts | None = None
        self._targeting: dict[int, Targeting] = {}

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
                return _effective_of(device, module_patches)

    @staticmethod
    def effective_from(device: StoredDevice) -> Effective | None:
        """The effective configuration of a device that was read; `None` if that requires another read."""
        is_complete = not device.assignment.module_parts and not device.lacks_its_cause
        return _effective_of(device, {}) if is_complete else None

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

    def without_own(self, device_ids: Collection[str]) -> frozenset[str]:
        """The devices in whose partition no configuration gives, or ever gave, anything to an own twin."""
        return self.begin_without_own(device_ids)()

    def begin_without_own(self, device_ids: Collection[str]) -> Callable[[], frozenset[str]]:
        """As `without_own`, asked now; the answer must be called once."""
        number_by_device = {device_id: partition_of(device_id, self._partitions) for device_id in device_ids}
        numbers = sorted(set(number_by_device.values()))
        checkpoints = self._projections.begin_checkpoints(numbers)

        def without_own() -> frozenset[str]:
            pairs = zip(numbers, checkpoints(), strict=True)
            have_own = {number for number, checkpoint in pairs if checkpoint.has_own is True}
            return frozenset(device_id for device_id, number in number_by_device.items() if number not in have_own)

        return without_own

    def not_applied(self, device_id: str) -> tuple[NotApplied, ...]:
        """The deployments that target a device and do not apply, each with its reason; none if the device is unknown."""
        number = partition_of(device_id, self._partitions)
        while True:
            device = self.assignment(device_id)
            if device is None:
                return ()
            targeting = self._targeting_at(number, device.checkpoint)
            # If a commit came in between, the two reads do not belong together.
            if targeting.checkpoint.vector == device.checkpoint.vector:
                return targeting.not_applied(device.ordinal, device.assignment)

    def statuses(self, effective: Effective, twin: str = "") -> dict[str, bool]:
        """The deployments that target a device, its own twin (`DEVICE`) or a module, and whether each is part of what it runs."""
        number = partition_of(effective.device_id, self._partitions)
        targeting = self._targeting_at(number, effective.checkpoint)
        return targeting.statuses(effective.ordinal, effective.assignment, twin)

    def _targeting_at(self, number: int, checkpoint: Checkpoint) -> Targeting:
        """The targets of a partition: those of the checkpoint if they were read already, else the present ones."""
        # Which deployments target a device is stored by deployment, so this reads all of them, once for each commit.
        targeting = self._targeting.get(number)
        if targeting is None or targeting.checkpoint != checkpoint:
            targeting = self._targeting[number] = Targeting(self._projections.read(number, hashes=NOT_APPLIED_HASHES))
        return targeting

    def status(self, *deployment_ids: str, within: Within | None = None) -> dict[str, Counter[str]]:
        """Counts by status of the given deployments, or of all; each is the number of `members`."""
        if not deployment_ids and within is None:
            return {name: Counter(by_status) for name, by_status in self.fleet_counts().status.items()}
        counts: dict[str, Counter[str]] = {name: Counter(dict.fromkeys(STATUSES, 0)) for name in deployment_ids}
        for name, by_status in self._statuses(deployment_ids, within):
            counts.setdefault(name, Counter(dict.fromkeys(STATUSES, 0))).update(by_status)
        return counts

    def _statuses(
        self, deployment_ids: Sequence[str], within: Within | None
    ) -> Iterator[tuple[str, Mapping[str, int]]]:
        """The counts by status of the deployments, one for each partition that has the deployment."""
        if within is not None:
            for reading, seen in self._each(deployment_ids, within):
                for name in deployment_ids or reading.deployments():
                    sets = reading.status(name).named()
                    yield name, {status: size_within(members, seen) for status, members in sets.items()}
        else:
            for counts in counts_of(self._projections, self._numbers, deployment_ids):
                yield from ((name, row.named) for name, row in counts.items())

    def targets(self, *deployment_ids: str, among: Sequence[int] | None = None) -> dict[int, dict[str, BitMap]]:
        """By partition (`among` these, default: all), the ordinals for which the conditions of deployments are true.

        Whether a deployment has started does not matter. Those that target no device of a partition are missing there.
        """
        numbers = self._numbers if among is None else among
        targeting = [
            (row.created, f"{name}/{module}" if module else name)
            for counts in counts_of(self._projections, numbers, deployment_ids)
            for name, row in counts.items()
            for module in ("", *row.modules)
            if row.targeted
        ]
        fields = sorted({target_field(*stored_name) for stored_name in targeting})
        targets: dict[int, dict[str, BitMap]] = {number: {} for number in numbers}
        partitions = self._projections.read_each(numbers, fields=(("targets", fields),)) if fields else ()
        for number, stored in zip(numbers, partitions, strict=False):
            by_id = targets[number]
            for field, data in stored.hashes["targets"].items():
                if members := as_stored(data):
                    by_id[deployment_of(field).id] = by_id.get(deployment_of(field).id, BitMap()) | members
        return targets

    def targeted(self, deployment_id: str, *, within: Within | None = None) -> int:
        """How many devices (modules, for a configuration of modules) a deployment's condition is true for, started or not."""
        if within is None:
            counts = counts_of(self._projections, self._numbers, [deployment_id])
            return sum(by_name[deployment_id].targeted for by_name in counts if deployment_id in by_name)
        return sum(
            size_within(members, seen)
            for reading, seen in self._each([deployment_id], within)
            for members in reading.targeted_assignments(deployment_id)
        )

    def twins(self, *deployment_ids: str, within: Within | None = None) -> dict[str, Counter[str]]:
        """As `status` for configurations of modules: twins that are targeted (`target`), and that have what it gives (`actual`).

        A device counts once for each of its modules, as in the rows of a query.
        """
        counts = {name: Counter({"target": 0, "actual": 0}) for name in deployment_ids}
        if within is None:
            for by_name in counts_of(self._projections, self._numbers, deployment_ids) if deployment_ids else ():
                for name, row in by_name.items():
                    target_count, actual_count = row.twin_counts
                    counts[name].update({"target": target_count, "actual": actual_count})
            return counts
        for reading, seen in self._each(deployment_ids, within) if deployment_ids else ():
            for name in deployment_ids:
                for target, actual in reading.by_module(name):
                    counts[name].update({"target": size_within(target, seen), "actual": size_within(actual, seen)})
        return counts

    def metrics(self, names: Mapping[str, Collection[str]] | None = None) -> dict[str, dict[str, int]]:
        """How many rows each stored custom metric has, by deployment and name; only metrics that every partition has.

        `names` are the metrics by deployment; `None` for all metrics of all deployments.
        """
        if names is None:
            return self.fleet_counts().metrics
        measured = [deployment_id for deployment_id, metrics in names.items() if metrics]
        if not measured:
            return {}
        rows = [pair for by_id in counts_of(self._projections, self._numbers, measured) for pair in by_id.items()]
        fields = {metric_field(row.created, name, metric) for name, row in rows for metric in names[name]}
        partitions = self._projections.read_each(self._numbers, fields=(("metrics", sorted(fields)),))
        return _complete_metrics([stored.hashes["metrics"] for stored in partitions])

    def fleet_counts(self) -> "FleetCounts":
        """The counts of all deployments. They are read again, and another object, only when a partition has committed."""
        checkpoints = [stored.checkpoint for stored in self._projections.read_each(self._numbers)]
        cached = self._counts_of_fleet
        if cached is None or cached.checkpoints != checkpoints:
            partitions = self._projections.read_each(self._numbers, hashes=("counts", "metrics"))
            totals: dict[str, tuple[int, ...]] = {}
            for counts in map(counts_in, partitions):
                for name, row in counts.items():
                    total = totals.get(name)
                    totals[name] = row.by_status if total is None else tuple(map(add, total, row.by_status))
            status = {name: dict(zip(STATUSES, total, strict=True)) for name, total in totals.items()}
            metrics = _complete_metrics([stored.hashes["metrics"] for stored in partitions])
            checkpoints = [stored.checkpoint for stored in partitions]
            cached = self._counts_of_fleet = FleetCounts(checkpoints, status, metrics)
        return cached

    def in_status(self, deployment_id: str, status: str) -> Within:
        """The devices of a status of a deployment."""
        return lambda number: self._deployment_reading(number, deployment_id).status(deployment_id).named()[status]

    def members(self, deployment_id: str, status: str) -> Iterator[str]:
        """The device ids of a status of a deployment, by partition and order of registration."""
        members = self.in_status(deployment_id, status)
        for number in self._numbers:
            yield from device_ids(self._projections, number, members(number))

    def devices(
        self, *, after: DevicePosition = FIRST, limit: int, within: Within | None = None
    ) -> tuple[list[str], DevicePosition | None]:
        """Device ids of the whole fleet, as `page_of`."""
        return self.page_of(self.live, after=after, limit=limit, within=within)

    def totals(self, *, within: Within | None = None) -> tuple[int, int]:
        """How many devices are registered, and how many of them are enabled."""
        live = enabled = 0
        partitions = self._projections.read_each(self._numbers, fields=(("sets", ("live", "enabled")),))
        for number, stored in zip(self._numbers, partitions, strict=True):
            sets, seen = stored.hashes["sets"], None if within is None else within(number)
            live += size_within(as_stored(sets["live"]), seen) if "live" in sets else 0
            enabled += size_within(as_stored(sets["enabled"]), seen) if "enabled" in sets else 0
        return live, enabled

    def live(self, number: int) -> BitMap:
        """The ordinals of the registered devices of a partition."""
        sets = read_fields(self._projections, number, "sets", ("live",))
        return as_stored(sets["live"]) if sets else BitMap()

    def page_of(
        self, members: Within, *, after: DevicePosition = FIRST, limit: int, within: Within | None = None
    ) -> tuple[list[str], DevicePosition | None]:
        """The next device ids of a set after a position, and the position to continue from; `None` at the end."""
        seen = members if within is None else lambda number: members(number) & within(number)
        positions, position_after = positions_after(seen, partitions=self._partitions, after=after, limit=limit)
        return device_ids_at(self._projections, positions), position_after

    def with_status(self, status: AssignmentStatus) -> Iterator[str]:
        """The device ids with a status."""
        for number in self._numbers:
            stored = self._projections.read(number, hashes=STATUS_HASHES, arrays=STATUS_ARRAYS)
            yield from device_ids(self._projections, number, PartitionReading(stored).with_status(status))

    def blocked(self) -> dict[int, Blocked]:
        """The blocked partitions, with position and reason."""
        return self._projections.blocked_among(self._numbers)

    def recorded(self, number: int, *, after: int = 0) -> Iterator[tuple[int, int, AssignmentChange]]:
        """(position, time, assignment change) of a partition, from position after + 1 to the newest."""
        while entries := self._projections.assignment_changes(number, after=after, limit=_ASSIGNMENT_CHANGES):
            for entry in entries:
                after = entry.position
                yield entry.position, entry.at, msgspec.json.decode(entry.data, type=AssignmentChange)

    def _each(self, deployment_ids: Sequence[str], within: Within) -> Iterator[tuple[PartitionReading, BitMap]]:
        """Each partition with the status sets of the deployments (none given: of all), and the ordinals that the reader may see."""
        if deployment_ids:
            readings = self._deployment_reads.readings(self._numbers, *deployment_ids)
        else:
            partitions = self._projections.read_each(self._numbers, hashes=(*DEPLOYMENT_HASHES, "sets"))
            readings = [PartitionReading(stored) for stored in partitions]
        for number, reading in zip(self._numbers, readings, strict=True):
            yield reading, within(number)

    def _deployment_reading(self, number: int, deployment_id: str) -> PartitionReading:
        (reading,) = self._deployment_reads.readings([number], deployment_id)
        return reading


def _effective_of(device: StoredDevice, module_patches: dict[str, JsonObject]) -> Effective:
    sections: dict[str, JsonObject] = msgspec.json.decode(device.configuration) if device.configuration else {}
    own: JsonObject | None = msgspec.json.decode(device.own).get(DEVICE) if device.own else None
    return Effective(
        **msgspec.structs.asdict(device), sections=sections, own_section=own, module_patches=module_patches
    )


class FleetCounts(msgspec.Struct, frozen=True, eq=False):
    """The counts and the metrics of all deployments, at one checkpoint of each partition."""

    checkpoints: list[Checkpoint]
    status: dict[str, dict[str, int]]
    metrics: dict[str, dict[str, int]]


def _complete_metrics(partitions: Sequence[Mapping[str, bytes]]) -> dict[str, dict[str, int]]:
    """The number of rows of each metric that every partition has, by deployment; each partition by the fields of `metrics`."""
    first, *others = partitions
    complete: dict[str, dict[str, int]] = {}
    for field in sorted(set(first).intersection(*others)):
        _, deployment_id, name = msgspec.json.decode(field, type=tuple[int, str, str])
        complete.setdefault(deployment_id, {})[name] = sum(int(counts[field]) for counts in partitions)
    return complete


def size_within(members: BitMap, within: BitMap | None) -> int:
    """How many members of a set are within another, if given."""
    return len(members) if within is None else members.intersection_cardinality(within)
