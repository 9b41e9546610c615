"""Signals of a cluster that a stream of the log has grown: append.lua publishes one with each append, and every server has them."""

import time
from collections.abc import Collection
from typing import Any

from redis.cluster import RedisCluster
from redis.exceptions import NoPermissionError

from events.log.keys import keys_pattern


class StreamSignals:
    """A subscription, from the first call on until `close`."""

    def __init__(self, client: RedisCluster) -> None:
        self._client, self._is_allowed = client, True
        self._subscription: Any = None

    def forget(self) -> None:
        """Forget the signals so far, because the caller reads all streams next."""
        while self._is_allowed and self._next(0.0) is not None:
            pass

    def wait(self, streams: Collection[bytes], seconds: float) -> None:
        """Wait until one of the streams (the keys of the log) has grown since `forget`, at most so many seconds."""
        until = time.monotonic() + seconds
        while (seconds_left := until - time.monotonic()) > 0:
            if not self._is_allowed:
                time.sleep(seconds_left)
                return
            signal = self._next(seconds_left)
            if signal is not None and signal["channel"] in streams:
                return

    def _next(self, seconds: float) -> dict[str, Any] | None:
        if self._subscription is None:
            self._subscription = self._client.pubsub()  # type: ignore[no-untyped-call]
            self._subscription.psubscribe(keys_pattern("log"))
        signal: dict[str, Any] | None = None
        try:
            signal = self._subscription.get_message(timeout=seconds)
        except NoPermissionError:
            # Without the permission to subscribe, streams are read from time to time only. The first read after the subscription
            # says so, or a later one if the answer takes its time.
            self._is_allowed = False
            self.close()
        return signal

    def close(self) -> None:
        """End the subscription: a server keeps signals for a subscriber that does not read them."""
        if self._subscription is not None:
            self._subscription.close()
        self._subscription = None
