"""Events of one stream that are in no log: those of a preview or a backtest."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from events.envelope import Envelope


class EventsInMemory:
    """Events after a position, numbered in order; the driver reads them as events of a partition or of the fleet."""

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
