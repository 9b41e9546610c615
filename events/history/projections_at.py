"""The projections as they were at a point in time; each partition is replayed when it is read."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import NoReturn

from typing_extensions import override

from events.envelope import Vector
from events.history.errors import PastIsFixed
from events.history.partition_at import PartitionAt, PastReplay
from events.history.point_in_time import PointInTime
from events.log.keys import FLEET
from events.projection_store.memory import LoadedProjections
from events.projection_store.port import Blocked, ProjectionStore
from events.stored_projection.stored_partition import AssignmentEntry, Checkpoint, Writes

_Key = tuple[int, Vector, bool]
"""Partition, vector, and whether the implied state is requested."""


class PastPartitions:
    """Partitions as they were, for all requests of a process: a cache of at most `bytes_max` bytes."""

    def __init__(self, replay: PastReplay, *, bytes_max: int) -> None:
        self._replay, self._bytes_max = replay, bytes_max
        self._cache: OrderedDict[_Key, list[PartitionAt]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._in_progress: dict[_Key, threading.Lock] = {}

    @property
    def replay(self) -> PastReplay:
        """What replays them."""
        return self._replay

    def at(self, number: int, vector: Vector, *, implied: bool, decided_by: int | None = None) -> PartitionAt:
        """A partition as it was. Concurrent callers of the same partition wait for one replay.

        `decided_by` and exceptions are those of `PastReplay`.
        """
        key = (number, vector, implied)
        with self._lock:
            in_progress = self._in_progress.setdefault(key, threading.Lock())
        try:
            with in_progress:
                partition = self._cached(key, decided_by)
                if partition is None:
                    replay = self._replay.implied if implied else self._replay.in_effect
                    partition = replay(number, vector, decided_by=decided_by)
                    # While workers are behind, the answer can still change.
                    if partition.is_final:
                        self._keep(key, partition)
                return partition
        finally:
            # Also after an error: callers can name any number of points in time, and each lock would stay.
            with self._lock:
                self._in_progress.pop(key, None)

    def _cached(self, key: _Key, decided_by: int | None) -> PartitionAt | None:
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
            return next((partition for partition in self._cache.get(key, ()) if partition.is_as_of(decided_by)), None)

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
        self._recorded, self._point_in_time, self._partitions, self._implied = (
            recorded,
            point_in_time,
            partitions,
            implied,
        )
        self._replayed: dict[int, PartitionAt] = {}

    def _of(self, partition: int) -> PartitionAt:
        partition_at = self._replayed.get(partition)
        if partition_at is None:
            vector = Vector(self._point_in_time.positions[partition], self._point_in_time.positions[FLEET])
            partition_at = self._replayed[partition] = self._partitions.at(
                partition, vector, implied=self._implied, decided_by=self._point_in_time.decided_by
            )
        return partition_at

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

    def commit(self, _partition: int, _writes: Writes) -> NoReturn:
        """Raise `PastIsFixed`: nothing is committed in the past."""
        raise PastIsFixed

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

    def block(self, _partition: int, _blocked: Blocked | None) -> NoReturn:
        """Raise `PastIsFixed`: no partition is blocked in the past."""
        raise PastIsFixed
