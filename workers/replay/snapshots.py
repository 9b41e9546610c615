"""Compares the snapshots of a partition with what the events give at their vectors."""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from events.envelope import Vector
from events.fleet.partition import Partition
from events.history.errors import SnapshotDamaged, SnapshotGone
from events.history.snapshots import Snapshot, Snapshots
from events.projection_store.memory import MemoryProjectionStore
from events.stored_projection.partition_codec import writes_of
from events.stored_projection.stored_partition import StoredPartition
from workers.replay.documents import ReplayedDocuments
from workers.replay.first_difference import difference_of_bytes
from workers.replay.partition_replay import PartitionReplay
from workers.replay.projections import differences
from workers.replay.report import ReplayDifference


class SnapshotComparison:
    """Compares the snapshots of one partition in the order of their vectors, while the partition is replayed."""

    def __init__(
        self,
        snapshots: Snapshots | None,
        number: int,
        documents: ReplayedDocuments,
        add_differences: Callable[[Iterable[ReplayDifference]], None],
    ) -> None:
        """`documents` are at the partition's position at every stop; `add_differences` takes what differs."""
        self._snapshots, self._number, self._documents = snapshots, number, documents
        self._add_differences = add_differences
        names = [] if snapshots is None else list(snapshots.names(number))
        vectors = [] if snapshots is None else snapshots.vectors(number)
        self._waiting = list(zip(vectors, names, strict=True))
        # A store follows the partition from stop to stop, so that each comparison writes only what changed.
        self._store = MemoryProjectionStore()
        self._first: Snapshot | None = None
        self.compared = 0

    @property
    def stops(self) -> list[int]:
        """The positions at which documents are compared."""
        return [vector.partition for vector, _ in self._waiting]

    def stops_between(self, after: Vector, upto: Vector) -> Iterator[Vector]:
        """The vectors of the snapshots between two vectors, without both ends."""
        while self._waiting:
            vector = self._waiting[0][0]
            if vector == upto or not vector.is_within(upto):
                return
            # A snapshot of events that the log lost can have a vector that the replay never reaches.
            if self._next() is not None and after.is_within(vector) and vector != after:
                yield vector
            if self._waiting and self._waiting[0][0] == vector:
                self._drop()

    def observe(self, replay: PartitionReplay) -> None:
        """Compare the snapshot at the partition's vector, if there is one."""
        if self._waiting and self._waiting[0][0] == replay.partition.vector:
            snapshot = self._next()
            if snapshot is not None:
                self.compared += 1
                self._add_differences(self._differences(replay.partition, snapshot))
                self._drop()

    def end(self) -> None:
        """Report the damaged snapshots among those that were not reached; the undamaged ones are newer than this replay."""
        while self._waiting:
            if self._next() is not None:
                self._drop()

    def _next(self) -> Snapshot | None:
        """The next snapshot; `None` if it is gone or damaged. Such a snapshot is dropped, and damage is reported."""
        assert self._snapshots is not None
        file_name = self._waiting[0][1]
        if self._first is None:
            try:
                self._first = self._snapshots.read(self._number, file_name)
            except SnapshotGone:
                # Snapshots that are no longer needed are deleted while a replay runs.
                self._drop()
            except SnapshotDamaged as error:
                self._drop()
                self.compared += 1
                self._add_differences([ReplayDifference("snapshot", file_name, stored=error.why)])
        return self._first

    def _drop(self) -> None:
        self._waiting.pop(0)
        self._first = None

    def _differences(self, partition: Partition, snapshot: Snapshot) -> Iterator[ReplayDifference]:
        file_name, stored = self._waiting[0][1], snapshot.stored_partition
        for difference in differences(self._number, stored, self._at_snapshot(partition, stored)):
            yield msgspec.structs.replace(difference, kind="snapshot", location=f"{file_name} {difference.location}")
        documents = snapshot.documents()
        for subject in sorted({*documents, *self._documents.subjects()}):
            document_difference = difference_of_bytes(documents.get(subject), self._documents.document(subject))
            if document_difference is not None:
                yield ReplayDifference("snapshot", f"{file_name} {subject}", *document_difference)

    def _at_snapshot(self, partition: Partition, stored: StoredPartition) -> StoredPartition:
        """The stored form of a partition in the middle of its replay, with the index that a worker had then."""
        partition.rebuilt = stored.checkpoint.rebuilt
        replayed = self.stored_form(partition)
        # A replay indexes from the start what any later condition names (decisions/0012); a worker had not yet.
        index = {
            field: data
            for field, data in replayed.hashes["index"].items()
            if stored.checkpoint.is_indexed(tuple(msgspec.json.decode(field)[0]))
        }
        # A tag goes over its budget of values only when no condition names it; in the replay that is later.
        checkpoint = msgspec.structs.replace(replayed.checkpoint, over_budget=stored.checkpoint.over_budget)
        return StoredPartition(checkpoint, {**replayed.hashes, "index": index}, replayed.arrays)

    def stored_form(self, partition: Partition) -> StoredPartition:
        """The stored form of the partition as it is now."""
        checkpoint = self._store.checkpoint(self._number)
        assert self._store.commit(self._number, writes_of(partition, None, expected=checkpoint))
        return self._store.load(self._number)
