"""Signals that a stream of the log or of assignment changes has grown: Redis publishes one with each commit."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator

from events.log.connect import Client, answering
from events.log.keys import FLEET, key, keys_pattern
from events.processes.postponed import Postponed
from events.projection_store.redis import ASSIGNMENT_CHANGES

COMMITS, APPENDS = ASSIGNMENT_CHANGES, "log"
"""What grows. The channels have the names of the streams' keys (commit.lua, append.lua)."""

_READ_AGAIN_SECONDS = 2.0
"""How long a consumer relies on signals. A Redis user without the permission to publish sends none."""

_RETRY_SECONDS, _PAUSE_SECONDS = 0.5, 0.005


class CommitSignals:
    """Listens in a thread, on a connection of its own, while there is a reason to; otherwise it does nothing at all."""

    def __init__(self, client: Client, *, partitions: int, of: tuple[str, ...]) -> None:
        """Listen for signals `of` commits, appends, or both (`COMMITS`, `APPENDS`)."""
        self._client, self._patterns = client, [keys_pattern(what) for what in of]
        self._all = frozenset(range(FLEET, partitions))
        self._stream_by_channel = {key(stream, what).encode(): stream for what in of for stream in self._all}
        self._listeners, self._is_needed = 0, threading.Event()
        self._streams, self._unread, self._news = set[int](), set[int](), asyncio.Event()

    @contextlib.contextmanager
    def needed(self) -> Iterator[None]:
        """Within the block, `next` returns. What changed since the beginning of the block is signalled."""
        self._listeners += 1
        self._is_needed.set()
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._is_needed.clear()

    def start(self) -> None:
        """Begin to listen for the running event loop."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, args=(loop,), name="commit signals", daemon=True).start()

    async def next(self) -> frozenset[int]:
        """The streams that may have grown since the last call, once there is one.

        All streams after the connection was made or lost, and from time to time.
        """
        await self._news.wait()
        # Those that come at the same time are read together: under load a read must not follow each commit.
        streams, self._streams = frozenset(self._streams), set()
        self._news.clear()
        return streams

    async def pause(self) -> None:
        """Wait a little after a read, in which signals are collected."""
        await asyncio.sleep(_PAUSE_SECONDS)

    def repeat(self, streams: frozenset[int]) -> None:
        """Signal streams again after a while, because they could not be read. Signals of others do not wait for that."""
        if not self._unread:
            asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._signal_unread)
        self._unread |= streams

    def _signal_unread(self) -> None:
        streams, self._unread = frozenset(self._unread), set()
        self._signal(streams)

    def _signal(self, streams: frozenset[int]) -> None:
        self._streams |= streams
        self._news.set()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        # Whatever goes wrong: without this thread no device that waits would be answered before its time is over.
        postponed = Postponed(Exception)
        with contextlib.suppress(RuntimeError):  # The loop was closed: the process ends.
            while self._is_needed.wait():
                with postponed.attempt("listening for commits"):
                    self._listen(loop)
                if self._is_needed.is_set():
                    loop.call_soon_threadsafe(self._signal, self._all)
                    time.sleep(_RETRY_SECONDS)

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        pubsub = self._client.pubsub()  # type: ignore[no-untyped-call, unused-ignore]
        try:
            with answering():
                pubsub.psubscribe(*self._patterns)
                complete_at = 0.0
                while self._is_needed.is_set():
                    message = pubsub.get_message(timeout=_READ_AGAIN_SECONDS)
                    streams = self._all
                    if message is not None and message["type"] == "pmessage" and time.monotonic() < complete_at:
                        # Any other message confirms a subscription, also one that was made again: a change before it has no signal.
                        stream = self._stream_by_channel.get(message["channel"])
                        if stream is None:
                            continue
                        streams = frozenset({stream})
                    else:
                        complete_at = time.monotonic() + _READ_AGAIN_SECONDS
                    loop.call_soon_threadsafe(self._signal, streams)
        finally:
            pubsub.close()
