"""The one loop that advances a partition: read, apply, index the paths that conditions name, decide."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from events.envelope import Envelope, Vector
from events.fleet.assignments import AssignmentChange
from events.fleet.partition import Partition
from events.query.tree import Path


class PathsMissing(Exception):
    """An event names properties that are not indexed, and there are no documents to fill the index from."""

    def __init__(self) -> None:
        super().__init__(
            "new deployments name further properties during the rebuild; start it again when no more are created"
        )


class PartitionEvents(Protocol):
    """The events of one partition in order. The driver reads each event once."""

    def read_ahead(self) -> int:
        """The last position of the next batch, which is read if necessary; the current position at the head.

        Raises:
            LogLostItsTail, UnreadableEvent: the next event cannot be read.
        """
        ...

    def runs(self, upto: int) -> Iterable[Sequence[Envelope[Any]]]:
        """The next events up to a position, in runs without a gap; an operator decided to skip the events between two runs.

        Raises:
            LogLostItsTail, UnreadableEvent: an event cannot be read; the runs before it were returned.
        """
        ...


class FleetEvents(Protocol):
    """The fleet's events, which all partitions apply."""

    @property
    def position(self) -> int:
        """The position up to which they are read."""
        ...

    def upto(self, position: int, *, after: int) -> Sequence[Envelope[Any]]:
        """All events after one position and up to another.

        Raises:
            LogLostItsTail, UnreadableEvent: an event cannot be read.
        """
        ...


Fill = Callable[["Driver", frozenset[Path]], None]
"""Fills paths into the index that events of the fleet name for the first time, before the events are applied.

It may call `Driver.apply`: documents can be ahead of the partition, which then advances further than requested.
"""


def refuse(_driver: "Driver", _paths: frozenset[Path]) -> None:
    """Reject new paths: for partitions that index all paths of all events from the beginning."""
    raise PathsMissing


class Driver:
    """Advances one partition; its caller decides where to stop, and commits, compares or discards the result."""

    # Workers, replay, time travel and previews share this loop: a replay proves the workers right only if it runs their code
    # (docs/decisions/0053).
    def __init__(self, partition: Partition, events: PartitionEvents, fleet: FleetEvents, fill: Fill = refuse) -> None:
        self.partition = partition
        self._events, self._fleet, self._fill = events, fleet, fill

    def read_ahead(self) -> Vector:
        """The vector after the next batch, with all fleet events that are read; the current vector at the heads.

        Raises:
            LogLostItsTail, UnreadableEvent: the next event of the partition cannot be read.
        """
        return Vector(self._events.read_ahead(), self._fleet.position)

    def advance(self, vector: Vector) -> None:
        """Apply the events up to a vector, which is not before the current one in either part, without a decision.

        Raises:
            LogLostItsTail, UnreadableEvent, CannotApply: an event cannot be read or applied; the partition is unusable.
            PathsMissing: a path cannot be filled.
        """
        # The partition's events come first in workers and replay alike: the same order gives the same bytes.
        self.apply(vector.partition)
        partition = self.partition
        events = self._fleet.upto(vector.fleet, after=partition.vector.fleet)
        if not events:
            return
        if paths := partition.paths_to_fill(events):
            self._fill(self, paths)
        partition.apply_fleet(events)

    def apply(self, position: int) -> None:
        """Apply the partition's own events up to a position.

        Raises:
            LogLostItsTail, UnreadableEvent, CannotApply: as `advance`.
        """
        partition = self.partition
        for run in self._events.runs(position):
            partition.skip_to(run[0].position - 1)
            partition.apply(run)
        partition.skip_to(position)

    def decide(self, vector: Vector) -> AssignmentChange | None:
        """Apply the events up to a vector and decide the assignments there; `None` if no assignment changes.

        Raises:
            LogLostItsTail, UnreadableEvent, CannotApply, PathsMissing: as `advance`.
        """
        self.advance(vector)
        return self.partition.resolve()


class EventsInMemory:
    """Events of a partition or of the fleet after a position that are in no log: those of a preview or a backtest."""

    def __init__(self, after: int, events: Iterable[Envelope[Any]] = ()) -> None:
        self._first = after + 1
        self._events: list[Envelope[Any]] = []
        for envelope in events:
            self.put(envelope)

    def put(self, envelope: Envelope[Any]) -> None:
        """Add an event at the next position."""
        self._events.append(msgspec.structs.replace(envelope, position=self.position + 1))

    @property
    def position(self) -> int:
        """The position of the last event."""
        return self._first + len(self._events) - 1

    def read_ahead(self) -> int:
        """The position of the last event: all events are one batch."""
        return self.position

    def runs(self, upto: int) -> Iterator[Sequence[Envelope[Any]]]:
        """The events that were not returned yet."""
        assert upto == self.position
        # They are dropped, as a partition reads each of its events once: a backtest of months stays small.
        if events := self._events:
            self._first, self._events = self._first + len(events), []
            yield events

    def upto(self, position: int, *, after: int) -> Sequence[Envelope[Any]]:
        """The events after one position and up to another."""
        return self._events[after + 1 - self._first : position + 1 - self._first]
