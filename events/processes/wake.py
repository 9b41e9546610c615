"""Wakes the loop of a process: by a signal, by another thread, or by the end of a child."""

import contextlib
import queue


class Wake:
    """One thread waits, and any other thread or a signal handler wakes it."""

    def __init__(self) -> None:
        # An Event must not be set by a signal handler of the thread that waits for it: both would take its lock. A SimpleQueue
        # may be used by a handler at any time (Python's documentation of `queue.SimpleQueue.put`).
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wake(self) -> None:
        """End the present wait, or the next one if no thread waits."""
        self._calls.put(None)

    def wait(self, seconds_max: float) -> None:
        """Wait for a call of `wake`, for `seconds_max` at most."""
        with contextlib.suppress(queue.Empty):
            self._calls.get(timeout=max(0.0, seconds_max))
            # One round of the loop does the work of all calls before it.
            while True:
                self._calls.get_nowait()
