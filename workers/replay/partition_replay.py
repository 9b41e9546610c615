"""One partition replayed from its first event on, through every vector at which something was decided."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from events import canonical
from events.envelope import Vector
from events.fleet.assignment_change import AssignmentChange
from events.fleet.merge_cache import MergeCache
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
    """Replaying again does not give what was recorded: the log, or the code that replays it, is not what it was."""

    def __init__(self, partition: int, position: int) -> None:
        super().__init__(
            f"{name(partition)}: assignment change {position} is recorded otherwise than the events give it;"
            " `twinfold replay` says how"
        )
        self.partition, self.position = partition, position


class RecordedChanges(Protocol):
    """Who has the recorded assignment changes."""

    def assignment_changes(self, partition: int, *, after: int, limit: int) -> Sequence[AssignmentEntry]:
        """Assignment changes at positions after + 1 and on, at most `limit`."""
        ...


class Step(msgspec.Struct, frozen=True):
    """A vector at which something was decided: what is recorded of it, and what the events give; `None` where there is none.

    `position` is what the assignment change has, or would have, and `after` its vector.
    """

    position: int
    after: Vector
    recorded: AssignmentEntry | None
    replayed: AssignmentEntry | None
    assignment_change: AssignmentChange | None


class OnTheWay(Protocol):
    """Who looks at a partition at some vectors between those at which something was decided."""

    def before(self, after: Vector, upto: Vector) -> Iterator[Vector]:
        """The vectors to stop at, from behind one to before another."""
        ...

    def pass_by(self, replay: "PartitionReplay", step: Step) -> None:
        """Look; `step` says whether anything follows here."""
        ...


class PartitionReplay:
    """A partition at work. No projection, snapshot or warm state has a part in it."""

    def __init__(
        self,
        number: int,
        *,
        events: EventsAhead,
        fleet: FleetEventReader,
        merge: MergeCache | None = None,
        on_the_way: OnTheWay | None = None,
    ) -> None:
        self.partition = Partition(number, merge)
        self._driver, self._on_the_way = Driver(self.partition, events, fleet), on_the_way
        self._last = 0
        """The last recorded assignment change that was replayed through."""
        self.partition.hold_paths_of(fleet.between(0))

    def replay_to(self, vector: Vector) -> None:
        """Replay on to a vector that lies behind in neither part, and decide nothing.

        Raises:
            LogLostItsTail, UnreadableEvent, CannotApply: it cannot be replayed so far.
            PathsMissing: begin again.
        """
        if self._on_the_way is not None:
            for stop in self._on_the_way.before(self.partition.vector, vector):
                self._driver.advance(stop)
                # As it was when somebody committed here, and decided nothing.
                self._on_the_way.pass_by(self, self.decide(self.partition.assignment_changes + 1, None))
        self._driver.advance(vector)

    def through(
        self, recorded: RecordedChanges, *, upto: Vector, assignment_changes: int | None, decided: Vector | None
    ) -> Iterator[Step]:
        """Replay through the recorded assignment changes that lie within `upto`, and say of each what is recorded and what follows.

        `assignment_changes` is how many there must be, and `decided` the vector of the last of them, where that is
        known: one that is missing
        is found so, and by the vector that the next one begins at.
        """
        number = self.partition.number
        while entries := _readable(recorded, number, self._last):
            for entry in entries:
                if assignment_changes is not None and entry.position > assignment_changes:
                    return
                assignment_change = _read(entry)
                if assignment_change is not None:
                    if not assignment_change.after.is_within(upto):
                        return
                    if entry.position > self._last + 1 and assignment_change.before.is_within(assignment_change.after):
                        # Those in between are gone; where the last of them was decided is still known.
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
        """What follows at the vector that is reached, beside what is recorded of it."""
        partition = self.partition
        # The record counts, so that what is missing in it or too much does not make all that follows different.
        partition.assignment_changes = position - 1
        assignment_change = partition.resolve()
        replayed = None
        if assignment_change is not None:
            cause = cause_of(partition.number, assignment_change.before, assignment_change.after)
            # When it was written down nothing but the record says.
            recorded_at = None if recorded is None else recorded.recorded
            replayed = AssignmentEntry(position, partition.at, cause, canonical.encode(assignment_change), recorded_at)
        else:
            partition.assignment_changes = position - (recorded is None)
        return Step(position, partition.vector, recorded, replayed, assignment_change)


def _read(entry: AssignmentEntry) -> AssignmentChange | None:
    try:
        return msgspec.json.decode(entry.data, type=AssignmentChange)
    except msgspec.DecodeError:
        return None


def _readable(recorded: RecordedChanges, number: int, after: int) -> Sequence[AssignmentEntry]:
    """The next recorded assignment changes, behind a gap where there is one."""
    limit = _ASSIGNMENT_CHANGES
    while True:
        try:
            return recorded.assignment_changes(number, after=after, limit=limit)
        except LogLostItsTail as error:
            if error.expected > after + 1:
                limit = error.expected - 1 - after
            else:
                after = error.actual - 1
