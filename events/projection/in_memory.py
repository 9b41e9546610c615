"""Events of one stream that are in no log: imagined ones, or those of a backtest."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from events.envelope import Envelope


class EventsInMemory:
    """Events behind a position, numbered as they come; the driver takes them as those of a partition or of the fleet."""

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
        """The last one's."""
        return self._first + len(self._events) - 1

    def read_ahead(self) -> int:
        """All are one batch."""
        return self.position

    def runs(self, upto: int) -> Iterator[Sequence[Envelope[Any]]]:
        """Those that were not given yet, which are forgotten with that."""
        assert upto == self.position
        if events := self._events:
            self._first, self._events = self._first + len(events), []
            yield events

    def upto(self, position: int, *, after: int) -> Sequence[Envelope[Any]]:
        """Those behind one position and up to another."""
        return self._events[after + 1 - self._first : position + 1 - self._first]
