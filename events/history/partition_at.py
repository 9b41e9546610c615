"""A partition as it was at a vector: replayed by the code that replays it live, through every assignment change that is recorded."""

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
from events.fleet.merge_cache import MergeCache
from events.fleet.partition import Partition
from events.history.errors import HistoryDiffers
from events.history.snapshots import Snapshot, Snapshots
from events.log.events_ahead import EventsAhead
from events.log.fleet_events import FleetEventReader
from events.log.keys import name
from events.log.port import Log
from events.projection.driver import Driver
from events.projection.new_paths import NewPaths, read_twin
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

    `assignments` are those recorded that stood by then; `implied` is the one that follows and was not decided yet, where it is
    asked for. `is_final` says that no later decision can change this answer. It is the same for all times from `since` up to
    before `until` (milliseconds; `None`: for good): the next decision about these events was recorded then.
    """

    kept: StoredPartition
    assignment_changes: int
    implied: AssignmentEntry | None
    is_final: bool
    since: int
    until: int | None

    def is_as_of(self, decided_by: int | None) -> bool:
        """Whether it is what a time gives; `None` counts every decision about these events."""
        if decided_by is None:
            return self.until is None
        return self.since <= decided_by and (self.until is None or decided_by < self.until)

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes, with what Python adds to each small text: there are several of them for a device."""
        hashes = self.kept.hashes.values()
        small = itertools.chain.from_iterable(itertools.chain(fields, fields.values()) for fields in hashes)
        return sum(map(sys.getsizeof, itertools.chain(hashes, small, self.kept.arrays.values())))


class PastReplay:
    """Replays partitions of a log to vectors of the past. `recorded` has the assignment changes, and says how far live projections are.

    `snapshots` make it quick; without them it begins at the first event, and comes to the same.
    """

    def __init__(self, log: Log, recorded: ProjectionStore, snapshots: Snapshots | None) -> None:
        self._log, self._recorded, self._snapshots = log, recorded, snapshots
        self._fleet = FleetEventReader(log)
        self._merge = MergeCache()
        self._lock = threading.Lock()

    def fleet_events(self) -> FleetEventReader:
        """The fleet's events up to its head, or as far as they can be read: a moment before that needs no more of them.

        Raises:
            LogUnavailable: as `FleetEventReader.read_on`.
        """
        with self._lock:
            self._fleet.read_on()
        return self._fleet

    def implied(self, number: int, vector: Vector, *, decided_by: int | None = None) -> PartitionAt:
        """What follows from the events up to a vector, whoever had decided it by then; `decided_by` as for `in_effect`.

        Raises:
            CannotApply, UnreadableEvent, LogLostItsTail, LogUnavailable: as replaying does.
            HistoryDiffers: the events do not give the recorded assignment changes.
        """
        fleet = self.fleet_events()
        partition, base, (since, until) = self._replayed(number, vector, decided_by, fleet)
        recorded = partition.assignment_changes
        assignment_change = partition.resolve()
        partition.release_paths()
        writes = writes_of(partition, assignment_change, expected=base.checkpoint)
        is_final = vector.is_within(self._recorded.checkpoint(number).vector)
        return PartitionAt(_laid(base, writes), recorded, writes.assignment_change, is_final, since, until)

    def in_effect(self, number: int, vector: Vector, *, decided_by: int | None = None) -> PartitionAt:
        """What was in effect at a vector (decision 0029): as of the moment, where nothing was left to decide by then.

        Otherwise without the fleet's newest events, and else as of the last decision that counts: one that was recorded by
        `decided_by` (milliseconds), or any about these events.

        Raises:
            CannotApply, UnreadableEvent, LogLostItsTail, LogUnavailable, HistoryDiffers: as `implied`.
        """
        fleet = self.fleet_events()
        live = self._recorded.checkpoint(number).vector
        upto = Vector(min(vector.partition, live.partition), min(vector.fleet, live.fleet))
        is_final = vector.is_within(live)
        times: tuple[int, int | None] | None = None
        while True:
            partition, base, found = self._replayed(number, upto, decided_by, fleet)
            # With fewer events the last decision stays, but the next may be about others.
            times = times or found
            decided = partition.decided
            if partition.resolve() is None:
                partition.release_paths()
                writes = writes_of(partition, None, expected=base.checkpoint)
                return PartitionAt(_laid(base, writes), partition.assignment_changes, None, is_final, *times)
            assert upto != decided, "a recorded decision leaves nothing to decide"
            upto = Vector(upto.partition, decided.fleet) if upto.fleet != decided.fleet else decided

    def _replayed(
        self, number: int, upto: Vector, decided_by: int | None, fleet: FleetEventReader
    ) -> tuple[Partition, StoredPartition, tuple[int, int | None]]:
        """The partition at a vector, before what follows is decided; the stored form it began with; its times as in `PartitionAt`."""
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
        found = None if self._snapshots is None else self._snapshots.newest(number, upto)
        if self._snapshots is None or found is None or decided_by is None:
            return found
        passed = found.kept.checkpoint.assignment_changes
        if not passed or self._assignment_change(number, passed).effective_from <= decided_by:
            return found
        positions = range(1, passed + 1)
        count = bisect_right(positions, decided_by, key=lambda one: self._assignment_change(number, one).effective_from)
        return self._snapshots.newest(number, upto, before=_after(self._assignment_change(number, count + 1)))

    def _begin(
        self, number: int, upto: Vector, decided_by: int | None, fleet: FleetEventReader
    ) -> tuple[Partition, StoredPartition]:
        events = fleet.upto(upto.fleet)
        found = self._snapshot(number, upto, decided_by)
        if found is None:
            partition = Partition(number, self._merge)
            partition.hold_paths_of(events)
            return partition, _nothing_kept()
        kept = found.kept
        vector = kept.checkpoint.vector
        partition = restore(number, kept, events[: vector.fleet], self._merge)
        self._hold(partition, events[vector.fleet :], found)
        return partition, kept

    def _hold(self, partition: Partition, events: Sequence[Envelope[Any]], snapshot: Snapshot) -> None:
        """Index whatever is named on the way, from the documents that stood where the way begins."""
        missing = partition.paths_held_by(events)
        partition.hold_paths_of(events)
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


def _nothing_kept() -> StoredPartition:
    return StoredPartition(Checkpoint(), {one: {} for one in HASHES}, dict.fromkeys(ARRAYS, b""))


def _laid(base: StoredPartition, writes: Writes) -> StoredPartition:
    """The stored form after what one commit changes."""
    hashes = {one: dict(fields) for one, fields in base.hashes.items()}
    for one, fields in writes.hashes.items():
        for field, value in fields.items():
            if value is None:
                hashes[one].pop(field, None)
            else:
                hashes[one][field] = value
    arrays = dict(base.arrays)
    for one, ranges in writes.arrays.items():
        items = bytearray(arrays.get(one, b""))
        for offset, data in ranges:
            items.extend(bytes(max(0, offset + len(data) - len(items))))
            items[offset : offset + len(data)] = data
        arrays[one] = bytes(items)
    return StoredPartition(writes.checkpoint, hashes, arrays)
