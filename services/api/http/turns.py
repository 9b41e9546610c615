"""Limits on the work of one caller at a time, so that other callers get threads and processor time."""

import asyncio
import enum
from contextlib import AbstractAsyncContextManager, nullcontext

import msgspec
from typing_extensions import override

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
    """The requests of one caller and kind that run or wait; first come, first served."""

    turns: asyncio.Semaphore
    requests: int = 0


_NO_TURN: AbstractAsyncContextManager[None] = nullcontext()


class Fairness:
    """Gives turns to requests, by caller and kind of work. Belongs to one event loop."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, RequestKind], _Line] = {}

    def turn(self, caller: str, work: RequestKind) -> AbstractAsyncContextManager[None]:
        """Wait for a turn of the caller, and hold it; TooManyAtOnce if the maximum of its requests waits already."""
        return _NO_TURN if work is RequestKind.NONE else _Turn(self._lines, (caller, work))


class _Turn(AbstractAsyncContextManager[None]):
    """A turn while it is waited for and held. A generator as context manager would take twice the time, for each request."""

    def __init__(self, lines: dict[tuple[str, RequestKind], _Line], name: tuple[str, RequestKind]) -> None:
        self._lines, self._name = lines, name

    @override
    async def __aenter__(self) -> None:
        running_max, waiting_max = TURNS[self._name[1]]
        line = self._lines.get(self._name)
        if line is None:
            line = self._lines[self._name] = _Line(asyncio.Semaphore(running_max))
        if line.requests >= running_max + waiting_max:
            raise TooManyAtOnce(running_max, waiting_max)
        line.requests += 1
        self._line = line
        try:
            # A request that ends hands its turn to the first that waits: no newcomer takes it in between.
            await line.turns.acquire()
        except BaseException:
            self._leave()
            raise

    @override
    async def __aexit__(self, *_: object) -> None:
        self._line.turns.release()
        self._leave()

    def _leave(self) -> None:
        self._line.requests -= 1
        if not self._line.requests:
            del self._lines[self._name]
