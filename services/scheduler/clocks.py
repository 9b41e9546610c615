"""Clock steps: a watch that reports them, and a time for the scheduler that never goes back."""

import time
from collections.abc import Callable

from events.audit.seal_store import TOLERANCE_MS

Monotonic = Callable[[], float]


class ClockWatch:
    """Compares a clock (milliseconds) with the monotonic time of this machine."""

    def __init__(self, clock: Callable[[], int], *, monotonic: Monotonic = time.monotonic) -> None:
        self._clock, self._monotonic = clock, monotonic
        self._before = (clock(), monotonic())

    def step_seconds(self) -> float:
        """The seconds that the clock stepped since the last call: positive is ahead, 0 is within the tolerance."""
        clock, passed = self._clock(), self._monotonic()
        before, passed_before = self._before
        self._before = (clock, passed)
        step_ms = (clock - before) - 1000 * (passed - passed_before)
        return step_ms / 1000 if abs(step_ms) > TOLERANCE_MS else 0.0


class LogTime:
    """The scheduler's time: the clock's, but never before the newest event of the log.

    While the clock is behind that event, time runs at half speed from the event on.
    """

    def __init__(self, clock: Callable[[], int], *, monotonic: Monotonic) -> None:
        self._clock, self._monotonic = clock, monotonic
        self._newest = (0, 0.0)

    def now(self, newest: int) -> int:
        """The time in milliseconds; `newest` is the time of the newest event, and the least that is returned."""
        at, seen = self._newest
        # Time that stood still at the newest event would end no soak until the clock has caught up. Half the clock's speed
        # (500 ms a second) lets soaks end, and the clock still catches up (decision 0035).
        continued = at + round(500 * (self._monotonic() - seen))
        if newest > continued:
            self._newest, continued = (newest, self._monotonic()), newest
        return max(self._clock(), continued)
