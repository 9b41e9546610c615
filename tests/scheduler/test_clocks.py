"""Clocks that step: noticed once, and followed so that time goes on and never goes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.clocks import ClockWatch, LogTime

DAY_MS = 24 * 3600 * 1000


class Clocks:
    """A machine's two clocks: one that may step, in milliseconds, and one of what passes, in seconds."""

    def __init__(self) -> None:
        self.time, self.passed = 1_000_000, 0.0

    def pass_by(self, seconds: float, *, step_ms: int = 0) -> None:
        self.passed += seconds
        self.time += round(1000 * seconds) + step_ms

    def now(self) -> int:
        return self.time

    def monotonic(self) -> float:
        return self.passed


@pytest.mark.parametrize(("step_ms", "told"), [(0, 0), (400, 0), (30 * DAY_MS, 2_592_000), (-30 * DAY_MS, -2_592_000)])
def test_a_step_is_told_once_and_a_clock_that_is_set_gently_is_not(step_ms: int, told: float) -> None:
    clocks = Clocks()
    watch = ClockWatch(clocks.now, monotonic=clocks.monotonic)
    clocks.pass_by(1.0, step_ms=step_ms)
    assert watch.step_seconds() == pytest.approx(told, abs=1)
    clocks.pass_by(1.0)
    assert watch.step_seconds() == 0


def test_behind_the_newest_event_time_goes_on_at_half_the_speed_until_the_clock_has_caught_up() -> None:
    clocks = Clocks()
    time = LogTime(clocks.now, monotonic=clocks.monotonic)
    newest = clocks.time + 100_000
    assert time.now(newest) == newest
    clocks.pass_by(60)
    assert time.now(newest) == newest + 30_000
    clocks.pass_by(300)
    assert time.now(newest) == clocks.time


def test_a_clock_that_is_right_again_is_followed_at_once() -> None:
    clocks = Clocks()
    time = LogTime(clocks.now, monotonic=clocks.monotonic)
    newest = clocks.time + 3_600_000
    assert time.now(newest) == newest
    clocks.pass_by(10, step_ms=3_600_000)
    assert time.now(newest) == clocks.time


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(-DAY_MS, DAY_MS), st.booleans()), max_size=30))
def test_time_never_goes_back_and_is_never_before_the_newest_event(steps: list[tuple[float, int, bool]]) -> None:
    clocks, newest = Clocks(), 0
    clocks.time = 100 * DAY_MS
    time = LogTime(clocks.now, monotonic=clocks.monotonic)
    for seconds, step_ms, is_written in steps:
        clocks.pass_by(seconds, step_ms=step_ms)
        now = time.now(newest)
        assert now >= newest
        if is_written:
            newest = now
