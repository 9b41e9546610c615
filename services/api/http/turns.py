"""Limits on the work of one caller at a time, so that other callers get threads and processor time."""

import asyncio
import contextlib
import enum
from collections import deque
from collections.abc import AsyncIterator

import msgspec

from services.api.http.errors import TooManyAtOnce


class RequestKind(enum.Enum):
    """The kind of work of a request.

    `NONE` is answered at once, or waits for a change without a thread; its reads after that are `READ`, each in a turn.
    """

    NONE = "none"
    READ = "read"
    WRITE = "write"
    LONG = "long"


TURNS = {
    # Each takes a thread for some milliseconds.
    RequestKind.READ: (8, 10_000),
    # Many wait for the one thread that writes, which writes all of them in one batch.
    RequestKind.WRITE: (24, 10_000),
    # Each takes up to seconds of a processor.
    RequestKind.LONG: (2, 200),
}
"""How many requests of one kind and caller run at once, and how many more wait. Any other gets 429."""

THREADS = 128
"""How many threads serve requests: more than the turns of one caller, so that other callers get one."""


class _Line(msgspec.Struct):
    """The running and waiting requests of one caller and kind; first come, first served."""

    running: int
    waiting: deque["asyncio.Future[None]"]


class Fairness:
    """Gives turns to requests, by caller and kind of work. Belongs to one event loop."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, RequestKind], _Line] = {}

    @contextlib.asynccontextmanager
    async def turn(self, caller: str, work: RequestKind) -> AsyncIterator[None]:
        """Wait for a turn of the caller, and hold it.

        Raises:
            TooManyAtOnce: the maximum of the caller's requests waits already.
        """
        if work is RequestKind.NONE:
            yield
            return
        running_max, waiting_max = TURNS[work]
        line = self._lines.setdefault((caller, work), _Line(0, deque()))
        if line.running < running_max:
            line.running += 1
        elif len(line.waiting) >= waiting_max:
            raise TooManyAtOnce(running_max, waiting_max)
        else:
            await _wait(line)
        try:
            yield
        finally:
            _go(line)
            if not line.running and not line.waiting:
                del self._lines[caller, work]


async def _wait(line: _Line) -> None:
    # A request that ends hands its turn over, so that `running` stays the same: no newcomer takes the turn in between.
    turn = asyncio.get_running_loop().create_future()
    line.waiting.append(turn)
    try:
        await turn
    except asyncio.CancelledError:
        if turn.done() and not turn.cancelled():
            _go(line)  # The turn was handed over to a client that has closed its connection.
        else:
            line.waiting.remove(turn)
        raise


def _go(line: _Line) -> None:
    while line.waiting:
        turn = line.waiting.popleft()
        if not turn.done():
            turn.set_result(None)
            return
    line.running -= 1
