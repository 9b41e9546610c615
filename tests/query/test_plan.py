from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from events.query.evaluate import compared, contained, found, holds
from events.query.parse import parse
from events.query.plan import Bounds, Exact, true_bounds
from events.query.tree import UNDEFINED, Comparison, Expression, In, Not, Primitive, printed_expression
from events.targeting.tree import Op, Path
from tests.query.given import PATHS, indexed_wheres, rows, wheres

Fleet = Sequence[dict[str, Any]]


class Index:
    """Knows some properties of a fleet, and some leaves by their text."""

    def __init__(self, fleet: Fleet, known: frozenset[Path], special: dict[str, Exact] | None = None) -> None:
        self._fleet, self._known, self._special = fleet, known, special or {}
        self.asked: list[Path] = []

    def everyone(self) -> BitMap:
        return BitMap(range(len(self._fleet)))

    def compare(self, path: Path, op: Op, literal: Primitive) -> BitMap | None:
        assert not isinstance(literal, bool) or op in {Op.EQ, Op.NE}
        self.asked.append(path)
        if path not in self._known:
            return None
        verdicts = [compared(found(path, row), op, literal) for row in self._fleet]
        return where_is(verdicts, verdict=True)

    def defined(self, path: Path) -> BitMap | None:
        if path not in self._known:
            return None
        return where_is([found(path, row) is not UNDEFINED for row in self._fleet], verdict=True)

    def contains(self, path: Path, literal: str) -> BitMap | None:
        if path not in self._known:
            return None
        return where_is([contained(found(path, row), literal) for row in self._fleet], verdict=True)

    def special(self, expression: Comparison | In) -> Exact | None:
        return self._special.get(printed_expression(expression))


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
    true, false = true_bounds(where, index), true_bounds(Not(where), index)
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
    assert true_bounds(None, Index(FLEET, frozenset())) == Bounds(ALL, ALL)


@pytest.mark.parametrize("text", ["tags.a = tags.b", "tags.a in [7, 8]", "tags.a < 7"])
def test_a_leaf_that_the_index_knows_is_not_taken_apart(text: str) -> None:
    leaf = condition(text)
    known = {printed_expression(leaf): (BitMap([2]), BitMap([0]))}
    index = Index(FLEET, frozenset({A, B}), known)
    assert sides(leaf, index) == Sides(BitMap([2]), BitMap([2]), BitMap([0]), BitMap([0]))
    assert sides(condition(f"not {text}"), index).sure_true == BitMap([0])
    assert index.asked == []


def test_when_nobody_is_left_the_rest_of_an_and_is_not_asked_for() -> None:
    index = Index(FLEET, frozenset({A, B}))
    assert true_bounds(condition("tags.a = 7 and tags.b = 'x' and tags.b = 'y'"), index) == Bounds(NONE, NONE)
    assert index.asked == [A]


fleets = st.lists(rows, max_size=40)


@settings(derandomize=True, deadline=None, max_examples=250)
@given(wheres, fleets, st.frozensets(st.sampled_from(PATHS)))
def test_the_truth_lies_within_the_bounds(where: Expression, fleet: Fleet, known: frozenset[Path]) -> None:
    found_sides = sides(where, Index(fleet, known))
    verdicts = [holds(where, row) for row in fleet]
    assert found_sides.sure_true <= where_is(verdicts, verdict=True) <= found_sides.maybe_true
    assert found_sides.sure_false <= where_is(verdicts, verdict=False) <= found_sides.maybe_false
    assert found_sides.maybe_true | found_sides.maybe_false <= BitMap(range(len(fleet)))


@settings(derandomize=True, deadline=None, max_examples=250)
@given(indexed_wheres, fleets)
def test_the_bounds_are_equal_when_the_index_knows_all(where: Expression, fleet: Fleet) -> None:
    found_sides = sides(where, Index(fleet, frozenset(PATHS)))
    assert found_sides.sure_true == found_sides.maybe_true
    assert found_sides.sure_false == found_sides.maybe_false
