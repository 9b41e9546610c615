"""How much work of one caller runs at once, so that the requests of others find a thread and the processor."""

import asyncio
import contextlib
import enum
from collections import deque
from collections.abc import AsyncIterator

import msgspec

from services.api.http.errors import TooManyAtOnce


class RequestKind(enum.Enum):
    """What kind of work a request is.

    `NONE` is answered at once, or waits for a change without a thread; what it reads then is `READ`, turn by turn.
    """

    NONE = "none"
    READ = "read"
    WRITE = "write"
    LONG = "long"


class Turns(msgspec.Struct, frozen=True):
    """How many requests of one kind of work of one caller run at once, and how many more wait. Any other gets 429."""

    running_max: int
    waiting_max: int


TURNS = {
    # A thread each for some milliseconds.
    RequestKind.READ: Turns(8, 10_000),
    # Many wait for the one thread that writes, which takes all of them together.
    RequestKind.WRITE: Turns(24, 10_000),
    # Up to seconds of a processor each.
    RequestKind.LONG: Turns(2, 200),
}
THREADS = 128
"""How many threads requests have together: more than the turns of one caller, so that the requests of others find one."""


class _Line(msgspec.Struct):
    """Who of one caller runs, and who waits, first come first served."""

    running: int
    waiting: deque["asyncio.Future[None]"]


class Fairness:
    """Gives turns to requests, by caller and kind of work. Belongs to one event loop."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, RequestKind], _Line] = {}

    @contextlib.asynccontextmanager
    async def turn(self, caller: str, work: RequestKind) -> AsyncIterator[None]:
        """Wait until fewer of the caller's requests run than may, and be one of them.

        Raises:
            TooManyAtOnce: as many of them wait already as may.
        """
        if work is RequestKind.NONE:
            yield
            return
        name, turns = (caller, work), TURNS[work]
        line = self._lines.setdefault(name, _Line(0, deque()))
        if line.running < turns.running_max:
            line.running += 1
        elif len(line.waiting) >= turns.waiting_max:
            raise TooManyAtOnce(turns.running_max, turns.waiting_max)
        else:
            await _wait(line)
        try:
            yield
        finally:
            _go(line)
            if not line.running and not line.waiting:
                del self._lines[name]


async def _wait(line: _Line) -> None:
    """Wait for a turn that one who ends hands over: `running` stays as it is then."""
    turn = asyncio.get_running_loop().create_future()
    line.waiting.append(turn)
    try:
        await turn
    except asyncio.CancelledError:
        if turn.done() and not turn.cancelled():
            _go(line)  # It was handed over to a client that has left.
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
