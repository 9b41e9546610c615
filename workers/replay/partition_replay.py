"""Replays one partition from its first event, through every vector at which an assignment change was decided."""

from collections.abc import Iterator, Sequence

import msgspec

from events import canonical
from events.envelope import Vector
from events.fleet.assignments import AssignmentChange, MergeCache
from events.fleet.partition import Partition
from events.log.errors import LogLostItsTail
from events.log.events_ahead import EventsAhead
from events.log.fleet_events import FleetEventReader
from events.log.keys import name
from events.projection.driver import Driver
from events.projection_store.port import ProjectionStore
from events.stored_projection.partition_codec import cause_of
from events.stored_projection.stored_partition import AssignmentEntry
from workers.replay.archived import ArchivedLog

_ASSIGNMENT_CHANGES = 1000

Recorded = ProjectionStore | ArchivedLog
"""What has the recorded assignment changes."""


class AssignmentChangeDiffers(Exception):
    """A replay does not give the recorded assignment change: the log changed, or the code that replays it."""

    def __init__(self, partition: int, position: int) -> None:
        super().__init__(
            f"{name(partition)}: assignment change {position} differs from what the events give;"
            " run `twinfold replay` for the differences"
        )
        self.partition, self.position = partition, position


class Step(msgspec.Struct, frozen=True):
    """A vector at which an assignment change is recorded or replayed; `None` for the side that has none.

    `position` is the position of the assignment change, recorded or not, and `after` is its vector.
    """

    position: int
    after: Vector
    recorded: AssignmentEntry | None
    replayed: AssignmentEntry | None
    assignment_change: AssignmentChange | None


class PartitionReplay:
    """Replays one partition from events alone: no projection, snapshot or warm copy is used."""

    def __init__(
        self, number: int, *, events: EventsAhead, fleet: FleetEventReader, merge: MergeCache | None = None
    ) -> None:
        self.partition = Partition(number, merge)
        self._driver = Driver(self.partition, events, fleet)
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
        self._driver.advance(vector)

    def through(
        self, recorded: Recorded, *, upto: Vector, assignment_changes: int | None = None, decided: Vector | None = None
    ) -> Iterator[Step]:
        """Replay the recorded assignment changes within `upto`; yields a step for each.

        `assignment_changes` is how many there must be, and `decided` is the vector of the last of these, if known. A missing
        assignment change is detected by them, or by the vector that the next one begins at.
        """
        while entries := _readable(recorded, self.partition.number, self._last):
            for entry in entries:
                if assignment_changes is not None and entry.position > assignment_changes:
                    return
                vector = self.partition.vector
                assignment_change = assignment_change_in(entry)
                if assignment_change is not None:
                    vector = assignment_change.after
                    if not vector.is_within(upto):
                        return
                    if entry.position > self._last + 1 and assignment_change.before.is_within(vector):
                        # Entries in between are missing, but this one still names the vector of the last of them.
                        yield self._step(assignment_change.before, self._last + 1, None)
                    if not self.partition.vector.is_within(vector):
                        vector = self.partition.vector
                self._last = entry.position
                yield self._step(vector, entry.position, entry)
        if decided is not None and self._last < (assignment_changes or 0) and decided.is_within(upto):
            yield self._step(decided, self._last + 1, None)

    def confirmed(
        self, recorded: ProjectionStore, *, upto: Vector, assignment_changes: int | None = None
    ) -> Iterator[Step]:
        """Replay to a vector, through the first `assignment_changes` recorded assignment changes (`None`: all); yields a step for each.

        Raises:
            AssignmentChangeDiffers: the events give another assignment change, or one more.
            LogLostItsTail, UnreadableEvent, CannotApply, PathsMissing: as `replay_to`.
        """
        number, partition = self.partition.number, self.partition
        within = upto if assignment_changes is None else Vector(2**63, 2**63)
        for step in self.through(recorded, upto=within, assignment_changes=assignment_changes):
            if step.recorded != step.replayed:
                raise AssignmentChangeDiffers(number, step.position)
            yield step
        self.replay_to(upto)
        partition.release_paths()
        # Every decision up to here is recorded, so nothing may be left to decide.
        count = partition.assignment_changes if assignment_changes is None else assignment_changes
        if self.decide(count + 1, None).replayed is not None:
            raise AssignmentChangeDiffers(number, count + 1)

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


def decided_at(recorded: ProjectionStore, number: int, position: int) -> Vector:
    """The vector of a recorded assignment change; the initial one for position 0.

    Raises:
        AssignmentChangeDiffers: its data is damaged.
    """
    if not position:
        return Vector()
    (entry,) = recorded.assignment_changes(number, after=position - 1, limit=1)
    assignment_change = assignment_change_in(entry)
    if assignment_change is None:
        raise AssignmentChangeDiffers(number, position)
    return assignment_change.after


def _readable(recorded: Recorded, number: int, after: int) -> Sequence[AssignmentEntry]:
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
