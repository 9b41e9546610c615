"""One way to read events, wherever they are kept: today the stream alone."""

from collections.abc import Iterator

from events.envelope import Envelope
from events.log.port import Event, Log

BATCH_EVENTS = 1000


class Reader:
    """Events of one stream in order, in batches behind the scenes."""

    def __init__(self, log: Log, stream: int, *, batch: int = BATCH_EVENTS) -> None:
        self._log = log
        self._stream = stream
        self._batch = batch

    def events(self, *, after: int = 0, upto: int | None = None) -> Iterator[Envelope[Event]]:
        """Events from position after + 1 to `upto`, or to where the head is when it is reached.

        Raises:
            LogLostItsTail, UnreadableEvent: as `Log.read`.
        """
        while upto is None or after < upto:
            limit = self._batch if upto is None else min(self._batch, upto - after)
            events = self._log.read(self._stream, after=after, limit=limit)
            if not events:
                return
            yield from events
            after = events[-1].position
