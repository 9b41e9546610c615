"""Snapshots of the history held against what the events give at their vectors, on the way past them."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from events.canonical import Json
from events.envelope import Vector
from events.fleet.partition import Partition
from events.history.errors import SnapshotDamaged, SnapshotGone
from events.history.snapshots import Snapshot, Snapshots
from events.projection_store.memory import MemoryProjectionStore
from events.stored_projection.partition_codec import writes_of
from events.stored_projection.stored_partition import StoredPartition
from workers.replay.documents import ReplayedDocuments
from workers.replay.first_difference import difference_of_bytes
from workers.replay.partition_replay import PartitionReplay, Step
from workers.replay.projections import differences
from workers.replay.report import ReplayDifference


class SnapshotsPassed:
    """The snapshots of one partition in the order of their vectors; what is kept of it is followed from one to the next."""

    def __init__(
        self,
        snapshots: Snapshots | None,
        number: int,
        documents: ReplayedDocuments,
        found: Callable[[Iterable[ReplayDifference]], None],
    ) -> None:
        """`documents` are replayed as far as the partition is wherever it stops; `found` takes what differs."""
        self._snapshots, self._number, self._documents, self.found = snapshots, number, documents, found
        names = [] if snapshots is None else list(snapshots.names(number))
        vectors = [] if snapshots is None else snapshots.vectors(number)
        self.waiting = list(zip(vectors, names, strict=True))
        self._kept = MemoryProjectionStore()
        self._first: Snapshot | None = None
        self.compared = 0

    @property
    def stops(self) -> list[int]:
        """The positions at which documents are to be looked at."""
        return [vector.partition for vector, _ in self.waiting]

    def before(self, after: Vector, upto: Vector) -> Iterator[Vector]:
        """The vectors of those to be passed on the way, without its end."""
        while self.waiting:
            vector = self.waiting[0][0]
            if vector == upto or not vector.is_within(upto):
                return
            # One of events that were lost stands where the replaying may never come by.
            if self._look() is not None and after.is_within(vector) and vector != after:
                yield vector
            if self.waiting and self.waiting[0][0] == vector:
                self._drop()

    def pass_by(self, replay: PartitionReplay, step: Step) -> None:
        """Compare the snapshot that stands where the replaying stands, if there is one."""
        del step  # What is decided and not recorded is found by the assignment change that comes next.
        if self.waiting and self.waiting[0][0] == replay.partition.vector:
            snapshot = self._look()
            if snapshot is not None:
                self.compared += 1
                self.found(self._differences(replay.partition, snapshot))
                self._drop()

    def end(self) -> None:
        """Tell of the damaged ones among those that lie ahead; the others are newer than this look."""
        while self.waiting:
            if self._look() is not None:
                self._drop()

    def _look(self) -> Snapshot | None:
        """The first one that waits; `None` where it is gone or damaged, which is told, and it waits no more."""
        assert self._snapshots is not None
        where = self.waiting[0][1]
        if self._first is None:
            try:
                self._first = self._snapshots.read(self._number, where)
            except SnapshotGone:
                self._drop()
            except SnapshotDamaged as error:
                self._drop()
                self.compared += 1
                self.found([ReplayDifference("snapshot", where, stored=error.why)])
        return self._first

    def _drop(self) -> None:
        self.waiting.pop(0)
        self._first = None

    def _differences(self, partition: Partition, snapshot: Snapshot) -> Iterator[ReplayDifference]:
        where = self.waiting[0][1]
        stored = snapshot.kept
        replayed = self._as_kept(partition, stored)
        for one in differences(self._number, stored, replayed):
            yield msgspec.structs.replace(one, kind="snapshot", location=f"{where} {one.location}")
        yield from _documents(where, snapshot.documents(), self._documents)

    def _as_kept(self, partition: Partition, stored: StoredPartition) -> StoredPartition:
        """The stored form of a partition that goes on: without the properties that are indexed ahead of their time."""
        partition.rebuilt = stored.checkpoint.rebuilt
        replayed = self.kept(partition)
        index = {
            field: data
            for field, data in replayed.hashes["index"].items()
            if stored.checkpoint.is_indexed(_path(field))
        }
        # Whether a tag has too many values counts from when it is no longer named, which lies ahead.
        checkpoint = msgspec.structs.replace(replayed.checkpoint, over_budget=stored.checkpoint.over_budget)
        return StoredPartition(checkpoint, {**replayed.hashes, "index": index}, replayed.arrays)

    def kept(self, partition: Partition) -> StoredPartition:
        """The stored form of a partition as it is by now."""
        former = self._kept.checkpoint(self._number)
        assert self._kept.commit(self._number, writes_of(partition, None, expected=former))
        return self._kept.load(self._number)


def _path(field: str) -> tuple[str, ...]:
    path, _, _ = msgspec.json.decode(field, type=tuple[tuple[str, ...], str, Json])
    return path


def _documents(where: str, stored: Mapping[str, bytes], replayed: ReplayedDocuments) -> Iterator[ReplayDifference]:
    for subject in sorted({*stored, *replayed.subjects()}):
        found = difference_of_bytes(stored.get(subject), replayed.document(subject))
        if found is not None:
            path, one, other = found
            yield ReplayDifference("snapshot", f"{where} {subject}", path=path, stored=one, replayed=other)
