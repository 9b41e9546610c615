"""One stream of the log replayed again and held against what is recorded of it."""

import itertools
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from events.envelope import Envelope, Vector
from events.fleet.assignment_change import AssignmentChange
from events.fleet.errors import CannotApply
from events.fleet.merge_cache import MergeCache
from events.garbage_collection import rare_collection
from events.history.snapshots import Snapshots
from events.log.documents import DeviceDocuments, FleetDocuments
from events.log.errors import LogLostItsTail, UnreadableEvent
from events.log.events_ahead import EventsAhead
from events.log.fleet_events import FleetEventReader
from events.log.keys import FLEET, name
from events.log.port import Log
from events.projection_store.port import ProjectionStore
from events.stored_projection.partition_codec import cause_of
from events.stored_projection.stored_partition import AssignmentEntry, StoredPartition
from workers.replay.documents import Beside
from workers.replay.event_trace import traced
from workers.replay.first_difference import difference_of_bytes, first_difference
from workers.replay.partition_replay import PartitionReplay, RecordedChanges, Step
from workers.replay.projections import count_of, differences
from workers.replay.report import NAMED_MAX, Compared, ReplayDifference
from workers.replay.snapshots import SnapshotsPassed

CannotBeRead = (UnreadableEvent, LogLostItsTail, CannotApply)
ReportProgress = Callable[[int], None]
"""Is told how many events of the stream are replayed."""

_DEVICES_NAMED = 5


class NamedDifferences:
    """Differences as they are found: the first of each kind by name, the others as a number."""

    def __init__(self) -> None:
        self._by_kind: dict[str, list[ReplayDifference]] = {}
        self.more = 0

    def add(self, found: Iterable[ReplayDifference]) -> None:
        """Take some more."""
        for one in found:
            some = self._by_kind.setdefault(one.kind, [])
            if len(some) < NAMED_MAX:
                some.append(one)
            else:
                self.more += 1

    @property
    def named(self) -> tuple[ReplayDifference, ...]:
        """Those that are told one by one."""
        return tuple(itertools.chain.from_iterable(self._by_kind.values()))


class Replay:
    """Replays streams of a log again, from events alone; what is stored is only looked at to compare."""

    def __init__(
        self,
        log: Log,
        recorded: RecordedChanges,
        projections: ProjectionStore | None,
        *,
        upto: Callable[[int], int | None] = lambda _stream: None,
        snapshots: Snapshots | None = None,
    ) -> None:
        """`upto` answers the last position of a stream that counts; `None` is the newest.

        Where there are no `projections`, as of an archive alone, assignment changes are what there is to compare, and `upto` names an end.
        """
        self._log, self._recorded, self._projections, self._upto = log, recorded, projections, upto
        self._snapshots = snapshots
        self._fleet = FleetEventReader(log)
        self._merge = MergeCache()

    def stream(self, stream: int, tell: ReportProgress = lambda _position: None) -> Compared:
        """Replay one stream and compare.

        Raises:
            LogUnavailable: Redis did not answer.
            LogLostItsTail, UnreadableEvent, CannotApply: it cannot be replayed to where it is recorded to be.
        """
        with rare_collection():
            return self._compared(stream, tell)

    def _compared(self, stream: int, tell: ReportProgress) -> Compared:
        began, cpu = time.monotonic(), time.process_time()
        self._fleet.read_on()
        found = self._of_fleet(tell) if stream == FLEET else self._of_partition(stream, tell)
        position = found.events + found.skipped
        named = traced(self._log, stream, found.differences, skips=lambda: self._fleet.skipped(stream), upto=position)
        found = msgspec.structs.replace(found, differences=named)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return msgspec.structs.replace(
            found,
            seconds=time.monotonic() - began,
            cpu_seconds=time.process_time() - cpu,
            memory_bytes_max=peak,
        )

    # -- the fleet's stream: documents alone

    def _of_fleet(self, tell: ReportProgress) -> Compared:
        beside = Beside(self._log, FLEET, FleetDocuments())
        upto = self._upto(FLEET)
        events = EventsAhead(
            self._log,
            FLEET,
            skips=lambda: self._fleet.skipped(FLEET),
            seen=_telling(beside.see, tell),
            stops=() if upto is None else (upto,),
        )
        named = NamedDifferences()
        if upto is None:
            named.add(beside.differences(events))
            named.add(beside.faults)
        else:
            for _ in events.runs(upto):
                pass
        return Compared(
            FLEET,
            events=events.position - len(events.skipped),
            documents=beside.compared,
            skipped=len(events.skipped),
            apart=len(beside.apart),
            differences=named.named,
            more=named.more,
            notes=_stopped(events),
        )

    # -- a partition: assignment changes, projections, twins

    def _of_partition(self, number: int, tell: ReportProgress) -> Compared:
        upto = Vector(*(_or_all(self._upto(stream)) for stream in (number, FLEET)))
        # All of it as of one moment, before anything is replayed: so that nothing of it moves meanwhile.
        stored = None if self._projections is None else self._projections.load(number)
        self._fleet.read_on()
        if stored is not None and not stored.checkpoint.vector.is_within(upto):
            stored = None
        documents_too = self._upto(number) is None
        documents = DeviceDocuments()
        beside = Beside(self._log, number, documents)
        named, assignment_changes = NamedDifferences(), 0
        passed = SnapshotsPassed(self._snapshots if documents_too else None, number, documents, named.add)
        seen: Callable[[Sequence[Envelope[Any]]], None] = beside.see if documents_too else _nothing
        events = EventsAhead(
            self._log,
            number,
            skips=lambda: self._fleet.skipped(number),
            seen=_telling(seen, tell),
            stops=passed.stops if documents_too else (upto.partition,),
        )
        replay = PartitionReplay(number, events=events, fleet=self._fleet, merge=self._merge, on_the_way=passed)
        decided = None if stored is None else stored.checkpoint.decided
        count = None if stored is None else stored.checkpoint.assignment_changes
        for step in replay.through(self._recorded, upto=upto, assignment_changes=count, decided=decided):
            assignment_changes += step.recorded is not None
            named.add(self._assignment_change_differences(number, step, replay))
            passed.pass_by(replay, step)
        projections = 0
        if stored is not None:
            replayed = self._applied_to(replay, stored, named, passed)
            projections = count_of(replayed)
            named.add(differences(number, stored, replayed))
        else:
            replay.replay_to(_within_head(upto, replay.partition.vector, self._log.head(number), self._fleet))
        passed.end()
        vector = replay.partition.vector
        if documents_too:
            named.add(beside.differences(events))
            # What a stopped partition waits for at its checkpoint is told as such.
            is_blocked = self._projections is not None and self._projections.blocked(number) is not None
            named.add(one for one in beside.faults if not is_blocked)
        return Compared(
            number,
            events=events.position - len(events.skipped),
            assignment_changes=assignment_changes,
            projections=projections,
            documents=beside.compared,
            snapshots=passed.compared,
            skipped=len(events.skipped),
            apart=len(beside.apart),
            vector=vector,
            differences=named.named,
            more=named.more,
            notes=_stopped(events),
        )

    def _applied_to(
        self, replay: PartitionReplay, stored: StoredPartition, named: NamedDifferences, passed: SnapshotsPassed
    ) -> StoredPartition:
        """The stored form at the recorded checkpoint; anything that is decided there is not recorded."""
        partition = replay.partition
        vector = stored.checkpoint.vector
        if partition.vector.is_within(vector):
            replay.replay_to(vector)
        partition.release_paths()
        last = replay.decide(partition.assignment_changes + 1, None)
        named.add(self._assignment_change_differences(partition.number, last, replay))
        passed.pass_by(replay, last)
        partition.rebuilt = stored.checkpoint.rebuilt
        return passed.kept(partition)

    def _assignment_change_differences(
        self, number: int, step: Step, replay: PartitionReplay
    ) -> Iterator[ReplayDifference]:
        location = f"{name(number)}:assignments:{step.position}"
        if step.recorded == step.replayed:
            return
        recorded = _assignment_change_in(step.recorded)
        before = (step.assignment_change or recorded or AssignmentChange(number, Vector(), step.after, ())).before
        span = cause_of(number, before, step.after)
        devices = sorted(_concerned(recorded, step.assignment_change))
        names = replay.partition.directory.ids
        concerned = tuple(names[ordinal] for ordinal in devices[:_DEVICES_NAMED] if ordinal < len(names))
        found = _parting(step.recorded, step.replayed)
        yield ReplayDifference(
            "assignment_change",
            location,
            path=found[0],
            stored=found[1],
            replayed=found[2],
            events=span,
            first_event=self._first_of(number, before, step.after, set(concerned)),
            devices=concerned,
        )

    def _first_of(self, number: int, before: Vector, after: Vector, concerned: set[str]) -> str:
        """The first event between two vectors that is of a device concerned; else the first of the fleet, or of them all."""
        position = before.partition
        while position < after.partition:
            try:
                some = self._log.read(number, after=position, limit=min(1000, after.partition - position))
            except (UnreadableEvent, LogLostItsTail):
                break
            for envelope in some:
                if envelope.subject.partition("/")[0] in concerned:
                    return f"{name(number)}:{envelope.position}"
            position = some[-1].position
        if after.fleet > before.fleet:
            return f"{name(FLEET)}:{before.fleet + 1}"
        return f"{name(number)}:{before.partition + 1}" if after.partition > before.partition else ""


def _telling(
    seen: Callable[[Sequence[Envelope[Any]]], None], tell: ReportProgress
) -> Callable[[Sequence[Envelope[Any]]], None]:
    def see(events: Sequence[Envelope[Any]]) -> None:
        seen(events)
        if events:
            tell(events[-1].position)

    return see


def _nothing(_events: Sequence[Envelope[Any]]) -> None: ...


def _or_all(position: int | None) -> int:
    return 2**63 if position is None else position


def _within_head(upto: Vector, least: Vector, head: int, fleet: FleetEventReader) -> Vector:
    return Vector(max(least.partition, min(upto.partition, head)), max(least.fleet, min(upto.fleet, fleet.position)))


def _stopped(events: EventsAhead) -> tuple[str, ...]:
    return () if events.stopped is None else (str(events.stopped),)


def _assignment_change_in(entry: AssignmentEntry | None) -> AssignmentChange | None:
    try:
        return None if entry is None else msgspec.json.decode(entry.data, type=AssignmentChange)
    except msgspec.DecodeError:
        return None


def _concerned(recorded: AssignmentChange | None, replayed: AssignmentChange | None) -> set[int]:
    """The ordinals of devices that moved otherwise."""
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
            moved.append(set())
    return {ordinal for ordinal, _, _ in moved[0] ^ moved[1]}


def _parting(recorded: AssignmentEntry | None, replayed: AssignmentEntry | None) -> tuple[str, str, str]:
    if recorded is None:
        return "", "", "an assignment change that is not recorded"
    if replayed is None:
        return "", "an assignment change", "nothing that is decided here"
    found = difference_of_bytes(recorded.data, replayed.data)
    if found is not None:
        return found
    pair = [{"at": one.at, "cause": one.cause, "position": one.position} for one in (recorded, replayed)]
    return first_difference(*pair) or ("", "", "")
