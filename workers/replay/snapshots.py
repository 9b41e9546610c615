"""Replays a partition, and compares its snapshots with what the events give at their vectors."""

from collections.abc import Iterator, Mapping

import msgspec
from typing_extensions import override

from events.envelope import Vector
from events.fleet.assignments import MergeCache
from events.history.errors import SnapshotDamaged, SnapshotGone
from events.history.snapshots import Snapshot, Snapshots
from events.log.documents import Documents
from events.log.events_ahead import EventsAhead
from events.log.fleet_events import FleetEventReader
from events.projection_store.memory import MemoryProjectionStore
from events.stored_projection.partition_codec import writes_of
from events.stored_projection.stored_partition import AssignmentEntry, StoredPartition
from workers.replay.first_difference import difference_of_bytes
from workers.replay.partition_replay import PartitionReplay, Step
from workers.replay.projections import differences
from workers.replay.report import Compared, ReplayDifference


class SnapshotReplay(PartitionReplay):
    """Replays a partition through the vectors of its snapshots, and compares each."""

    def __init__(
        self,
        *,
        events: EventsAhead,
        fleet: FleetEventReader,
        merge: MergeCache,
        snapshots: Snapshots | None,
        files: Mapping[Vector, str],
        documents: Documents,
        compared: Compared,
    ) -> None:
        """`files` of snapshots are in order; `documents` are at the partition's position at each of their vectors.

        `compared` takes the number of snapshots, and what differs.
        """
        super().__init__(compared.stream, events=events, fleet=fleet, merge=merge)
        self._snapshots, self._waiting = snapshots, list(files.items())
        self._documents, self._compared = documents, compared
        # A store follows the partition from stop to stop, so that each comparison writes only what changed.
        self._store = MemoryProjectionStore()
        self._first: Snapshot | None = None

    @override
    def replay_to(self, vector: Vector) -> None:
        """As `PartitionReplay.replay_to`, with a decision at each snapshot."""
        for stop in self._stops_before(vector):
            super().replay_to(stop)
            # A worker committed here and decided nothing, so the replay resolves here as well.
            self.decide(self.partition.assignment_changes + 1, None)
        super().replay_to(vector)

    @override
    def decide(self, position: int, recorded: AssignmentEntry | None) -> Step:
        """Decide, then compare the snapshot at the present vector, if there is one."""
        step = super().decide(position, recorded)
        if self._waiting and self._waiting[0][0] == step.after:
            snapshot = self._next()
            if snapshot is not None:
                self._compared.snapshots += 1
                self._compared.add(self._differences(snapshot))
                self._drop()
        return step

    def _stops_before(self, upto: Vector) -> Iterator[Vector]:
        """The vectors of the snapshots between the present vector and a later one, without both ends."""
        after = self.partition.vector
        while self._waiting:
            vector = self._waiting[0][0]
            if vector == upto or not vector.is_within(upto):
                return
            # A snapshot of events that the log lost can have a vector that the replay never reaches.
            if self._next() is not None and after.is_within(vector) and vector != after:
                yield vector
            if self._waiting and self._waiting[0][0] == vector:
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
                self._first = self._snapshots.read(self.partition.number, file_name)
            except SnapshotGone:
                # Snapshots that are no longer needed are deleted while a replay runs.
                self._drop()
            except SnapshotDamaged as error:
                self._drop()
                self._compared.snapshots += 1
                self._compared.add([ReplayDifference("snapshot", file_name, stored=error.why)])
        return self._first

    def _drop(self) -> None:
        self._waiting.pop(0)
        self._first = None

    def _differences(self, snapshot: Snapshot) -> Iterator[ReplayDifference]:
        file_name, stored = self._waiting[0][1], snapshot.stored_partition
        for difference in differences(self.partition.number, stored, self._at_snapshot(stored)):
            yield msgspec.structs.replace(difference, kind="snapshot", location=f"{file_name} {difference.location}")
        documents = snapshot.documents
        for subject in sorted({*documents, *self._documents.subjects()}):
            document_difference = difference_of_bytes(documents.get(subject), self._documents.document(subject))
            if document_difference is not None:
                yield ReplayDifference("snapshot", f"{file_name} {subject}", *document_difference)

    def _at_snapshot(self, stored: StoredPartition) -> StoredPartition:
        """The stored form in the middle of the replay, with the index that a worker had then."""
        self.partition.rebuilt = stored.checkpoint.rebuilt
        replayed = self.stored_form()
        # A replay indexes from the start what any later condition names (decisions/0012); a worker had not yet.
        index = {
            field: data
            for field, data in replayed.hashes["index"].items()
            if stored.checkpoint.is_indexed(tuple(msgspec.json.decode(field)[0]))
        }
        # A tag goes over its budget of values only when no condition names it; in the replay that is later.
        checkpoint = msgspec.structs.replace(replayed.checkpoint, over_budget=stored.checkpoint.over_budget)
        return StoredPartition(checkpoint, {**replayed.hashes, "index": index}, replayed.arrays)

    def stored_form(self) -> StoredPartition:
        """The stored form of the partition as it is now."""
        number = self.partition.number
        writes = writes_of(self.partition, None, expected=self._store.checkpoint(number))
        assert self._store.commit(number, writes)
        return self._store.load(number)
