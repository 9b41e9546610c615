"""A device's place in a rollout's order is the number of devices that are taken before it is, and it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from events.rollout.cohort import first, hashes_of, place
from events.rollout.sets import FleetSet

_ordinals = st.sets(st.integers(0, 30), min_size=1)


@given(st.fixed_dictionaries({0: _ordinals, 3: _ordinals}), st.booleans())
def test_the_first_so_many_have_whoever_has_that_place_and_one_less_has_not(
    members: dict[int, set[int]],
    equal: bool,  # noqa: FBT001
) -> None:
    candidates = FleetSet({number: BitMap(some) for number, some in members.items()})
    # With equal hashes all depends on who comes first among equals.
    hashes = {
        number: np.zeros(31, dtype=np.uint64) if equal else hashes_of(f"p{number}-d{ordinal}" for ordinal in range(31))
        for number in members
    }
    for number, some in members.items():
        for ordinal in some:
            expected_place = place(candidates, "r", hashes, number=number, ordinal=ordinal)
            assert ordinal in first(candidates, expected_place, "r", hashes).of_partition(number)
            assert ordinal not in first(candidates, expected_place - 1, "r", hashes).of_partition(number)


def test_for_none_and_for_all_no_order_is_needed() -> None:
    candidates = FleetSet({0: BitMap([1, 2])})
    assert first(candidates, 0, "r", {}) == FleetSet({})
    assert first(candidates, 2, "r", {}) == candidates
    assert first(candidates, 3, "r", {}) == candidates
