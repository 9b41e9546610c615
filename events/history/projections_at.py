"""The projections as they were at a moment, replayed partition by partition when somebody asks."""

import threading
from collections import OrderedDict
from collections.abc import Sequence

from typing_extensions import override

from events.envelope import Vector
from events.history.errors import PastIsFixed
from events.history.partition_at import PartitionAt, PastReplay
from events.history.point_in_time import PointInTime
from events.log.keys import FLEET
from events.projection_store.port import Blocked, ProjectionStore
from events.projection_store.whole import WholeProjections
from events.stored_projection.stored_partition import AssignmentEntry, Checkpoint, Writes

Key = tuple[int, Vector, bool]
"""Partition, vector, and whether what was implied is asked for."""


class PastPartitions:
    """Partitions as they were, for all requests of a process: each is replayed once, and the newest are kept."""

    def __init__(self, replay: PastReplay, *, bytes_max: int) -> None:
        self._replay, self._bytes_max = replay, bytes_max
        self._kept: OrderedDict[Key, list[PartitionAt]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._at_work: dict[Key, threading.Lock] = {}

    @property
    def replay(self) -> PastReplay:
        """What replays them."""
        return self._replay

    def at(self, number: int, vector: Vector, *, implied: bool, decided_by: int | None = None) -> PartitionAt:
        """A partition as it was; who asks for the same at once waits for the one replaying. `decided_by` as `PastReplay` has it.

        Raises:
            Exception: as `PastReplay` does.
        """
        wanted = (number, vector, implied)
        with self._lock:
            at_work = self._at_work.setdefault(wanted, threading.Lock())
        try:
            with at_work:
                found = self._look(wanted, decided_by)
                if found is None:
                    apply = self._replay.implied if implied else self._replay.in_effect
                    found = apply(number, vector, decided_by=decided_by)
                    if found.is_final:
                        self._keep(wanted, found)
                return found
        finally:
            # However it ended: there are as many moments as somebody cares to ask for.
            with self._lock:
                self._at_work.pop(wanted, None)

    def _look(self, wanted: Key, decided_by: int | None) -> PartitionAt | None:
        with self._lock:
            if wanted in self._kept:
                self._kept.move_to_end(wanted)
            return next((one for one in self._kept.get(wanted, ()) if one.is_as_of(decided_by)), None)

    def _keep(self, wanted: Key, replayed: PartitionAt) -> None:
        with self._lock:
            self._kept.setdefault(wanted, []).append(replayed)
            self._kept.move_to_end(wanted)
            self._bytes += replayed.size_bytes
            while self._bytes > self._bytes_max and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= sum(one.size_bytes for one in oldest)


class ProjectionsAt(WholeProjections):
    """One for each request: all of its reads are of one and the same state."""

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
        found = self._replayed.get(partition)
        if found is None:
            vector = Vector(self._point_in_time.positions[partition], self._point_in_time.positions[FLEET])
            found = self._replayed[partition] = self._partitions.at(
                partition, vector, implied=self._implied, decided_by=self._point_in_time.decided_by
            )
        return found

    @override
    def checkpoint(self, partition: int) -> Checkpoint:
        """How far a partition was."""
        return self._of(partition).kept.checkpoint

    @override
    def _hash(self, partition: int, name: str) -> dict[str, bytes]:
        return self._of(partition).kept.hashes[name]

    @override
    def _array(self, partition: int, name: str) -> bytes:
        return self._of(partition).kept.arrays[name]

    def commit(self, partition: int, writes: Writes) -> bool:
        """Refuse.

        Raises:
            PastIsFixed: always.
        """
        del partition, writes
        raise PastIsFixed

    @override
    def assignment_changes(self, partition: int, *, after: int, limit: int) -> Sequence[AssignmentEntry]:
        """Assignment changes at positions after + 1 and on, as far as they were decided, or are implied."""
        replayed = self._of(partition)
        left = min(limit, replayed.assignment_changes - after)
        entries = list(self._recorded.assignment_changes(partition, after=after, limit=left)) if left > 0 else []
        implied = replayed.implied
        if implied is not None and after < implied.position <= after + limit:
            entries.append(implied)
        return entries

    def blocked(self, partition: int) -> Blocked | None:
        """Nobody waits in the past."""
        del partition
        return None

    def block(self, partition: int, blocked: Blocked | None) -> None:
        """Refuse.

        Raises:
            PastIsFixed: always.
        """
        del partition, blocked
        raise PastIsFixed
