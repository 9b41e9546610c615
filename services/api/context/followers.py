"""Followers of `/v1/stream`: the log is read once for all of them, and no state is kept for any of them."""

import asyncio
import contextlib
import functools
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from operator import ne

import structlog
from prometheus_client import Gauge
from starlette.concurrency import run_in_threadpool

from events.log.errors import LogLostItsTail, LogUnavailable
from events.notification.cloud_event import Notification
from events.notification.event_filter import DeviceOrdinals
from events.notification.feed import Feed
from events.notification.positions import Positions, encode, moved
from events.processes.postponed import Postponed
from events.secrets.errors import SecretsUnavailable
from services.api.context.api_context import ApiContext
from services.api.context.commit_signals import APPENDS, COMMITS, CommitSignals

BATCH = 64
"""How many notifications are read at once for one follower."""

KEPT_BYTES_MAX = 16 << 20
_READ_MAX = 256
_PAUSE_SECONDS = 0.5
_RETRY, _HEARTBEAT = b"retry: 1000\n", b":\n"

Chosen = Callable[[Notification], bool]
Part = tuple[Positions, bytes]
Read = Callable[[], Part]

logger = structlog.get_logger()


class _Newest:
    """The newest notifications, read once for all followers near the heads; bounded in bytes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int], Notification] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def add(self, notifications: list[Notification]) -> None:
        with self._lock:
            for notification in notifications:
                self._kept[notification.location.index, notification.location.position] = notification
                self._bytes += len(notification.body)
            while self._bytes > KEPT_BYTES_MAX:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= len(oldest.body)

    def between(self, after: Positions, upto: Positions) -> list[Notification] | None:
        """At most `BATCH` notifications after some positions; `None` if one of them is not here any more."""
        notifications: list[Notification] = []
        with self._lock:
            for index, (low, high) in enumerate(zip(after, upto, strict=True)):
                for position in range(low + 1, high + 1):
                    notification = self._kept.get((index, position))
                    if notification is None:
                        return None
                    notifications.append(notification)
                    if len(notifications) == BATCH:
                        return notifications
        return notifications


class Followers:
    """Reads the heads of the log when it has grown, while it has followers, and lets each read on from its position."""

    def __init__(self, context: ApiContext) -> None:
        self._feed = Feed(context.log, context.projections)
        self._epoch = context.log.epoch
        self._heartbeat_seconds = context.settings.stream_heartbeat_seconds
        self.ordinals = DeviceOrdinals(context.projections, partitions=context.log.partitions)
        self._signals = CommitSignals(context.client, partitions=context.log.partitions, of=(COMMITS, APPENDS))
        self._newest, self._news = _Newest(), asyncio.Event()
        self._heads: Positions = ()
        self._ended = False
        self.gauge = Gauge(
            "twinfold_streams", "Clients that follow /v1/stream.", registry=None, multiprocess_mode="livesum"
        )

    def heads(self) -> Positions:
        """The head of every stream.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        return self._feed.heads()

    async def run(self) -> None:
        """Read until cancelled; retries while Redis does not answer."""
        self._signals.start()
        # Whatever goes wrong, as a damaged checkpoint: without this task no follower would get anything more.
        postponed = Postponed(Exception)
        while True:
            streams = await self._signals.next()
            is_read = False
            with postponed.attempt("following the log"):
                heads = await run_in_threadpool(self._read_heads, self._heads)
                if heads != self._heads:
                    self._heads = heads
                    self._wake()
                is_read = True
            if not is_read:
                self._signals.repeat(streams)
            await self._signals.pause()

    def _read_heads(self, before: Positions) -> Positions:
        heads = self._feed.heads()
        if before and heads != before:
            # Of a burst only the newest: a follower that needs older notifications reads them itself.
            share = _READ_MAX // sum(map(ne, before, heads)) or 1
            low = tuple(max(old, new - share) for old, new in zip(before, heads, strict=True))
            # A follower that reaches the missing entry gets the error.
            with contextlib.suppress(LogLostItsTail):
                self._newest.add(self._feed.read(low, heads, limit=_READ_MAX))
        return heads

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def end(self) -> None:
        """End all streams, and accept no other: the process is about to end."""
        self._ended = True
        self._wake()

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
        """Yield server-sent events after some positions to the heads, and with `for_ever` on from there.

        A slow client delays only itself: nothing is read for it ahead of time. `still_allowed` is asked before each part;
        `in_turn` runs a read in a thread, in a turn of the caller.
        """
        clock = asyncio.get_running_loop().time
        during = contextlib.ExitStack()
        try:
            during.enter_context(self.gauge.track_inprogress())
            during.enter_context(self._signals.needed())
            # An id alone is no event. A client that is cut off before the first event resumes from it.
            yield _RETRY + self._id(positions)
            silent_until = clock() + self._heartbeat_seconds
            while not self._ended:
                news = self._news
                try:
                    behind, text = await in_turn(functools.partial(self._read, positions, heads, chosen))
                    # After the read, as the token may be revoked while it waits for its turn.
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
            logger.error("a stream ends here", why=str(error))  # noqa: TRY400 - expected, a traceback tells nothing
        finally:
            during.close()

    def _read(self, after: Positions, upto: Positions, chosen: Chosen) -> tuple[Positions, bytes]:
        notifications = self._newest.between(after, upto)
        if notifications is None:
            notifications = self._feed.read(after, upto, limit=BATCH)
        text = bytearray()
        for notification in notifications:
            after = moved(after, notification.location.index, notification.location.position)
            if chosen(notification):
                text += b"data: " + notification.body + b"\n" + self._id(after)
        return after, bytes(text)

    def _id(self, positions: Positions) -> bytes:
        return b"id: " + encode(positions, epoch=self._epoch).encode() + b"\n\n"
