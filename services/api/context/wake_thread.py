"""Wakes the workers from a thread, so that no answer waits for RQ."""

import contextlib
import threading
import time
from collections.abc import Iterable

from events.log.wake import WakeFailed, Waker

PAUSE_SECONDS = 0.05
"""How long wake-ups are collected after one was sent: under load a worker gets a batch instead of a job for each event."""


class BackgroundWaker:
    """Accepts wake-ups at once and sends them from a thread."""

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        self._streams: set[int] = set()
        self._lock = threading.Lock()
        self._news = threading.Event()
        threading.Thread(target=self._run, name="waker", daemon=True).start()

    def wake(self, streams: Iterable[int]) -> None:
        """Wake the workers of these streams' partitions soon."""
        with self._lock:
            self._streams.update(streams)
        self._news.set()

    def _run(self) -> None:
        while self._news.wait():
            self._news.clear()
            with self._lock:
                streams, self._streams = self._streams, set()
            # The reconciler finds partitions that are behind, so that a lost wake-up costs time and no event.
            with contextlib.suppress(WakeFailed):
                self._waker.wake(streams)
            time.sleep(PAUSE_SECONDS)
