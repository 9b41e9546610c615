"""Everybody who follows what happens: one look at the log for all of them, and no memory of any of them."""

import asyncio
import contextlib
import functools
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from operator import ne

import structlog
from starlette.concurrency import run_in_threadpool

from events.log.errors import LogError, LogLostItsTail, LogUnavailable
from events.notification.cloud_event import Notification
from events.notification.event_filter import DeviceOrdinals
from events.notification.feed import Feed
from events.notification.positions import Positions, encode, moved
from events.processes.postponed import Postponed
from events.secrets.errors import SecretsUnavailable
from services.api.context.api_context import ApiContext

POLL_SECONDS = 0.1
BATCH = 64
"""So much at most is read at once for one of those who follow."""

KEPT_BYTES_MAX = 16 << 20
_LOOK_MAX = 256
_PAUSE_SECONDS = 0.5
_RETRY, _HEARTBEAT = b"retry: 1000\n", b":\n"

Chosen = Callable[[Notification], bool]
Part = tuple[Positions, bytes]
Read = Callable[[], Part]

logger = structlog.get_logger()


class _Newest:
    """The newest notifications, read once for all who are near the heads; bounded in bytes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int], Notification] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, some: list[Notification]) -> None:
        with self._lock:
            for one in some:
                self._kept[one.location.index, one.location.position] = one
                self._bytes += len(one.body)
            while self._bytes > KEPT_BYTES_MAX:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= len(oldest.body)

    def between(self, after: Positions, upto: Positions) -> list[Notification] | None:
        """The next ones from behind some positions on; `None` where one of them is not here."""
        found: list[Notification] = []
        with self._lock:
            for index, (low, high) in enumerate(zip(after, upto, strict=True)):
                for position in range(low + 1, high + 1):
                    one = self._kept.get((index, position))
                    if one is None:
                        return None
                    found.append(one)
                    if len(found) == BATCH:
                        return found
        return found


class Streams:
    """Looks where the log ends ten times a second while anybody follows it, and lets everybody read on from where they are."""

    def __init__(self, context: ApiContext) -> None:
        self._feed = Feed(context.log, context.projections)
        self._epoch = context.log.epoch
        self._heartbeat_seconds = context.settings.stream_heartbeat_seconds
        self.ordinals = DeviceOrdinals(context.projections, partitions=context.log.partitions)
        self._newest = _Newest()
        self._heads: Positions = ()
        self._news = asyncio.Event()
        self._followers = 0
        self._ended = False

    def __len__(self) -> int:
        return self._followers

    def heads(self) -> Positions:
        """Where every stream ends now.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        return self._feed.heads()

    async def run(self) -> None:
        """Look until cancelled; a Redis that is away is waited for."""
        postponed = Postponed(LogError)
        while True:
            if self._followers:
                try:
                    heads = await run_in_threadpool(self._look, self._heads)
                except LogError as error:
                    postponed.failed("following the log", error)
                else:
                    postponed.worked("following the log")
                    if heads != self._heads:
                        self._heads = heads
                        self._tell()
            await asyncio.sleep(POLL_SECONDS)

    def _look(self, before: Positions) -> Positions:
        heads = self._feed.heads()
        if before and heads != before:
            # Of a burst the newest alone: what came before is read by whoever still wants it.
            each = _LOOK_MAX // sum(map(ne, before, heads)) or 1
            low = tuple(max(old, new - each) for old, new in zip(before, heads, strict=True))
            # Where something is missing, whoever comes to it is told.
            with contextlib.suppress(LogLostItsTail):
                self._newest.add(self._feed.read(low, heads, limit=_LOOK_MAX))
        return heads

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def end(self) -> None:
        """Let everybody go who follows, and nobody follow from here on: the process is about to end."""
        self._ended = True
        self._tell()

    async def follow(
        self,
        positions: Positions,
        heads: Positions,
        chosen: Chosen,
        *,
        still_allowed: Callable[[], Awaitable[bool]],
        in_turn: Callable[[Read], Awaitable[Part]] = run_in_threadpool,
        for_ever: bool,
    ) -> AsyncIterator[bytes]:
        """Server-sent events from behind some positions to the heads, and with `for_ever` on from there.

        Whoever reads slowly holds up this alone: nothing is read for them that they have not asked for. Before each part
        they show again that they are allowed it. `in_turn` runs a read in a thread, in a turn of theirs.
        """
        self._followers += 1
        clock = asyncio.get_running_loop().time
        try:
            # An id alone is no event; it lets whoever is cut off before the first one come back to this place.
            yield _RETRY + self._id(positions)
            silent_until = clock() + self._heartbeat_seconds
            while not self._ended:
                news = self._news
                try:
                    behind, text = await in_turn(functools.partial(self._read, positions, heads, chosen))
                    if not await still_allowed():
                        return
                except (LogUnavailable, SecretsUnavailable):
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                positions = behind
                if text or clock() >= silent_until or (positions == heads and not for_ever):
                    yield text or _HEARTBEAT + self._id(positions)
                    silent_until = clock() + self._heartbeat_seconds
                if positions != heads:
                    continue
                if not for_ever:
                    return
                heads = tuple(map(max, heads, self._heads or heads))
                if positions == heads:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(news.wait(), max(0.0, silent_until - clock()))
        except LogLostItsTail as error:
            logger.error("a stream ends here", why=str(error))  # noqa: TRY400 - expected, and the log's own trouble
        finally:
            self._followers -= 1

    def _read(self, after: Positions, upto: Positions, chosen: Chosen) -> tuple[Positions, bytes]:
        some = self._newest.between(after, upto)
        if some is None:
            some = self._feed.read(after, upto, limit=BATCH)
        text = bytearray()
        for one in some:
            after = moved(after, one.location.index, one.location.position)
            if chosen(one):
                text += b"data: " + one.body + b"\n" + self._id(after)
        return after, bytes(text)

    def _id(self, positions: Positions) -> bytes:
        return b"id: " + encode(positions, epoch=self._epoch).encode() + b"\n\n"
