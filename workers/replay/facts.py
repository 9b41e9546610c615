"""The facts of one stream in order, read ahead in batches, and stopping at none that somebody decided to leave out."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from events.envelope import Envelope
from events.log.errors import LogLostItsTail, UnreadableFact
from events.log.fleet_facts import position_of
from events.log.keys import name
from events.log.port import Fact, Log
from workers.projector import BATCH_FACTS

LeftOut = Callable[[], Mapping[int, str]]
"""The positions of the stream that an operator decided to leave out, as far as that is known."""


class FactsAhead:
    """Reads a stream once, from its first fact on. `seen` is called with every fact that is folded, in order."""

    def __init__(
        self,
        log: Log,
        stream: int,
        *,
        left_out: LeftOut,
        seen: Callable[[Sequence[Envelope[Any]]], None] | None = None,
        stops: Sequence[int] = (),
    ) -> None:
        """It is read ahead no further than to the next of the `stops`, which rise."""
        self._stops = deque(stops)
        self._log, self._stream, self._left_out, self._seen = log, stream, left_out, seen
        self._ahead: list[Envelope[Fact]] = []
        self._next = 0
        self._read = 0
        self.skipped: list[int] = []
        self.stopped: UnreadableFact | LogLostItsTail | None = None
        """Why nothing can be read any more: a fact that nobody decided about."""

    def read_on(self) -> bool:
        """Read the next batch behind what is there; false at the head, or where it cannot be read."""
        some = self._readable()
        if not some:
            return False
        self._read = some[-1].position
        left_out = self._left_out()
        if left_out:
            gone = [one.position for one in some if one.position in left_out]
            self.skipped += gone
            some = [one for one in some if one.position not in left_out] if gone else some
        if self._seen is not None:
            self._seen(some)
        self._ahead = self._ahead[self._next :] + some if self._next < len(self._ahead) else some
        self._next = 0
        return True

    def _readable(self) -> list[Envelope[Fact]]:
        limit = self._limit()
        while self.stopped is None:
            try:
                return self._log.read(self._stream, after=self._read, limit=limit)
            except (UnreadableFact, LogLostItsTail) as error:
                bad = position_of(error)
                before = bad - 1 - self._read
                if 0 < before < limit:
                    limit = before
                elif before == 0 and bad in self._left_out():
                    self._read = bad
                    limit = self._limit()
                    self.skipped.append(bad)
                else:
                    self.stopped = error
        return []

    def _limit(self) -> int:
        while self._stops and self._stops[0] <= self._read:
            self._stops.popleft()
        return min(BATCH_FACTS, self._stops[0] - self._read) if self._stops else BATCH_FACTS

    @property
    def position(self) -> int:
        """How far it has read."""
        return self._read

    def upto(self, position: int) -> list[Envelope[Fact]]:
        """The next facts up to a position, without those that are left out.

        Raises:
            LogLostItsTail, UnreadableFact: they cannot be read so far.
        """
        while self._read < position and self.read_on():
            pass
        if self._read < position:
            raise self.stopped or LogLostItsTail(name(self._stream), expected=position, found=self._read)
        end = self._next
        ahead = self._ahead
        if ahead and ahead[-1].position <= position:
            end = len(ahead)
        else:
            while end < len(ahead) and ahead[end].position <= position:
                end += 1
        some = ahead[self._next : end]
        self._next = end
        return some
