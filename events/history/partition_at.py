"""A partition as it was at a vector, replayed by the live code through every recorded assignment change (decisions/0029)."""

import itertools
import sys
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from events import canonical
from events.envelope import Envelope, Vector
from events.fleet.assignment_change import AssignmentChange
from events.fleet.assignments import MergeCache
from events.fleet.partition import Partition
from events.history.errors import HistoryDiffers
from events.history.snapshots import Snapshot, Snapshots
from events.log.events_ahead import EventsAhead
from events.log.fleet_events import FleetEventReader
from events.log.keys import name
from events.log.port import Log
from events.projection.driver import Driver
from events.projection.new_paths import NewPaths, read_twin
from events.projection_store.memory import apply_writes
from events.projection_store.port import ProjectionStore
from events.stored_projection.partition_codec import restore, writes_of
from events.stored_projection.stored_partition import (
    ARRAYS,
    HASHES,
    AssignmentEntry,
    Checkpoint,
    StoredPartition,
    Writes,
)

_ASSIGNMENT_CHANGES = 500


class PartitionAt(msgspec.Struct, frozen=True):
    """A partition as it was.

    `assignment_changes` counts those recorded by then. `implied` is the next one that follows from the events but was not
    decided yet, if requested. `is_final` means that no later decision can change this answer. The answer is the same for all
    times from `since` up to, not including, `until` (milliseconds; `None`: for ever), when the next decision was recorded.
    """

    stored_partition: StoredPartition
    assignment_changes: int
    implied: AssignmentEntry | None
    is_final: bool
    since: int
    until: int | None

    def is_as_of(self, decided_by: int | None) -> bool:
        """Whether this is the answer for a time; `None` counts every decision about these events."""
        if decided_by is None:
            return self.until is None
        return self.since <= decided_by and (self.until is None or decided_by < self.until)

    @property
    def size_bytes(self) -> int:
        """The approximate memory that this takes."""
        # A device has several small texts, and Python's overhead of each is larger than its content.
        hashes = self.stored_partition.hashes.values()
        small = itertools.chain.from_iterable(itertools.chain(fields, fields.values()) for fields in hashes)
        return sum(map(sys.getsizeof, itertools.chain(hashes, small, self.stored_partition.arrays.values())))


class PastReplay:
    """Replays partitions of a log to vectors of the past.

    `recorded` has the assignment changes and the live checkpoints. `snapshots` only make the replay faster: without them it
    begins at the first event and gives the same result.
    """

    def __init__(self, log: Log, recorded: ProjectionStore, snapshots: Snapshots | None) -> None:
        self._log, self._recorded, self._snapshots = log, recorded, snapshots
        self._fleet = FleetEventReader(log)
        self._merge = MergeCache()
        self._lock = threading.Lock()

    def fleet_events(self) -> FleetEventReader:
        """The fleet's events up to its head, or up to the first that cannot be read.

        Raises:
            LogUnavailable: as `FleetEventReader.read_on`.
        """
        # No error for an unreadable event: a point in time before it can still be answered.
        with self._lock:
            self._fleet.read_on()
        return self._fleet

    def implied(self, number: int, vector: Vector, *, decided_by: int | None = None) -> PartitionAt:
        """What follows from the events up to a vector, decided by then or not; `decided_by` as for `in_effect`.

        Raises:
            CannotApply, UnreadableEvent, LogLostItsTail, LogUnavailable: events cannot be read or applied.
            HistoryDiffers: the events do not give the recorded assignment changes.
        """
        fleet = self.fleet_events()
        partition, base, (since, until) = self._replayed(number, vector, decided_by, fleet)
        recorded = partition.assignment_changes
        assignment_change = partition.resolve()
        partition.release_paths()
        writes = writes_of(partition, assignment_change, expected=base.checkpoint)
        is_final = vector.is_within(self._recorded.checkpoint(number).vector)
        return PartitionAt(_after_writes(base, writes), recorded, writes.assignment_change, is_final, since, until)

    def in_effect(self, number: int, vector: Vector, *, decided_by: int | None = None) -> PartitionAt:
        """What was in effect at a vector (decisions/0029), as of the first of these that leaves nothing to decide.

        The vector itself; the vector with the fleet's position of the last decision that counts; that decision's vector.
        A decision counts if it was recorded by `decided_by` (milliseconds); with `None`, every decision about the events.

        Raises:
            CannotApply, UnreadableEvent, LogLostItsTail, LogUnavailable, HistoryDiffers: as `implied`.
        """
        fleet = self.fleet_events()
        live = self._recorded.checkpoint(number).vector
        upto = Vector(min(vector.partition, live.partition), min(vector.fleet, live.fleet))
        is_final = vector.is_within(live)
        times: tuple[int, int | None] | None = None
        while True:
            partition, base, replayed_times = self._replayed(number, upto, decided_by, fleet)
            # Fewer events keep the last decision, but not the time of the next, so the first round's times count.
            times = times or replayed_times
            decided = partition.decided
            if partition.resolve() is None:
                partition.release_paths()
                writes = writes_of(partition, None, expected=base.checkpoint)
                return PartitionAt(_after_writes(base, writes), partition.assignment_changes, None, is_final, *times)
            assert upto != decided, "a recorded decision leaves nothing to decide"
            upto = Vector(upto.partition, decided.fleet) if upto.fleet != decided.fleet else decided

    def _replayed(
        self, number: int, upto: Vector, decided_by: int | None, fleet: FleetEventReader
    ) -> tuple[Partition, StoredPartition, tuple[int, int | None]]:
        """The partition at a vector, with nothing decided there; the stored form it began with; times as in `PartitionAt`."""
        partition, base = self._begin(number, upto, decided_by, fleet)
        driver = Driver(partition, self._events(partition, upto, fleet), fleet)
        since = (
            self._assignment_change(number, partition.assignment_changes).effective_from
            if partition.assignment_changes
            else 0
        )
        until = None
        for entry in self._assignment_changes(number, after=partition.assignment_changes):
            after = _after(entry)
            if not after.is_within(upto):
                break
            if decided_by is not None and entry.effective_from > decided_by:
                until = entry.effective_from
                break
            assignment_change = driver.decide(after)
            if assignment_change is None or canonical.encode(assignment_change) != entry.data:
                raise HistoryDiffers(name(number), entry.position)
            since = entry.effective_from
        driver.advance(upto)
        return partition, base, (since, until)

    def _events(self, partition: Partition, upto: Vector, fleet: FleetEventReader) -> EventsAhead:
        return EventsAhead(
            self._log,
            partition.number,
            skips=lambda: fleet.skipped(partition.number),
            after=partition.vector.partition,
            stops=(upto.partition,),
        )

    def _assignment_changes(self, number: int, *, after: int) -> Iterator[AssignmentEntry]:
        while entries := self._recorded.assignment_changes(number, after=after, limit=_ASSIGNMENT_CHANGES):
            yield from entries
            after = entries[-1].position

    def _assignment_change(self, number: int, position: int) -> AssignmentEntry:
        for entry in self._recorded.assignment_changes(number, after=position - 1, limit=1):
            return entry
        raise HistoryDiffers(name(number), position)

    # -- where to begin

    def _snapshot(self, number: int, upto: Vector, decided_by: int | None) -> Snapshot | None:
        """The newest snapshot that has no later events, and no later decisions."""
        if self._snapshots is None:
            return None
        snapshot = self._snapshots.newest(number, upto)
        if snapshot is None or decided_by is None:
            return snapshot
        last = snapshot.stored_partition.checkpoint.assignment_changes
        if not last or self._assignment_change(number, last).effective_from <= decided_by:
            return snapshot
        # Recorded times never fall, so that a binary search finds the last decision that counts (decisions/0029).
        positions = range(1, last + 1)
        count = bisect_right(
            positions, decided_by, key=lambda position: self._assignment_change(number, position).effective_from
        )
        return self._snapshots.newest(number, upto, before=_after(self._assignment_change(number, count + 1)))

    def _begin(
        self, number: int, upto: Vector, decided_by: int | None, fleet: FleetEventReader
    ) -> tuple[Partition, StoredPartition]:
        events = fleet.upto(upto.fleet)
        snapshot = self._snapshot(number, upto, decided_by)
        if snapshot is None:
            partition = Partition(number, self._merge)
            partition.hold_paths_of(events)
            return partition, _empty_stored_partition()
        stored = snapshot.stored_partition
        vector = stored.checkpoint.vector
        partition = restore(number, stored, events[: vector.fleet], self._merge)
        self._hold(partition, events[vector.fleet :], snapshot)
        return partition, stored

    def _hold(self, partition: Partition, events: Sequence[Envelope[Any]], snapshot: Snapshot) -> None:
        """Index the properties that later events name, from the documents of the snapshot."""
        # A snapshot's index has only what conditions named by then (decisions/0029).
        missing = partition.hold_paths_of(events)
        if not missing:
            return
        paths = NewPaths(partition, missing)
        twins = {subject: read_twin(data) for subject, data in snapshot.documents().items()}
        for subject, twin in twins.items():
            device_id, _, module_id = subject.partition("/")
            device = twins.get(device_id)
            if device is not None and device.generation == twin.generation:
                paths.fill(device_id, module_id, twin)


def _after(entry: AssignmentEntry) -> Vector:
    return msgspec.json.decode(entry.data, type=AssignmentChange).after


def _empty_stored_partition() -> StoredPartition:
    return StoredPartition(Checkpoint(), {hash_name: {} for hash_name in HASHES}, dict.fromkeys(ARRAYS, b""))


def _after_writes(base: StoredPartition, writes: Writes) -> StoredPartition:
    """The stored form after the writes of a commit."""
    hashes = {hash_name: dict(fields) for hash_name, fields in base.hashes.items()}
    arrays = {array_name: bytearray(data) for array_name, data in base.arrays.items()}
    apply_writes(writes, hashes, arrays)
    return StoredPartition(writes.checkpoint, hashes, {array_name: bytes(data) for array_name, data in arrays.items()})
