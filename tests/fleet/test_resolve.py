"""Who gets what, by sets, against a plain reading of each device."""

import random
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from pyroaring import BitMap

from events.deployment.events import Everyone
from events.fleet.deployments import Deployment
from events.fleet.resolve import Ordinals, resolve, resolve_own, together

PLAIN = Deployment("", 0, 0, layered=False, condition="*", admission=Everyone(), content={}, metrics={})


def base(name: str, priority: int = 0) -> Deployment:
    return replace(PLAIN, id=name, priority=priority)


def layer(name: str, priority: int) -> Deployment:
    return replace(PLAIN, id=name, priority=priority, layered=True)


def names(decided: Iterable[tuple[Sequence[Any], Ordinals]]) -> dict[int, str]:
    """By ordinal, the names of what was decided for it; each ordinal comes once."""
    found: dict[int, str] = {}
    for stack, ordinals in decided:
        for ordinal in ordinals.tolist():
            assert ordinal not in found
            found[ordinal] = " ".join(getattr(member, "id", member) for member in stack)
    return found


def resolved(
    within: Iterable[int], bases: Sequence[Deployment], layers: Sequence[Deployment], **eligible: Iterable[int]
) -> dict[int, str]:
    members = {name: BitMap(ordinals) for name, ordinals in eligible.items()}
    return names(resolve(BitMap(within), bases_descending=bases, layers_ascending=layers, eligible=members))


def test_without_devices_nothing_is_decided() -> None:
    assert resolved([], [base("b")], [], b=[]) == {}
    assert names(resolve_own(BitMap(), ascending=[base("b")], eligible={"b": BitMap()})) == {}
    assert names(together([])) == {}


def test_the_first_base_that_targets_a_device_is_its_base() -> None:
    bases = [base("a", 3), base("b", 2), base("c", 1)]
    assert resolved(range(5), bases, [], a=[1], b=[1, 2, 9], c=[1, 2, 3]) == {0: "", 1: "a", 2: "b", 3: "c", 4: ""}


def test_a_base_that_has_all_devices_leaves_none_to_others() -> None:
    assert resolved([4, 7], [base("a", 2), base("b", 1)], [], a=[4, 7], b=[4, 7]) == {4: "a", 7: "a"}


def test_a_base_that_targets_none_of_those_that_are_left_is_passed_over() -> None:
    assert resolved([1, 2], [base("a", 3), base("b", 2), base("c", 1)], [], a=[1], b=[1], c=[2]) == {1: "a", 2: "c"}


@pytest.mark.parametrize(("priority", "stack"), [(4, "b"), (5, "b"), (6, "b x")])
def test_a_layer_applies_strictly_above_its_base(priority: int, stack: str) -> None:
    assert resolved([0], [base("b", 5)], [layer("x", priority)], b=[0], x=[0]) == {0: stack}


def test_a_layer_needs_a_base() -> None:
    assert resolved([0, 1], [base("b", 1)], [layer("x", 9), layer("y", 10)], b=[1], x=[0, 1], y=[0]) == {
        0: "",
        1: "b x",
    }
    assert resolved([0], [], [layer("x", 9)], x=[0]) == {0: ""}


def test_layers_apply_to_the_bases_below_them_one_after_the_other() -> None:
    bases, layers = [base("high", 5), base("low", 1)], [layer("x", 3), layer("y", 7)]
    found = resolved(range(4), bases, layers, high=[0, 1], low=[0, 1, 2, 3], x=[0, 2], y=[0, 2, 3])
    assert found == {0: "high y", 1: "high", 2: "low x y", 3: "low y"}


def test_of_layers_with_equal_priority_the_newest_applies() -> None:
    layers = [layer("older", 3), layer("newer", 3), layer("above", 4)]
    found = resolved(range(3), [base("b")], layers, b=[0, 1, 2], older=[0, 1], newer=[1, 2], above=[0, 1])
    assert found == {0: "b older above", 1: "b newer above", 2: "b newer"}


def test_devices_that_stand_differently_in_between_are_told_apart_although_first_and_last_stand_alike() -> None:
    layers = [layer("x", 1), layer("y", 2)]
    assert resolved(range(3), [base("b")], layers, b=[0, 1, 2], x=[1], y=[0, 1, 2]) == {0: "b y", 1: "b x y", 2: "b y"}


def test_every_configuration_of_ones_own_twin_applies_whatever_else_does() -> None:
    eligible = {"a": BitMap([1, 2, 9]), "b": BitMap([2, 3]), "c": BitMap([9])}
    own = resolve_own(BitMap(range(4)), ascending=[base("a", 1), base("b", 2), base("c", 3)], eligible=eligible)
    assert names(own) == {0: "", 1: "a", 2: "a b", 3: "b"}


def test_what_is_decided_for_some_devices_each_is_told_by_device() -> None:
    parts = [("x", np.array([3, 5], dtype=np.uint32)), ("y", np.array([5, 8], dtype=np.uint32))]
    assert names(together(parts)) == {3: "x", 5: "x y", 8: "y"}


def plain(ordinal: int, bases: Sequence[Deployment], layers: Sequence[Deployment], eligible: dict[str, BitMap]) -> str:
    own = next((one for one in bases if ordinal in eligible[one.id]), None)
    if own is None:
        return ""
    by_priority = {
        one.priority: one.id for one in layers if one.priority > own.priority and ordinal in eligible[one.id]
    }
    return " ".join([own.id, *(by_priority[priority] for priority in sorted(by_priority))])


@given(draw=st.randoms(use_true_random=False))
def test_stacks_are_those_of_a_plain_reading_of_each_device(draw: random.Random) -> None:
    bases = sorted((base(f"b{number}", draw.randint(0, 4)) for number in range(3)), key=lambda one: -one.priority)
    layers = sorted((layer(f"l{number}", draw.randint(0, 4)) for number in range(4)), key=lambda one: one.priority)
    eligible = {one.id: BitMap(draw.sample(range(12), draw.randint(0, 12))) for one in (*bases, *layers)}
    within = BitMap(draw.sample(range(12), 8))
    found = names(resolve(within, bases_descending=bases, layers_ascending=layers, eligible=eligible))
    assert found == {ordinal: plain(ordinal, bases, layers, eligible) for ordinal in within}
