"""Replays one stream of the log and compares the result with what is stored of it."""

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec

from events.envelope import Envelope, Vector
from events.fleet.assignments import AssignmentChange, MergeCache
from events.garbage_collection import rare_collection
from events.history.snapshots import Snapshots
from events.log.errors import LogLostItsTail, UnreadableEvent
from events.log.events_ahead import EventsAhead
from events.log.fleet_events import FleetEventReader
from events.log.keys import FLEET, device_of, name
from events.log.port import Log
from events.projection_store.port import ProjectionStore
from events.stored_projection.partition_codec import cause_of
from events.stored_projection.stored_partition import AssignmentEntry, StoredPartition
from workers.replay.documents import DocumentComparison, traced
from workers.replay.first_difference import FirstDifference, difference_of_bytes, first_difference
from workers.replay.partition_replay import PartitionReplay, Recorded, Step, assignment_change_in
from workers.replay.projections import count_of, differences
from workers.replay.report import Compared, ReplayDifference, ReportProgress
from workers.replay.snapshots import SnapshotReplay

_DEVICES_NAMED = 5
_NO_END = 2**63


class Replay:
    """Replays streams of a log from events alone. What is stored is only compared, never used."""

    def __init__(
        self,
        log: Log,
        recorded: Recorded,
        projections: ProjectionStore | None,
        *,
        upto: Callable[[int], int | None] = lambda _stream: None,
        snapshots: Snapshots | None = None,
    ) -> None:
        """`upto` returns the last position of a stream to replay; `None` is the newest.

        Without `projections`, as for an archive, only assignment changes are compared, and `upto` must name an end.
        """
        self._log, self._recorded, self._projections, self._upto = log, recorded, projections, upto
        self._snapshots, self._fleet, self._merge = snapshots, FleetEventReader(log), MergeCache()

    # Python's garbage collector alone took a third of the time of a replay (decisions/0030).
    @rare_collection()
    def stream(self, stream: int, tell: ReportProgress = lambda _position: None) -> Compared:
        """Replay one stream and compare.

        Raises:
            LogUnavailable: Redis did not answer.
            LogLostItsTail, UnreadableEvent, CannotApply: an event before the recorded checkpoint cannot be read or applied.
        """
        began, cpu = time.monotonic(), time.process_time()
        end, compared, comparison = self._upto(stream), Compared(stream), DocumentComparison(self._log, stream)
        files = {} if self._snapshots is None or stream == FLEET or end is not None else self._snapshots.listed(stream)

        def seen(batch: Sequence[Envelope[Any]]) -> None:
            # Stored documents are those of the head, so a replay that ends earlier has nothing to compare them with.
            if end is None:
                comparison.apply(batch)
            if batch:
                tell(batch[-1].position)

        # Load everything in one transaction before replaying: workers may go on (decisions/0030).
        stored = None if self._projections is None or stream == FLEET else self._projections.load(stream)
        self._fleet.read_on()
        skips, stops = partial(self._fleet.skipped, stream), [vector.partition for vector in files]
        events = EventsAhead(self._log, stream, skips=skips, seen=seen, stops=stops if end is None else (end,))
        if stream != FLEET:
            replay = SnapshotReplay(
                events=events,
                fleet=self._fleet,
                merge=self._merge,
                snapshots=self._snapshots,
                files=files,
                documents=comparison.replayed,
                compared=compared,
            )
            self._replay_partition(replay, stored, compared)
        elif end is not None:
            for _ in events.runs(end):
                pass
        if end is None:
            compared.add(comparison.differences(events))
            # A blocked partition waits for a decision about exactly this event; that is not a difference.
            if stream == FLEET or self._projections is None or self._projections.blocked(stream) is None:
                compared.add(comparison.faults)
        compared.events, compared.skipped = events.position - len(events.skipped), len(events.skipped)
        compared.documents, compared.apart = comparison.compared, len(comparison.excluded)
        compared.notes = () if events.stopped is None else (str(events.stopped),)
        compared.differences = traced(self._log, stream, compared.differences, skips=skips, upto=events.position)
        compared.memory_bytes_max = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        compared.seconds, compared.cpu_seconds = time.monotonic() - began, time.process_time() - cpu
        return compared

    def _replay_partition(self, replay: SnapshotReplay, stored: StoredPartition | None, compared: Compared) -> None:
        """Replay a partition to its recorded checkpoint; compare assignment changes, snapshots and projections."""
        partition, number = replay.partition, replay.partition.number
        upto = Vector(*(_NO_END if (end := self._upto(stream)) is None else end for stream in (number, FLEET)))
        if stored is not None and not stored.checkpoint.vector.is_within(upto):
            stored = None
        count = None if stored is None else stored.checkpoint.assignment_changes
        decided = None if stored is None else stored.checkpoint.decided
        for step in replay.through(self._recorded, upto=upto, assignment_changes=count, decided=decided):
            compared.assignment_changes += step.recorded is not None
            compared.add(self._assignment_change_differences(number, step, replay))
        if stored is not None:
            if partition.vector.is_within(stored.checkpoint.vector):
                replay.replay_to(stored.checkpoint.vector)
            partition.release_paths()
            # An assignment change that is decided here is a difference.
            last = replay.decide(partition.assignment_changes + 1, None)
            compared.add(self._assignment_change_differences(number, last, replay))
            # The number of rebuilds is no result of events.
            partition.rebuilt = stored.checkpoint.rebuilt
            replayed = replay.stored_form()
            compared.projections = count_of(replayed)
            compared.add(differences(number, stored, replayed))
        else:
            reached, head, fleet = partition.vector, self._log.head(number), self._fleet.position
            replay.replay_to(
                Vector(max(reached.partition, min(upto.partition, head)), max(reached.fleet, min(upto.fleet, fleet)))
            )
        replay.end()
        compared.vector = partition.vector

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
