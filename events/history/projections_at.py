"""Partitions as they were: replayed by the live code through every recorded assignment change, and cached (decisions/0029)."""

import itertools
import sys
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NoReturn

import msgspec
from typing_extensions import override

from events import canonical
from events.envelope import Vector
from events.fleet.assignments import AssignmentChange, MergeCache
from events.fleet.partition import Partition
from events.history.errors import HistoryDiffers, PastIsFixed
from events.history.point_in_time import PointInTime
from events.history.snapshots import Snapshot, Snapshots
from events.log.events_ahead import EventsAhead
from events.log.fleet_events import FleetEventReader
from events.log.keys import FLEET, name
from events.log.port import Log
from events.projection.driver import Driver
from events.projection.new_paths import NewPaths, read_twin
from events.projection_store.memory import LoadedProjections, apply_writes
from events.projection_store.port import Blocked, ProjectionStore
from events.stored_projection.partition_codec import restore, writes_of
from events.stored_projection.stored_partition import ARRAYS, HASHES, AssignmentEntry, Checkpoint, StoredPartition

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
        partition, base, times = self._replayed(number, vector, decided_by, self.fleet_events())
        recorded, assignment_change = partition.assignment_changes, partition.resolve()
        stored, implied = _stored_form(partition, base, assignment_change)
        is_final = vector.is_within(self._recorded.checkpoint(number).vector)
        return PartitionAt(stored, recorded, implied, is_final, *times)

    def in_effect(self, number: int, vector: Vector, *, decided_by: int | None = None) -> PartitionAt:
        """What was in effect at a vector (decisions/0029), as of the first of these that leaves nothing to decide.

        The vector itself; the vector with the fleet's position of the last decision that counts; that decision's vector.
        A decision counts if it was recorded by `decided_by` (milliseconds); with `None`, every decision about the events.

        Raises:
            CannotApply, UnreadableEvent, LogLostItsTail, LogUnavailable, HistoryDiffers: as `implied`.
        """
        fleet, live = self.fleet_events(), self._recorded.checkpoint(number).vector
        upto = Vector(min(vector.partition, live.partition), min(vector.fleet, live.fleet))
        times: tuple[int, int | None] | None = None
        while True:
            partition, base, replayed_times = self._replayed(number, upto, decided_by, fleet)
            # Fewer events keep the last decision, but not the time of the next, so the first round's times count.
            times = times or replayed_times
            decided = partition.decided
            if partition.resolve() is None:
                stored, _ = _stored_form(partition, base, None)
                return PartitionAt(stored, partition.assignment_changes, None, vector.is_within(live), *times)
            assert upto != decided, "a recorded decision leaves nothing to decide"
            upto = Vector(upto.partition, decided.fleet) if upto.fleet != decided.fleet else decided

    def _replayed(
        self, number: int, upto: Vector, decided_by: int | None, fleet: FleetEventReader
    ) -> tuple[Partition, StoredPartition, tuple[int, int | None]]:
        """The partition at a vector, with nothing decided there; the stored form it began with; times as in `PartitionAt`."""
        partition, base = self._begin(number, upto, decided_by, fleet)
        begun, skips = partition.vector.partition, partial(fleet.skipped, number)
        events = EventsAhead(self._log, number, skips=skips, after=begun, stops=(upto.partition,))
        driver, last, until = Driver(partition, events, fleet), partition.assignment_changes, None
        since = self._assignment_change(number, last).effective_from if last else 0
        for entry in self._assignment_changes(number, after=last):
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

    def _assignment_changes(self, number: int, *, after: int) -> Iterator[AssignmentEntry]:
        while entries := self._recorded.assignment_changes(number, after=after, limit=_ASSIGNMENT_CHANGES):
            yield from entries
            after = entries[-1].position

    def _assignment_change(self, number: int, position: int) -> AssignmentEntry:
        for entry in self._recorded.assignment_changes(number, after=position - 1, limit=1):
            return entry
        raise HistoryDiffers(name(number), position)

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
            empty = StoredPartition(Checkpoint(), {name: {} for name in HASHES}, dict.fromkeys(ARRAYS, b""))
            return partition, empty
        stored = snapshot.stored_partition
        position = stored.checkpoint.vector.fleet
        partition = restore(number, stored, events[:position], self._merge)
        # A snapshot's index has only what conditions named by then (decisions/0029). What later events name is filled from
        # the snapshot's documents.
        if missing := partition.hold_paths_of(events[position:]):
            paths = NewPaths(partition, missing)
            twins = {subject: read_twin(data) for subject, data in snapshot.documents.items()}
            for subject, twin in twins.items():
                device_id, _, module_id = subject.partition("/")
                device = twins.get(device_id)
                if device is not None and device.generation == twin.generation:
                    paths.fill(device_id, module_id, twin)
        return partition, stored


def _after(entry: AssignmentEntry) -> Vector:
    return msgspec.json.decode(entry.data, type=AssignmentChange).after


def _stored_form(
    partition: Partition, base: StoredPartition, assignment_change: AssignmentChange | None
) -> tuple[StoredPartition, AssignmentEntry | None]:
    """The stored form of a partition that began with `base`, after a commit, and the committed assignment change."""
    partition.release_paths()
    writes = writes_of(partition, assignment_change, expected=base.checkpoint)
    hashes = {hash_name: dict(fields) for hash_name, fields in base.hashes.items()}
    arrays = {array_name: bytearray(data) for array_name, data in base.arrays.items()}
    apply_writes(writes, hashes, arrays)
    arrays_stored = {array_name: bytes(data) for array_name, data in arrays.items()}
    return StoredPartition(writes.checkpoint, hashes, arrays_stored), writes.assignment_change


_Key = tuple[int, Vector, bool]
"""Partition, vector, and whether the implied state is requested."""


class PastPartitions:
    """Partitions as they were, for all requests of a process: a cache of at most `bytes_max` bytes."""

    def __init__(self, replay: PastReplay, *, bytes_max: int) -> None:
        self.replay, self._bytes_max = replay, bytes_max
        self._cache: OrderedDict[_Key, list[PartitionAt]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._in_progress: dict[_Key, threading.Lock] = {}

    def at(self, number: int, vector: Vector, *, implied: bool, decided_by: int | None = None) -> PartitionAt:
        """A partition as it was. Concurrent callers of the same partition wait for one replay.

        `decided_by` and exceptions are those of `PastReplay`.
        """
        key = (number, vector, implied)
        with self._lock:
            in_progress = self._in_progress.setdefault(key, threading.Lock())
        try:
            with in_progress:
                with self._lock:
                    if key in self._cache:
                        self._cache.move_to_end(key)
                    cached = self._cache.get(key, ())
                    partition = next((each for each in cached if each.is_as_of(decided_by)), None)
                if partition is None:
                    replay = self.replay.implied if implied else self.replay.in_effect
                    partition = replay(number, vector, decided_by=decided_by)
                    # While workers are behind, the answer can still change.
                    if partition.is_final:
                        self._keep(key, partition)
                return partition
        finally:
            # Also after an error: callers can name any number of points in time, and each lock would stay.
            with self._lock:
                self._in_progress.pop(key, None)

    def _keep(self, key: _Key, replayed: PartitionAt) -> None:
        with self._lock:
            self._cache.setdefault(key, []).append(replayed)
            self._cache.move_to_end(key)
            self._bytes += replayed.size_bytes
            while self._bytes > self._bytes_max and len(self._cache) > 1:
                _, oldest = self._cache.popitem(last=False)
                self._bytes -= sum(partition.size_bytes for partition in oldest)


class ProjectionsAt(LoadedProjections):
    """The projections of one request at a point in time: all of its reads see the same state."""

    def __init__(
        self, recorded: ProjectionStore, point_in_time: PointInTime, partitions: PastPartitions, *, implied: bool
    ) -> None:
        self._recorded, self._point_in_time = recorded, point_in_time
        self._partitions, self._implied = partitions, implied
        self._replayed: dict[int, PartitionAt] = {}

    def _of(self, partition: int) -> PartitionAt:
        if partition not in self._replayed:
            positions, decided_by = self._point_in_time.positions, self._point_in_time.decided_by
            vector = Vector(positions[partition], positions[FLEET])
            self._replayed[partition] = self._partitions.at(
                partition, vector, implied=self._implied, decided_by=decided_by
            )
        return self._replayed[partition]

    @override
    def checkpoint(self, partition: int) -> Checkpoint:
        """How far a partition was."""
        return self._of(partition).stored_partition.checkpoint

    @override
    def _hash(self, partition: int, name: str) -> dict[str, bytes]:
        return self._of(partition).stored_partition.hashes[name]

    @override
    def _array(self, partition: int, name: str) -> bytes:
        return self._of(partition).stored_partition.arrays[name]

    def commit(self, *_: object) -> NoReturn:
        """Raise `PastIsFixed`: nothing is committed in the past."""
        raise PastIsFixed

    commit_each = commit

    def states(self, partitions: Sequence[int]) -> dict[int, tuple[Checkpoint, Blocked | None]]:
        """How far several partitions were; none is blocked in the past."""
        return {partition: (self.checkpoint(partition), None) for partition in partitions}

    @override
    def assignment_changes(self, partition: int, *, after: int, limit: int) -> Sequence[AssignmentEntry]:
        """Assignment changes at positions after + 1 and on that were decided by then, and the implied one."""
        replayed = self._of(partition)
        left = min(limit, replayed.assignment_changes - after)
        entries = list(self._recorded.assignment_changes(partition, after=after, limit=left)) if left > 0 else []
        implied = replayed.implied
        if implied is not None and after < implied.position <= after + limit:
            entries.append(implied)
        return entries

    def blocked(self, _partition: int) -> None:
        """No partition is blocked in the past."""

    def blocked_among(self, _partitions: Sequence[int]) -> dict[int, Blocked]:
        """Return nothing: no partition is blocked in the past."""
        return {}

    def block(self, _partition: int, _blocked: Blocked | None) -> NoReturn:
        """Raise `PastIsFixed`: no partition is blocked in the past."""
        raise PastIsFixed
