"""Which snapshots go: few stay, and from one to the next it is never far for how old they are."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from events import PatchTags, RegisterDevice
from events.history.snapshots import DENSITY, dispensable
from tests.history.test_histories import Small


def _thinned(positions: list[int]) -> list[int]:
    gone = set(dispensable(positions))
    return [one for index, one in enumerate(positions) if index not in gone]


@given(st.lists(st.integers(1, 500), min_size=1, max_size=300))
def test_however_often_they_are_thinned_nothing_is_further_apart_than_its_age_allows(steps: list[int]) -> None:
    kept: list[int] = []
    newest = 0
    for step in steps:
        newest += step
        kept.append(newest)
        kept = _thinned(kept)
        assert kept[-1] == newest
        assert dispensable(kept) == []
        for before, following in pairwise([0, *kept]):
            assert following - before <= max(*steps, (newest - following) / DENSITY)


def test_a_log_a_thousand_times_as_long_has_a_few_more_and_all_of_the_newest() -> None:
    kept: list[int] = []
    counts = {}
    for number in range(1, 10_001):
        kept.append(number)
        kept = _thinned(kept)
        counts[number] = len(kept)
    assert kept[-2 * DENSITY :] == list(range(10_001 - 2 * DENSITY, 10_001))
    assert (counts[10], counts[10_000] < 12 * DENSITY) == (10, True)


def test_who_takes_a_snapshot_removes_those_that_are_not_needed_any_more() -> None:
    small = Small()
    small.do(RegisterDevice("d"))
    taken = []
    for number in range(3 * DENSITY):
        small.do(PatchTags("d", {"n": number}))
        taken.append(small.drain())
        assert small.taking.take(0) is not None
    left = list(small.snapshots.listed(0))
    assert left[-2 * DENSITY :] == taken[-2 * DENSITY :]
    assert len(left) < len(taken)
    for vector in taken:
        assert small.replay(quick=True).in_effect(0, vector) == small.replay(quick=False).in_effect(0, vector)
