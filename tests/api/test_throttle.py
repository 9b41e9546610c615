"""A bucket for each name: a minute's worth at once, then evenly, and no more memory than for so many names."""

from hypothesis import given
from hypothesis import strategies as st

from services.api.http.throttle import Throttle


def test_without_a_limit_everybody_may_always() -> None:
    throttle = Throttle(0)
    assert {throttle.take("a", now=0.0) for _ in range(1000)} == {0}


def test_a_minutes_worth_may_come_at_once_and_then_one_at_a_time() -> None:
    throttle = Throttle(6)
    assert [throttle.take("a", now=0.0) for _ in range(7)] == [0] * 6 + [10]
    assert throttle.take("a", now=4.0) == 6
    assert throttle.take("a", now=10.0) == 0
    assert throttle.take("a", now=10.0) == 10
    assert [throttle.take("a", now=1000.0) for _ in range(7)] == [0] * 6 + [10]


def test_names_do_not_share() -> None:
    throttle = Throttle(1)
    assert [throttle.take(name, now=0.0) for name in ("a", "a", "b", "b")] == [0, 60, 0, 60]


def test_who_asked_longest_ago_is_forgotten_first() -> None:
    throttle = Throttle(1)
    throttle.take("first", now=0.0)
    for number in range(9_999):
        throttle.take(str(number), now=0.0)
    assert throttle.take("first", now=0.0) == 60
    for number in range(20_000):
        throttle.take(str(number), now=0.0)
    assert throttle.take("first", now=0.0) == 0


@given(per_minute=st.integers(1, 600), waits=st.lists(st.floats(0, 5, allow_nan=False), max_size=200))
def test_never_more_than_the_limit_in_any_time(per_minute: int, waits: list[float]) -> None:
    throttle, now, let_in = Throttle(per_minute), 0.0, 0
    for wait in waits:
        now += wait
        seconds = throttle.take("a", now=now)
        let_in += seconds == 0
        assert let_in <= per_minute * (1 + now / 60) + 0.001
        # Whoever waits as long as they are told is let in.
        assert seconds == 0 or Throttle.take(throttle, "a", now=now + seconds) == 0
        if seconds:
            now += seconds
            let_in += 1
