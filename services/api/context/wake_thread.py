"""Waking the workers behind a request's back: the answer does not wait for RQ."""

import contextlib
import threading
import time
from collections.abc import Iterable

from events.log.wake import WakeFailed, Waker

PAUSE_SECONDS = 0.05
"""After a wake-up, others are collected for so long: under load a worker gets a batch, and not a job for each event."""


class BackgroundWaker:
    """Takes wake-ups at once and hands them on from a thread of its own; what it loses, the reconciler finds."""

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        self._streams: set[int] = set()
        self._lock = threading.Lock()
        self._news = threading.Event()
        threading.Thread(target=self._run, name="waker", daemon=True).start()

    def wake(self, streams: Iterable[int]) -> None:
        """Have these streams' partitions woken soon."""
        with self._lock:
            self._streams.update(streams)
        self._news.set()

    def _run(self) -> None:
        while self._news.wait():
            self._news.clear()
            with self._lock:
                streams, self._streams = self._streams, set()
            with contextlib.suppress(WakeFailed):
                self._waker.wake(streams)
            time.sleep(PAUSE_SECONDS)
