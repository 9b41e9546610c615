"""Maintenance windows, also on the nights when clocks change."""

import pytest

from events.rollout.plan import Window
from events.rollout.times import closes_at, local_time, opens_at, read_time

BERLIN = "Europe/Berlin"
NIGHTLY = Window("0 22 * * *", BERLIN, 240)
EARLY = Window("30 2 * * *", BERLIN, 60)


def at(text: str) -> int:
    return read_time(text, BERLIN)


def closes(*windows: Window, now: str) -> str | None:
    found = closes_at(windows, at(now))
    return None if found is None else local_time(found, BERLIN)


def opens(*windows: Window, now: str) -> str:
    return local_time(opens_at(windows, at(now)), BERLIN)


@pytest.mark.parametrize(
    ("now", "end"),
    [
        ("2026-11-21T21:59:59.999", None),
        ("2026-11-21T22:00", "2026-11-22T02:00:00+01:00"),
        ("2026-11-22T01:59:59.999", "2026-11-22T02:00:00+01:00"),
        ("2026-11-22T02:00", None),
    ],
)
def test_a_window_is_open_from_its_minute_on_and_closed_from_its_end_on(now: str, end: str | None) -> None:
    assert closes(NIGHTLY, now=now) == end


def test_the_next_window_opens_after_now() -> None:
    assert opens(NIGHTLY, now="2026-11-21T21:59") == "2026-11-21T22:00:00+01:00"
    assert opens(NIGHTLY, now="2026-11-21T22:00") == "2026-11-22T22:00:00+01:00"


def test_of_several_windows_the_last_to_close_and_the_next_to_open_count() -> None:
    later = Window("0 1 * * *", BERLIN, 120)
    assert closes(NIGHTLY, later, now="2026-11-22T01:30") == "2026-11-22T03:00:00+01:00"
    assert opens(NIGHTLY, later, now="2026-11-21T23:00") == "2026-11-22T01:00:00+01:00"


def test_a_window_over_a_change_of_clocks_is_as_long_as_ever() -> None:
    assert closes(NIGHTLY, now="2026-03-28T23:00") == "2026-03-29T03:00:00+02:00"
    assert closes(NIGHTLY, now="2026-10-24T23:00") == "2026-10-25T02:00:00+02:00"


def test_a_window_in_the_hour_that_is_left_out_opens_once_as_the_clock_goes_on() -> None:
    assert opens(EARLY, now="2026-03-28T12:00") == "2026-03-29T03:00:00+02:00"
    assert closes(EARLY, now="2026-03-29T03:10") == "2026-03-29T04:00:00+02:00"
    assert opens(EARLY, now="2026-03-29T03:10") == "2026-03-30T02:30:00+02:00"


def test_a_window_in_the_hour_that_comes_twice_opens_once() -> None:
    assert closes(EARLY, now="2026-10-25T02:29:59.999+02:00") is None
    assert closes(EARLY, now="2026-10-25T02:30+02:00") == "2026-10-25T02:30:00+01:00"
    assert opens(EARLY, now="2026-10-24T12:00") == "2026-10-25T02:30:00+02:00"
    assert closes(EARLY, now="2026-10-25T02:45+02:00") == "2026-10-25T02:30:00+01:00"
    assert opens(EARLY, now="2026-10-25T02:45+02:00") == "2026-10-26T02:30:00+01:00"
    assert closes(EARLY, now="2026-10-25T02:45+01:00") is None


def test_a_window_in_the_last_minute_before_the_hour_comes_again_opens_then() -> None:
    last = Window("59 2 * * *", BERLIN, 60)
    assert closes(last, now="2026-10-25T02:58:59.999+02:00") is None
    assert closes(last, now="2026-10-25T02:59+02:00") == "2026-10-25T02:59:00+01:00"


def test_a_window_keeps_to_the_clock_of_its_zone() -> None:
    assert opens(Window("0 22 * * *", "America/St_Johns"), now="2026-11-21T12:00") == "2026-11-22T02:30:00+01:00"
