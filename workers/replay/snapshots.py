"""Snapshots of the history held against what the facts give at their vectors, on the way past them."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from events.canonical import Json
from events.envelope import Vector
from events.fleet.partition import Partition
from events.history.errors import SnapshotDamaged, SnapshotGone
from events.history.snapshots import Snapshot, Snapshots
from events.view_store.memory import MemoryViewStore
from events.views.keeping import writes_of
from events.views.kept import Kept
from workers.replay.differing import difference_of_bytes
from workers.replay.documents import Folded
from workers.replay.folding import Folding, Step
from workers.replay.report import Difference
from workers.replay.views import differences


class SnapshotsPassed:
    """The snapshots of one partition in the order of their vectors; what is kept of it is followed from one to the next."""

    def __init__(
        self, snapshots: Snapshots | None, number: int, documents: Folded, found: Callable[[Iterable[Difference]], None]
    ) -> None:
        """`documents` are folded as far as the partition is wherever it stops; `found` takes what differs."""
        self._snapshots, self._number, self._documents, self.found = snapshots, number, documents, found
        names = [] if snapshots is None else list(snapshots.names(number))
        vectors = [] if snapshots is None else snapshots.vectors(number)
        self.waiting = list(zip(vectors, names, strict=True))
        self._kept = MemoryViewStore()
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
            # One of facts that were lost stands where the folding may never come by.
            if self._look() is not None and after.is_within(vector) and vector != after:
                yield vector
            if self.waiting and self.waiting[0][0] == vector:
                self._drop()

    def pass_by(self, folding: Folding, step: Step) -> None:
        """Compare the snapshot that stands where the folding stands, if there is one."""
        del step  # What is decided and not recorded is found by the outcome that comes next.
        if self.waiting and self.waiting[0][0] == folding.partition.vector:
            snapshot = self._look()
            if snapshot is not None:
                self.compared += 1
                self.found(self._differences(folding.partition, snapshot))
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
                self.found([Difference("snapshot", where, stored=error.why)])
        return self._first

    def _drop(self) -> None:
        self.waiting.pop(0)
        self._first = None

    def _differences(self, partition: Partition, snapshot: Snapshot) -> Iterator[Difference]:
        where = self.waiting[0][1]
        stored = snapshot.kept
        folded = self._as_kept(partition, stored)
        for one in differences(self._number, stored, folded):
            yield msgspec.structs.replace(one, kind="snapshot", place=f"{where} {one.place}")
        yield from _documents(where, snapshot.documents(), self._documents)

    def _as_kept(self, partition: Partition, stored: Kept) -> Kept:
        """The kept form of a partition that goes on: without the properties that are indexed ahead of their time."""
        partition.rebuilt = stored.checkpoint.rebuilt
        folded = self.kept(partition)
        index = {
            field: data for field, data in folded.hashes["index"].items() if stored.checkpoint.is_indexed(_path(field))
        }
        # Whether a tag has too many values counts from when it is no longer named, which lies ahead.
        checkpoint = msgspec.structs.replace(folded.checkpoint, over_budget=stored.checkpoint.over_budget)
        return Kept(checkpoint, {**folded.hashes, "index": index}, folded.arrays)

    def kept(self, partition: Partition) -> Kept:
        """The kept form of a partition as it is by now."""
        former = self._kept.checkpoint(self._number)
        assert self._kept.commit(self._number, writes_of(partition, None, expected=former))
        return self._kept.load(self._number)


def _path(field: str) -> tuple[str, ...]:
    path, _, _ = msgspec.json.decode(field, type=tuple[tuple[str, ...], str, Json])
    return path


def _documents(where: str, stored: Mapping[str, bytes], folded: Folded) -> Iterator[Difference]:
    for subject in sorted({*stored, *folded.subjects()}):
        found = difference_of_bytes(stored.get(subject), folded.document(subject))
        if found is not None:
            path, one, other = found
            yield Difference("snapshot", f"{where} {subject}", path=path, stored=one, folded=other)
