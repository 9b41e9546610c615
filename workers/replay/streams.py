"""Replays one stream of the log and compares the result with what is stored of it."""

import itertools
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from events.envelope import Envelope, Vector
from events.fleet.assignment_change import AssignmentChange
from events.fleet.assignments import MergeCache
from events.fleet.errors import CannotApply
from events.garbage_collection import rare_collection
from events.history.snapshots import Snapshots
from events.log.documents import DeviceDocuments, FleetDocuments
from events.log.errors import LogLostItsTail, UnreadableEvent
from events.log.events_ahead import EventsAhead
from events.log.fleet_events import FleetEventReader
from events.log.keys import FLEET, device_of, name
from events.log.port import Log
from events.projection_store.port import ProjectionStore
from events.stored_projection.partition_codec import cause_of
from events.stored_projection.stored_partition import AssignmentEntry, StoredPartition
from workers.replay.documents import DocumentComparison
from workers.replay.event_trace import traced
from workers.replay.first_difference import FirstDifference, difference_of_bytes, first_difference
from workers.replay.partition_replay import PartitionReplay, RecordedChanges, Step, assignment_change_in
from workers.replay.projections import count_of, differences
from workers.replay.report import NAMED_MAX, Compared, ReplayDifference
from workers.replay.snapshots import SnapshotComparison

CannotBeRead = (UnreadableEvent, LogLostItsTail, CannotApply)
ReportProgress = Callable[[int], None]
"""Takes the number of events of the stream that are replayed."""

_DEVICES_NAMED = 5
_NO_END = 2**63


class NamedDifferences:
    """Collects differences: the first `NAMED_MAX` of each kind, and the number of further ones."""

    def __init__(self) -> None:
        self._by_kind: dict[str, list[ReplayDifference]] = {}
        self.more = 0

    def add(self, new_differences: Iterable[ReplayDifference]) -> None:
        """Add differences."""
        for difference in new_differences:
            same_kind = self._by_kind.setdefault(difference.kind, [])
            if len(same_kind) < NAMED_MAX:
                same_kind.append(difference)
            else:
                self.more += 1

    @property
    def named(self) -> tuple[ReplayDifference, ...]:
        """The differences that are named."""
        return tuple(itertools.chain.from_iterable(self._by_kind.values()))


class Replay:
    """Replays streams of a log from events alone. What is stored is only compared, never used."""

    def __init__(
        self,
        log: Log,
        recorded: RecordedChanges,
        projections: ProjectionStore | None,
        *,
        upto: Callable[[int], int | None] = lambda _stream: None,
        snapshots: Snapshots | None = None,
    ) -> None:
        """`upto` returns the last position of a stream to replay; `None` is the newest.

        Without `projections`, as for an archive, only assignment changes are compared, and `upto` must name an end.
        """
        self._log, self._recorded, self._projections, self._upto = log, recorded, projections, upto
        self._snapshots = snapshots
        self._fleet = FleetEventReader(log)
        self._merge = MergeCache()

    def stream(self, stream: int, tell: ReportProgress = lambda _position: None) -> Compared:
        """Replay one stream and compare.

        Raises:
            LogUnavailable: Redis did not answer.
            LogLostItsTail, UnreadableEvent, CannotApply: an event before the recorded checkpoint cannot be read or applied.
        """
        # Python's garbage collector alone took a third of the time of a replay (decisions/0030).
        with rare_collection():
            return self._compared(stream, tell)

    def _compared(self, stream: int, tell: ReportProgress) -> Compared:
        began, cpu = time.monotonic(), time.process_time()
        self._fleet.read_on()
        compared = self._of_fleet(tell) if stream == FLEET else self._of_partition(stream, tell)
        position = compared.events + compared.skipped
        named = traced(
            self._log, stream, compared.differences, skips=lambda: self._fleet.skipped(stream), upto=position
        )
        compared = msgspec.structs.replace(compared, differences=named)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return msgspec.structs.replace(
            compared, seconds=time.monotonic() - began, cpu_seconds=time.process_time() - cpu, memory_bytes_max=peak
        )

    # -- the fleet's stream: documents alone

    def _of_fleet(self, tell: ReportProgress) -> Compared:
        comparison = DocumentComparison(self._log, FLEET, FleetDocuments())
        upto = self._upto(FLEET)
        events = EventsAhead(
            self._log,
            FLEET,
            skips=lambda: self._fleet.skipped(FLEET),
            seen=_reporting(comparison.apply, tell),
            stops=() if upto is None else (upto,),
        )
        named = NamedDifferences()
        if upto is None:
            named.add(comparison.differences(events))
            named.add(comparison.faults)
        else:
            for _ in events.runs(upto):
                pass
        return Compared(
            FLEET,
            events=events.position - len(events.skipped),
            documents=comparison.compared,
            skipped=len(events.skipped),
            apart=len(comparison.excluded),
            differences=named.named,
            more=named.more,
            notes=_stopped(events),
        )

    # -- a partition: assignment changes, projections, twins

    def _of_partition(self, number: int, tell: ReportProgress) -> Compared:
        ends = [self._upto(stream) for stream in (number, FLEET)]
        upto = Vector(*(_NO_END if end is None else end for end in ends))
        # Load everything in one transaction before replaying: workers may go on (decisions/0030).
        stored = None if self._projections is None else self._projections.load(number)
        self._fleet.read_on()
        if stored is not None and not stored.checkpoint.vector.is_within(upto):
            stored = None
        # Stored documents are those of the head, so a replay that ends earlier has nothing to compare them with.
        documents_too = ends[0] is None
        documents = DeviceDocuments()
        comparison = DocumentComparison(self._log, number, documents)
        named, assignment_changes = NamedDifferences(), 0
        snapshots = SnapshotComparison(self._snapshots if documents_too else None, number, documents, named.add)
        events = EventsAhead(
            self._log,
            number,
            skips=lambda: self._fleet.skipped(number),
            seen=_reporting(comparison.apply if documents_too else None, tell),
            stops=snapshots.stops if documents_too else (upto.partition,),
        )
        replay = PartitionReplay(number, events=events, fleet=self._fleet, merge=self._merge, observer=snapshots)
        decided = None if stored is None else stored.checkpoint.decided
        count = None if stored is None else stored.checkpoint.assignment_changes
        for step in replay.through(self._recorded, upto=upto, assignment_changes=count, decided=decided):
            assignment_changes += step.recorded is not None
            named.add(self._assignment_change_differences(number, step, replay))
            snapshots.observe(replay)
        projections = 0
        if stored is not None:
            replayed = self._replayed_to(replay, stored, named, snapshots)
            projections = count_of(replayed)
            named.add(differences(number, stored, replayed))
        else:
            replay.replay_to(_within_head(upto, replay.partition.vector, self._log.head(number), self._fleet))
        snapshots.end()
        vector = replay.partition.vector
        if documents_too:
            named.add(comparison.differences(events))
            # A blocked partition waits for a decision about exactly this event; that is not a difference.
            if self._projections is None or self._projections.blocked(number) is None:
                named.add(comparison.faults)
        return Compared(
            number,
            events=events.position - len(events.skipped),
            assignment_changes=assignment_changes,
            projections=projections,
            documents=comparison.compared,
            snapshots=snapshots.compared,
            skipped=len(events.skipped),
            apart=len(comparison.excluded),
            vector=vector,
            differences=named.named,
            more=named.more,
            notes=_stopped(events),
        )

    def _replayed_to(
        self, replay: PartitionReplay, stored: StoredPartition, named: NamedDifferences, snapshots: SnapshotComparison
    ) -> StoredPartition:
        """The stored form at the recorded checkpoint. An assignment change that is decided there is a difference."""
        partition = replay.partition
        vector = stored.checkpoint.vector
        if partition.vector.is_within(vector):
            replay.replay_to(vector)
        partition.release_paths()
        last = replay.decide(partition.assignment_changes + 1, None)
        named.add(self._assignment_change_differences(partition.number, last, replay))
        snapshots.observe(replay)
        # The number of rebuilds is no result of events.
        partition.rebuilt = stored.checkpoint.rebuilt
        return snapshots.stored_form(partition)

    def _assignment_change_differences(
        self, number: int, step: Step, replay: PartitionReplay
    ) -> Iterator[ReplayDifference]:
        if step.recorded == step.replayed:
            return
        recorded = assignment_change_in(step.recorded)
        before = (step.assignment_change or recorded or AssignmentChange(number, Vector(), step.after, ())).before
        ordinals = sorted(_moved_differently(recorded, step.assignment_change))
        names = replay.partition.directory.ids
        devices = tuple(names[ordinal] for ordinal in ordinals[:_DEVICES_NAMED] if ordinal < len(names))
        yield ReplayDifference(
            "assignment_change",
            f"{name(number)}:assignments:{step.position}",
            *_entry_difference(step.recorded, step.replayed),
            events=cause_of(number, before, step.after),
            first_event=self._first_event(number, before, step.after, set(devices)),
            devices=devices,
        )

    def _first_event(self, number: int, before: Vector, after: Vector, devices: set[str]) -> str:
        """The first event of one of the devices between two vectors; else the fleet's first, else the partition's first."""
        position = before.partition
        while position < after.partition:
            try:
                envelopes = self._log.read(number, after=position, limit=min(1000, after.partition - position))
            except (UnreadableEvent, LogLostItsTail):
                break
            for envelope in envelopes:
                if device_of(envelope.subject) in devices:
                    return f"{name(number)}:{envelope.position}"
            position = envelopes[-1].position
        if after.fleet > before.fleet:
            return f"{name(FLEET)}:{before.fleet + 1}"
        return f"{name(number)}:{before.partition + 1}" if after.partition > before.partition else ""


def _reporting(
    apply: Callable[[Sequence[Envelope[Any]]], None] | None, tell: ReportProgress
) -> Callable[[Sequence[Envelope[Any]]], None]:
    def seen(events: Sequence[Envelope[Any]]) -> None:
        if apply is not None:
            apply(events)
        if events:
            tell(events[-1].position)

    return seen


def _within_head(upto: Vector, least: Vector, head: int, fleet: FleetEventReader) -> Vector:
    return Vector(max(least.partition, min(upto.partition, head)), max(least.fleet, min(upto.fleet, fleet.position)))


def _stopped(events: EventsAhead) -> tuple[str, ...]:
    return () if events.stopped is None else (str(events.stopped),)


def _moved_differently(recorded: AssignmentChange | None, replayed: AssignmentChange | None) -> set[int]:
    """The ordinals of the devices that two assignment changes move differently."""
    moved: list[set[tuple[int, bytes, bytes]]] = []
    for assignment_change in (recorded, replayed):
        try:
            moved.append(
                {
                    (ordinal, msgspec.json.encode(move.before), msgspec.json.encode(move.after))
                    for move in (assignment_change.moves if assignment_change else ())
                    for ordinal in move.ordinals()
                }
            )
        except ValueError:
            # A recorded change can be damaged JSON of the right shape, whose ordinals are no set.
            moved.append(set())
    return {ordinal for ordinal, _, _ in moved[0] ^ moved[1]}


def _entry_difference(recorded: AssignmentEntry | None, replayed: AssignmentEntry | None) -> FirstDifference:
    if recorded is None:
        return "", "", "an assignment change that is not recorded"
    if replayed is None:
        return "", "an assignment change", "no assignment change"
    difference = difference_of_bytes(recorded.data, replayed.data)
    if difference is not None:
        return difference
    pair = [{"at": entry.at, "cause": entry.cause, "position": entry.position} for entry in (recorded, replayed)]
    return first_difference(*pair) or ("", "", "")
