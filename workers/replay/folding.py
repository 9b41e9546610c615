"""One partition folded from its first fact on, through every vector at which something was decided."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from events import canonical
from events.envelope import Vector
from events.fleet.merge_cache import MergeCache
from events.fleet.outcome import Outcome
from events.fleet.partition import Partition
from events.log.errors import LogLostItsTail
from events.log.events_ahead import EventsAhead
from events.log.fleet_facts import FleetFacts
from events.log.keys import name
from events.projection.driver import Driver
from events.views.keeping import cause_of
from events.views.kept import OutcomeEntry

_OUTCOMES = 1000


class OutcomeDiffers(Exception):
    """Folding again does not give what was recorded: the log, or the code that folds it, is not what it was."""

    def __init__(self, partition: int, position: int) -> None:
        super().__init__(
            f"{name(partition)}: outcome {position} is recorded otherwise than the facts give it;"
            " `twinfold replay` says how"
        )
        self.partition, self.position = partition, position


class Outcomes(Protocol):
    """Who has the recorded outcomes."""

    def outcomes(self, partition: int, *, after: int, limit: int) -> Sequence[OutcomeEntry]:
        """Outcomes at positions after + 1 and on, at most `limit`."""
        ...


class Step(msgspec.Struct, frozen=True):
    """A vector at which something was decided: what is recorded of it, and what the facts give; `None` where there is none.

    `position` is what the outcome has, or would have, and `after` its vector.
    """

    position: int
    after: Vector
    recorded: OutcomeEntry | None
    folded: OutcomeEntry | None
    outcome: Outcome | None


class OnTheWay(Protocol):
    """Who looks at a partition at some vectors between those at which something was decided."""

    def before(self, after: Vector, upto: Vector) -> Iterator[Vector]:
        """The vectors to stop at, from behind one to before another."""
        ...

    def pass_by(self, folding: "Folding", step: Step) -> None:
        """Look; `step` says whether anything follows here."""
        ...


class Folding:
    """A partition at work. No view, snapshot or warm state has a part in it."""

    def __init__(
        self,
        number: int,
        *,
        events: EventsAhead,
        fleet: FleetFacts,
        merge: MergeCache | None = None,
        on_the_way: OnTheWay | None = None,
    ) -> None:
        self.partition = Partition(number, merge)
        self._driver, self._on_the_way = Driver(self.partition, events, fleet), on_the_way
        self._last = 0
        """The last recorded outcome that was folded through."""
        self.partition.hold_paths_of(fleet.between(0))

    def fold_to(self, vector: Vector) -> None:
        """Fold on to a vector that lies behind in neither part, and decide nothing.

        Raises:
            LogLostItsTail, UnreadableFact, CannotFold: it cannot be folded so far.
            PathsMissing: begin again.
        """
        if self._on_the_way is not None:
            for stop in self._on_the_way.before(self.partition.vector, vector):
                self._driver.advance(stop)
                # As it was when somebody committed here, and decided nothing.
                self._on_the_way.pass_by(self, self.decide(self.partition.outcomes + 1, None))
        self._driver.advance(vector)

    def through(
        self, recorded: Outcomes, *, upto: Vector, outcomes: int | None, decided: Vector | None
    ) -> Iterator[Step]:
        """Fold through the recorded outcomes that lie within `upto`, and say of each what is recorded and what follows.

        `outcomes` is how many there must be, and `decided` the vector of the last of them, where that is known: one that is missing
        is found so, and by the vector that the next one begins at.
        """
        number = self.partition.number
        while entries := _readable(recorded, number, self._last):
            for entry in entries:
                if outcomes is not None and entry.position > outcomes:
                    return
                outcome = _read(entry)
                if outcome is not None:
                    if not outcome.after.is_within(upto):
                        return
                    if entry.position > self._last + 1 and outcome.before.is_within(outcome.after):
                        # Those in between are gone; where the last of them was decided is still known.
                        yield self._step(outcome.before, self._last + 1, None)
                    vector = outcome.after
                else:
                    vector = self.partition.vector
                if not self.partition.vector.is_within(vector):
                    vector = self.partition.vector
                self._last = entry.position
                yield self._step(vector, entry.position, entry)
        if outcomes is not None and decided is not None and self._last < outcomes and decided.is_within(upto):
            yield self._step(decided, self._last + 1, None)

    def _step(self, vector: Vector, position: int, recorded: OutcomeEntry | None) -> Step:
        self.fold_to(vector)
        return self.decide(position, recorded)

    def decide(self, position: int, recorded: OutcomeEntry | None) -> Step:
        """What follows at the vector that is reached, beside what is recorded of it."""
        partition = self.partition
        # The record counts, so that what is missing in it or too much does not make all that follows different.
        partition.outcomes = position - 1
        outcome = partition.resolve()
        folded = None
        if outcome is not None:
            cause = cause_of(partition.number, outcome.before, outcome.after)
            # When it was written down nothing but the record says.
            recorded_at = None if recorded is None else recorded.recorded
            folded = OutcomeEntry(position, partition.at, cause, canonical.encode(outcome), recorded_at)
        else:
            partition.outcomes = position - (recorded is None)
        return Step(position, partition.vector, recorded, folded, outcome)


def _read(entry: OutcomeEntry) -> Outcome | None:
    try:
        return msgspec.json.decode(entry.data, type=Outcome)
    except msgspec.DecodeError:
        return None


def _readable(recorded: Outcomes, number: int, after: int) -> Sequence[OutcomeEntry]:
    """The next recorded outcomes, behind a gap where there is one."""
    limit = _OUTCOMES
    while True:
        try:
            return recorded.outcomes(number, after=after, limit=limit)
        except LogLostItsTail as error:
            if error.expected > after + 1:
                limit = error.expected - 1 - after
            else:
                after = error.found - 1
