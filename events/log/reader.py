"""One way to read facts, wherever they are kept: today the stream alone."""

from collections.abc import Iterator

from events.envelope import Envelope
from events.log.port import Fact, Log

BATCH_FACTS = 1000


class Reader:
    """Facts of one stream in order, in batches behind the scenes."""

    def __init__(self, log: Log, stream: int, *, batch: int = BATCH_FACTS) -> None:
        self._log = log
        self._stream = stream
        self._batch = batch

    def facts(self, *, after: int = 0, upto: int | None = None) -> Iterator[Envelope[Fact]]:
        """Facts from position after + 1 to `upto`, or to where the head is when it is reached.

        Raises:
            LogLostItsTail, UnreadableFact: as `Log.read`.
        """
        while upto is None or after < upto:
            limit = self._batch if upto is None else min(self._batch, upto - after)
            facts = self._log.read(self._stream, after=after, limit=limit)
            if not facts:
                return
            yield from facts
            after = facts[-1].position
