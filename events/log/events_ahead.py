"""The events of one stream in order, read ahead in batches, without those that an operator decided to skip."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from events.envelope import Envelope
from events.log.errors import LogLostItsTail, UnreadableEvent
from events.log.keys import name
from events.log.port import Event, Log

BATCH_EVENTS = 8192

Skips = Callable[[], Mapping[int, str]]
"""Returns the positions of the stream that an operator decided to skip, as far as that is known."""


class EventsAhead:
    """Reads a stream once, from the position after `after` on."""

    def __init__(
        self,
        log: Log,
        stream: int,
        *,
        skips: Skips,
        after: int = 0,
        seen: Callable[[Sequence[Envelope[Any]]], None] | None = None,
        stops: Sequence[int] = (),
        first: Sequence[Envelope[Event]] = (),
    ) -> None:
        """`seen` is called with the events of each batch. A batch ends at the next of the `stops`, which are in rising order.

        `first` are the events after `after` that the caller has read already.
        """
        self._stops = deque(stops)
        self._log, self._stream, self._skips, self._seen = log, stream, skips, seen
        self._ahead, self._next, self._read = list[Envelope[Event]](), 0, after
        self.skipped: list[int] = []
        self.stopped: UnreadableEvent | LogLostItsTail | None = None
        """Why reading stopped: an event that cannot be read and is not skipped."""
        if first:
            self._put(first)

    def read_on(self) -> bool:
        """Read the next batch; false if the position stays, at the head or before an event that cannot be read."""
        before = self._read
        batch = self._readable()
        if not batch:
            return self._read > before
        self._put(batch)
        return True

    def _put(self, batch: Sequence[Envelope[Event]]) -> None:
        self._read = batch[-1].position
        skips = self._skips()
        if skips:
            gone = [envelope.position for envelope in batch if envelope.position in skips]
            self.skipped += gone
            batch = [envelope for envelope in batch if envelope.position not in skips] if gone else batch
        if self._seen is not None:
            self._seen(batch)
        self._ahead = [*self._ahead[self._next :], *batch] if self._next < len(self._ahead) else list(batch)
        self._next = 0

    def _readable(self) -> list[Envelope[Event]]:
        limit = self._limit()
        while self.stopped is None:
            try:
                return self._log.read(self._stream, after=self._read, limit=limit)
            except (UnreadableEvent, LogLostItsTail) as error:
                # The whole batch failed at one event: read up to it first, so that the events before it are applied.
                bad = error.position
                before = bad - 1 - self._read
                if 0 < before < limit:
                    limit = before
                elif before == 0 and bad in self._skips():
                    self._read = bad
                    limit = self._limit()
                    self.skipped.append(bad)
                else:
                    self.stopped = error
        return []

    def _limit(self) -> int:
        while self._stops and self._stops[0] <= self._read:
            self._stops.popleft()
        return min(BATCH_EVENTS, self._stops[0] - self._read) if self._stops else BATCH_EVENTS

    @property
    def position(self) -> int:
        """The last position that was read."""
        return self._read

    def read_ahead(self) -> int:
        """The last position of the next batch, which this reads if necessary; the current position at the head.

        Raises:
            LogLostItsTail, UnreadableEvent: the next event cannot be read.
        """
        if self._next == len(self._ahead) and not self.read_on() and self.stopped is not None:
            raise self.stopped
        return self._read

    def runs(self, upto: int) -> Iterator[list[Envelope[Event]]]:
        """The next events up to a position, in runs without a gap; skipped events are between two runs.

        Raises:
            LogLostItsTail, UnreadableEvent: an event cannot be read; the events before it were yielded.
        """
        yield from self._take(upto)
        while self._read < upto:
            if not self.read_on():
                raise self.stopped or LogLostItsTail(name(self._stream), expected=upto, actual=self._read)
            yield from self._take(upto)

    def _take(self, position: int) -> Iterator[list[Envelope[Event]]]:
        first = self._next
        self._next = bisect_right(self._ahead, position, lo=first, key=lambda envelope: envelope.position)
        events, start = self._ahead[first : self._next], 0
        if events and events[-1].position - events[0].position == len(events) - 1:
            yield events
            return
        for end in range(1, len(events) + 1):
            if end == len(events) or events[end].position != events[end - 1].position + 1:
                yield events[start:end]
                start = end
