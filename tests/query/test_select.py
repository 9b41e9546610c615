from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from events.query.condition import parse_condition
from events.query.evaluate import compared, contained, holds, twin_row, value_at
from events.query.parse import parse
from events.query.select import Bounds, compile_select, select_bounds
from events.query.tree import UNDEFINED, Expression, Not, Op, Path, Primitive, paths_of
from tests.fleet.histories import conditions
from tests.query.given import PATHS, indexed_wheres, rows, wheres

Fleet = Sequence[dict[str, Any]]


class Index:
    """Knows some properties of a fleet, and how some pairs of them compare."""

    def __init__(
        self, fleet: Fleet, indexed: frozenset[Path], pairs: frozenset[tuple[Path, Path]] = frozenset()
    ) -> None:
        self._fleet, self._indexed, self._pairs = fleet, indexed, pairs
        self.asked: list[Path] = []

    def everyone(self) -> BitMap:
        return BitMap(range(len(self._fleet)))

    def compare(self, path: Path, op: Op, literal: Primitive) -> BitMap | None:
        assert not isinstance(literal, bool) or op in {Op.EQ, Op.NE}
        self.asked.append(path)
        if path not in self._indexed:
            return None
        verdicts = [compared(value_at(path, row), op, literal) for row in self._fleet]
        return where_is(verdicts, verdict=True)

    def defined(self, path: Path) -> BitMap | None:
        if path not in self._indexed:
            return None
        return where_is([value_at(path, row) is not UNDEFINED for row in self._fleet], verdict=True)

    def contains(self, path: Path, literal: str) -> BitMap | None:
        if path not in self._indexed:
            return None
        return where_is([contained(value_at(path, row), literal) for row in self._fleet], verdict=True)

    def compare_properties(self, left: Path, op: Op, right: Path) -> BitMap | None:
        if (left, right) not in self._pairs:
            return None
        return where_is([compared(value_at(left, row), op, value_at(right, row)) for row in self._fleet], verdict=True)


def where_is(verdicts: Sequence[bool | None], *, verdict: bool) -> BitMap:
    return BitMap([ordinal for ordinal, one in enumerate(verdicts) if one is verdict])


def condition(text: str) -> Expression:
    where = parse(f"select * where {text}").where
    assert where is not None
    return where


class Sides(NamedTuple):
    """Bounds on whom a condition is true for, and on whom its negation is."""

    sure_true: BitMap
    maybe_true: BitMap
    sure_false: BitMap
    maybe_false: BitMap


def sides(where: Expression, index: Index) -> Sides:
    true, false = select_bounds(where, index), select_bounds(Not(where), index)
    return Sides(true.sure, true.maybe, false.sure, false.maybe)


A, B = ("tags", "a"), ("tags", "b")
FLEET = [{"tags": {"a": 1, "b": "x"}}, {"tags": {"a": 2}}, {"tags": {"b": "y"}}]
ALL, NONE = BitMap([0, 1, 2]), BitMap()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tags.a = 1", Sides(BitMap([0]), BitMap([0]), BitMap([1]), BitMap([1]))),
        ("2 <= tags.a", Sides(BitMap([1]), BitMap([1]), BitMap([0]), BitMap([0]))),
        ("tags.a in [1, 2]", Sides(BitMap([0, 1]), BitMap([0, 1]), NONE, NONE)),
        ("tags.a nin [1, 3]", Sides(BitMap([1]), BitMap([1]), BitMap([0]), BitMap([0]))),
        ("tags.a in [3, 'x']", Sides(NONE, NONE, NONE, NONE)),
        ("is_defined(tags.a)", Sides(BitMap([0, 1]), BitMap([0, 1]), BitMap([2]), BitMap([2]))),
        ("tags.a < true", Sides(NONE, NONE, NONE, NONE)),
        ("tags.a = undefined", Sides(NONE, NONE, NONE, NONE)),
        ("tags.a + 1", Sides(NONE, NONE, NONE, NONE)),
        ("1 + 1 = 2", Sides(ALL, ALL, NONE, NONE)),
        ("1 in [2]", Sides(NONE, NONE, ALL, ALL)),
        ("null", Sides(NONE, NONE, NONE, NONE)),
        # Not indexed, or nothing an index of values knows.
        ("tags.b = 'x'", Sides(NONE, ALL, NONE, ALL)),
        ("is_defined(tags.b)", Sides(NONE, ALL, NONE, ALL)),
        ("tags.a + 1 = 2", Sides(NONE, ALL, NONE, ALL)),
        ("tags.a = tags.a", Sides(NONE, ALL, NONE, ALL)),
        ("tags.a = null", Sides(NONE, ALL, NONE, ALL)),
        ("tags.a = 1 and tags.b = 'x'", Sides(NONE, BitMap([0]), BitMap([1]), ALL)),
        ("tags.a = 1 or tags.b = 'x'", Sides(BitMap([0]), ALL, NONE, BitMap([1]))),
        ("not (tags.a = 1 and tags.b = 'x')", Sides(BitMap([1]), ALL, NONE, BitMap([0]))),
    ],
)
def test_what_an_index_of_one_property_says(text: str, expected: Sides) -> None:
    assert sides(condition(text), Index(FLEET, frozenset({A}))) == expected


def test_without_a_condition_everyone_is_selected() -> None:
    assert select_bounds(None, Index(FLEET, frozenset())) == Bounds(ALL, ALL)


def test_two_properties_are_compared_where_the_index_can() -> None:
    index = Index([*FLEET, {"tags": {"a": 1, "b": 1}}], frozenset(), frozenset({(A, B)}))
    both = BitMap([3])
    assert sides(condition("tags.a = tags.b"), index) == Sides(both, both, NONE, NONE)
    assert sides(condition("not tags.a = tags.b"), index) == Sides(NONE, NONE, both, both)
    assert sides(condition("tags.a <> tags.b"), index) == Sides(NONE, NONE, both, both)
    assert sides(condition("tags.b = tags.a"), index).maybe_true == index.everyone()


def test_when_nobody_is_left_the_rest_of_an_and_is_not_asked_for() -> None:
    index = Index(FLEET, frozenset({A, B}))
    assert select_bounds(condition("tags.a = 7 and tags.b = 'x' and tags.b = 'y'"), index) == Bounds(NONE, NONE)
    assert index.asked == [A]


fleets = st.lists(rows, max_size=40)
values = st.sampled_from(["prod", "test", 1, 1.5, 2, True])
twins = st.builds(
    twin_row,
    st.sampled_from(["d1", "d2", "d4"]),
    st.fixed_dictionaries({}, optional={"env": values, "n": values, "site": values | st.builds(dict, floor=values)}),
    st.fixed_dictionaries({}, optional={"env": values, "site": st.builds(dict, floor=values)}),
)


@settings(derandomize=True, deadline=None, max_examples=250)
@given(wheres, fleets, st.frozensets(st.sampled_from(PATHS)))
def test_the_truth_lies_within_the_bounds(where: Expression, fleet: Fleet, known: frozenset[Path]) -> None:
    found_sides = sides(where, Index(fleet, known))
    verdicts = [holds(where, row) for row in fleet]
    assert found_sides.sure_true <= where_is(verdicts, verdict=True) <= found_sides.maybe_true
    assert found_sides.sure_false <= where_is(verdicts, verdict=False) <= found_sides.maybe_false
    assert found_sides.maybe_true | found_sides.maybe_false <= BitMap(range(len(fleet)))


@settings(derandomize=True, deadline=None, max_examples=250)
@given(indexed_wheres, fleets, st.frozensets(st.integers(0, 40)))
def test_select_finds_the_rows_for_which_a_condition_holds(
    where: Expression, fleet: Fleet, ordinals: frozenset[int]
) -> None:
    agree(where, fleet, BitMap(ordinals))


@settings(derandomize=True, deadline=None, max_examples=250)
@given(conditions, st.lists(twins, max_size=40), st.frozensets(st.integers(0, 40)))
def test_select_finds_the_rows_for_which_a_target_condition_holds(
    text: str, fleet: Fleet, ordinals: frozenset[int]
) -> None:
    agree(parse_condition(text), fleet, BitMap(ordinals))


def test_a_condition_selects_among_everyone_where_nothing_else_is_asked() -> None:
    index = Index(FLEET, frozenset({A}))
    assert compile_select(None)(index, None) == ALL
    assert compile_select(parse_condition("*"))(index, BitMap([1])) == BitMap([1])
    assert compile_select(parse_condition(""))(index, None) == NONE


def agree(where: Expression, fleet: Fleet, ordinals: BitMap) -> None:
    index = Index(fleet, frozenset({*PATHS, *paths_of(where)}))
    verdicts = [holds(where, row) for row in fleet]
    within = ordinals & index.everyone()
    for side, verdict in ((where, True), (Not(where), False)):
        expected = where_is(verdicts, verdict=verdict)
        assert compile_select(side)(index, None) == expected
        assert compile_select(side)(index, within) == expected & within


@settings(derandomize=True, deadline=None, max_examples=250)
@given(indexed_wheres, fleets)
def test_the_bounds_are_equal_when_the_index_knows_all(where: Expression, fleet: Fleet) -> None:
    found_sides = sides(where, Index(fleet, frozenset(PATHS)))
    assert found_sides.sure_true == found_sides.maybe_true
    assert found_sides.sure_false == found_sides.maybe_false
