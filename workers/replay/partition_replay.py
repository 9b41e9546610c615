"""Replays one partition from its first event, through every vector at which an assignment change was decided."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from events import canonical
from events.envelope import Vector
from events.fleet.assignment_change import AssignmentChange
from events.fleet.assignments import MergeCache
from events.fleet.partition import Partition
from events.log.errors import LogLostItsTail
from events.log.events_ahead import EventsAhead
from events.log.fleet_events import FleetEventReader
from events.log.keys import name
from events.projection.driver import Driver
from events.stored_projection.partition_codec import cause_of
from events.stored_projection.stored_partition import AssignmentEntry

_ASSIGNMENT_CHANGES = 1000


class AssignmentChangeDiffers(Exception):
    """A replay does not give the recorded assignment change: the log changed, or the code that replays it."""

    def __init__(self, partition: int, position: int) -> None:
        super().__init__(
            f"{name(partition)}: assignment change {position} differs from what the events give;"
            " run `twinfold replay` for the differences"
        )
        self.partition, self.position = partition, position


class RecordedChanges(Protocol):
    """The recorded assignment changes: of a projection store, or of an archive."""

    def assignment_changes(self, partition: int, *, after: int, limit: int) -> Sequence[AssignmentEntry]:
        """Assignment changes at positions after + 1 and on, at most `limit`."""
        ...


class Step(msgspec.Struct, frozen=True):
    """A vector at which an assignment change is recorded or replayed; `None` for the side that has none.

    `position` is the position of the assignment change, recorded or not, and `after` is its vector.
    """

    position: int
    after: Vector
    recorded: AssignmentEntry | None
    replayed: AssignmentEntry | None
    assignment_change: AssignmentChange | None


class ReplayObserver(Protocol):
    """Stops a replay at chosen vectors and reads the partition there."""

    def stops_between(self, after: Vector, upto: Vector) -> Iterator[Vector]:
        """The vectors to stop at between two vectors, without both ends."""
        ...

    def observe(self, replay: "PartitionReplay") -> None:
        """Read the partition at the vector that is reached."""
        ...


class PartitionReplay:
    """Replays one partition from events alone: no projection, snapshot or warm copy is used."""

    def __init__(
        self,
        number: int,
        *,
        events: EventsAhead,
        fleet: FleetEventReader,
        merge: MergeCache | None = None,
        observer: ReplayObserver | None = None,
    ) -> None:
        self.partition = Partition(number, merge)
        self._driver, self._observer = Driver(self.partition, events, fleet), observer
        # The position of the last recorded assignment change that was replayed.
        self._last = 0
        # Index from the start what any later condition names: documents of that time are not stored (decisions/0012).
        self.partition.hold_paths_of(fleet.between(0))

    def replay_to(self, vector: Vector) -> None:
        """Replay to a vector that is not before the present one in either part. Decides nothing.

        Raises:
            LogLostItsTail, UnreadableEvent, CannotApply: an event before the vector cannot be read or applied.
            PathsMissing: a deployment names new properties since the replay began; begin again.
        """
        if self._observer is not None:
            for stop in self._observer.stops_between(self.partition.vector, vector):
                self._driver.advance(stop)
                # A worker committed here and decided nothing, so the replay resolves here as well.
                self.decide(self.partition.assignment_changes + 1, None)
                self._observer.observe(self)
        self._driver.advance(vector)

    def through(
        self, recorded: RecordedChanges, *, upto: Vector, assignment_changes: int | None, decided: Vector | None
    ) -> Iterator[Step]:
        """Replay the recorded assignment changes within `upto`; yields a step for each.

        `assignment_changes` is how many there must be, and `decided` is the vector of the last one, if known. A missing
        assignment change is detected by these, or by the vector that the next one begins at.
        """
        number = self.partition.number
        while entries := _readable(recorded, number, self._last):
            for entry in entries:
                if assignment_changes is not None and entry.position > assignment_changes:
                    return
                assignment_change = assignment_change_in(entry)
                if assignment_change is not None:
                    if not assignment_change.after.is_within(upto):
                        return
                    if entry.position > self._last + 1 and assignment_change.before.is_within(assignment_change.after):
                        # Entries in between are missing, but this one still names the vector of the last of them.
                        yield self._step(assignment_change.before, self._last + 1, None)
                    vector = assignment_change.after
                else:
                    vector = self.partition.vector
                if not self.partition.vector.is_within(vector):
                    vector = self.partition.vector
                self._last = entry.position
                yield self._step(vector, entry.position, entry)
        if (
            assignment_changes is not None
            and decided is not None
            and self._last < assignment_changes
            and decided.is_within(upto)
        ):
            yield self._step(decided, self._last + 1, None)

    def _step(self, vector: Vector, position: int, recorded: AssignmentEntry | None) -> Step:
        self.replay_to(vector)
        return self.decide(position, recorded)

    def decide(self, position: int, recorded: AssignmentEntry | None) -> Step:
        """Decide at the present vector; returns the result with what is recorded of it."""
        partition = self.partition
        # Count as the record does. Otherwise one missing entry would make every later assignment change differ.
        partition.assignment_changes = position - 1
        assignment_change = partition.resolve()
        replayed = None
        if assignment_change is not None:
            cause = cause_of(partition.number, assignment_change.before, assignment_change.after)
            # `recorded` is the clock of the worker that committed; no event gives it again (decisions/0029).
            recorded_at = None if recorded is None else recorded.recorded
            replayed = AssignmentEntry(position, partition.at, cause, canonical.encode(assignment_change), recorded_at)
        else:
            partition.assignment_changes = position - (recorded is None)
        return Step(position, partition.vector, recorded, replayed, assignment_change)


def assignment_change_in(entry: AssignmentEntry | None) -> AssignmentChange | None:
    """The assignment change of an entry; `None` if there is no entry, or its data is damaged."""
    try:
        return None if entry is None else msgspec.json.decode(entry.data, type=AssignmentChange)
    except msgspec.DecodeError:
        return None


def _readable(recorded: RecordedChanges, number: int, after: int) -> Sequence[AssignmentEntry]:
    """The next recorded assignment changes; a gap is skipped."""
    limit = _ASSIGNMENT_CHANGES
    while True:
        try:
            return recorded.assignment_changes(number, after=after, limit=limit)
        except LogLostItsTail as error:
            if error.expected > after + 1:
                limit = error.expected - 1 - after
            else:
                after = error.actual - 1
