"""A batch of events between its decision and the answer of the log."""

import contextlib
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import TypeVar

from events.log.errors import Fenced, LogUnavailable
from events.log.port import Chunk, Conflicted, PreparedAppend, streams_to_wake
from events.producer.errors import Sent

T = TypeVar("T")

PAUSE_SECONDS = 0.05
PAUSE_SECONDS_MAX = 2.0

Pending = tuple[int, Sent]
"""A command with its number among the commands sent."""


class AppendInFlight:
    """A batch of events that a producer has decided; `begin` sends it, and `chunks` waits for the answer."""

    def __init__(self, send: PreparedAppend, authors: Sequence[Pending], subjects: AbstractSet[str]) -> None:
        """`authors` has the command of each event.

        `subjects` are what the commands were decided on and may change.
        """
        self._send, self.is_settled = send, False
        self._answers: Callable[[], tuple[Chunk, ...]] | None = None
        self.authors, self.subjects = authors, subjects
        self.commands = dict(authors)
        """The commands by their numbers."""

    def begin(self) -> None:
        """Send the batch, and do not wait. An error of Redis is raised by `chunks`."""
        try:
            self._answers = self._send()
        except LogUnavailable as error:
            self._answers = _raising(error)

    def chunks(self, *, attempts: int, pause: Callable[[float], None]) -> tuple[Chunk, ...]:
        """Wait for the answer; while Redis does not answer, send the same batch again.

        Raises:
            LogUnavailable: Redis did not answer in several attempts.
            Fenced: as `Log.append`.
        """
        self.is_settled = True
        return until_answered(self._answer, attempts=attempts, pause=pause)

    def _answer(self) -> tuple[Chunk, ...]:
        answers, self._answers = self._answers or self._send(), None
        return answers()

    def streams_to_wake_after_error(self) -> frozenset[int]:
        """The streams to wake, if Redis answers; for a batch whose author failed before it waited for the answer."""
        try:
            return streams_to_wake(self.chunks(attempts=1, pause=lambda _: None))
        except Fenced as fenced:
            return fenced.streams_to_wake
        except Exception:  # noqa: BLE001 - the error that ended the work is the one to report
            return frozenset()

    def in_conflict(self, chunks: Sequence[Chunk]) -> list[Pending]:
        """The commands that have to be decided again, in order."""
        return list(
            {
                self.authors[index][0]: self.authors[index]
                for chunk in chunks
                if isinstance(chunk, Conflicted)
                for index in chunk.indices
            }.values()
        )


def until_answered(call: Callable[[], T], *, attempts: int, pause: Callable[[float], None]) -> T:
    """The result of a call, which is repeated while Redis does not answer.

    Raises:
        LogUnavailable: Redis did not answer in several attempts.
    """
    pause_seconds = PAUSE_SECONDS
    for _ in range(attempts - 1):
        with contextlib.suppress(LogUnavailable):
            return call()
        pause(pause_seconds)
        pause_seconds = min(2 * pause_seconds, PAUSE_SECONDS_MAX)
    return call()


def _raising(error: LogUnavailable) -> Callable[[], tuple[Chunk, ...]]:
    def answers() -> tuple[Chunk, ...]:
        raise error

    return answers
