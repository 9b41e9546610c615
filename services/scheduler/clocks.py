"""Clocks that step: noticed, and followed in a way that time goes on and never goes back."""

import time
from collections.abc import Callable

from events.audit.log_time import TOLERANCE_MS

Monotonic = Callable[[], float]


class ClockWatch:
    """Holds a clock against the time that passes on this machine."""

    def __init__(self, clock: Callable[[], int], *, monotonic: Monotonic = time.monotonic) -> None:
        self._clock, self._monotonic = clock, monotonic
        self._before = (clock(), monotonic())

    def step_seconds(self) -> float:
        """By how much the clock stepped since the last look: ahead (more than 0) or back; 0 where it goes as it should."""
        clock, passed = self._clock(), self._monotonic()
        before, passed_before = self._before
        self._before = (clock, passed)
        step_ms = (clock - before) - 1000 * (passed - passed_before)
        return step_ms / 1000 if abs(step_ms) > TOLERANCE_MS else 0.0


class LogTime:
    """The log's time: a clock's, and where that is behind the newest event, half of what has passed since that event was seen.

    Were it the event's time alone, nothing would take any time until the clock has caught up: no soak would end. At half the
    clock's speed it goes on, and the clock catches up all the same.
    """

    def __init__(self, clock: Callable[[], int], *, monotonic: Monotonic) -> None:
        self._clock, self._monotonic = clock, monotonic
        self._newest = (0, 0.0)

    def now(self, newest: int) -> int:
        """The time in milliseconds; `newest` is that of the newest event, before which nothing happens."""
        at, seen = self._newest
        gone_on = at + round(500 * (self._monotonic() - seen))
        if newest > gone_on:
            self._newest, gone_on = (newest, self._monotonic()), newest
        return max(self._clock(), gone_on)
