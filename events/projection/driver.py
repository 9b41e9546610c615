"""The one loop that takes a partition forward: read, apply, index what conditions name, decide."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from events.envelope import Envelope, Vector
from events.fleet.assignment_change import AssignmentChange
from events.fleet.partition import Partition
from events.query.tree import Path


class PathsMissing(Exception):
    """An event names properties that are not indexed, and there are no documents to fill the index from."""

    def __init__(self) -> None:
        super().__init__("deployments that name other properties keep coming; rebuild again when that has calmed down")


class PartitionEvents(Protocol):
    """The events of one partition in order. The driver asks for each of them once."""

    def read_ahead(self) -> int:
        """The position that the next batch leads to, which is read if it is not yet; the present one at the head.

        Raises:
            LogLostItsTail, UnreadableEvent: the next event cannot be read.
        """
        ...

    def runs(self, upto: int) -> Iterable[Sequence[Envelope[Any]]]:
        """The next events up to a position, in runs without a gap: an operator decided to skip what lies between two.

        Raises:
            LogLostItsTail, UnreadableEvent: they cannot be read so far; those before are given.
        """
        ...


class FleetEvents(Protocol):
    """The fleet's events, which all partitions apply."""

    @property
    def position(self) -> int:
        """How far they are read."""
        ...

    def upto(self, position: int, *, after: int) -> Sequence[Envelope[Any]]:
        """The events behind one position and up to another, each of them.

        Raises:
            LogLostItsTail, UnreadableEvent: one of them cannot be read.
        """
        ...


Fill = Callable[["Driver", frozenset[Path]], None]
"""Brings paths into the index that events of the fleet name for the first time, before these are applied.

It may call `Driver.apply`: then the partition comes further than was asked for.
"""


def refuse(_driver: "Driver", _paths: frozenset[Path]) -> None:
    """Fill nothing: for partitions that index everything that events will name from the beginning."""
    raise PathsMissing


class Driver:
    """Takes one partition forward; its user commits, compares or discards, and says where to stop."""

    def __init__(
        self,
        partition: Partition,
        events: PartitionEvents,
        fleet: FleetEvents,
        fill: Fill = refuse,
    ) -> None:
        self.partition = partition
        self._events, self._fleet, self._fill = events, fleet, fill

    def read_ahead(self) -> Vector:
        """The vector that the next batch leads to, with all events of the fleet that are read; the present one at the heads.

        Raises:
            LogLostItsTail, UnreadableEvent: the next event of the partition cannot be read.
        """
        return Vector(self._events.read_ahead(), self._fleet.position)

    def advance(self, vector: Vector) -> None:
        """Apply the events up to a vector that lies behind in neither part, and decide nothing.

        Raises:
            LogLostItsTail, UnreadableEvent, CannotApply: they cannot be read or applied so far; the partition is unusable.
            PathsMissing: a path cannot be filled.
        """
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
        """Apply the events up to a vector, and decide what follows there; `None` when no assignment changes.

        Raises:
            LogLostItsTail, UnreadableEvent, CannotApply, PathsMissing: as `advance`.
        """
        self.advance(vector)
        return self.partition.resolve()
