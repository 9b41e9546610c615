"""For whom a condition is true, by set algebra over the columns of an index, without looking at a row."""

from collections.abc import Callable
from itertools import repeat
from typing import Protocol

import msgspec
from pyroaring import BitMap

from events.query.evaluate import compared, holds
from events.query.tree import (
    MATCH_ALL,
    MIRRORED,
    OPPOSITE,
    And,
    Arithmetic,
    Comparison,
    Constant,
    Contains,
    Expression,
    In,
    IsDefined,
    Literal,
    Not,
    Op,
    Or,
    Path,
    PathOf,
    Primitive,
    Undefined,
    paths_of,
)


class ColumnIndex(Protocol):
    """Sets of ordinals by property. What it answers is not to be changed; `None` where a path is not indexed."""

    def everyone(self) -> BitMap:
        """Every row."""
        ...

    def compare(self, path: Path, op: Op, literal: Primitive) -> BitMap | None:
        """For whom a comparison is true. Booleans are compared for equality alone."""
        ...

    def defined(self, path: Path) -> BitMap | None:
        """Who has the property, null included."""
        ...

    def contains(self, path: Path, literal: str) -> BitMap | None:
        """Whose array at a path has a text."""
        ...

    def compare_properties(self, left: Path, op: Op, right: Path) -> BitMap | None:
        """For whom a comparison of two properties is true."""
        ...


class Bounds(msgspec.Struct, frozen=True):
    """A set between two: `sure` ⊆ the set ⊆ `maybe`. Only `maybe - sure` has to be looked at."""

    sure: BitMap
    maybe: BitMap


# Bounds as a pair, and the same object twice where the index knows all: a struct for each leaf costs as much as a small set.
_Sides = tuple[BitMap, BitMap]
_Select = Callable[[ColumnIndex, BitMap], _Sides]
Select = Callable[[ColumnIndex, BitMap | None], BitMap]


def select_bounds(where: Expression | None, index: ColumnIndex) -> Bounds:
    """Bounds on whom a condition is true for; whom it is false for, NOT of it is true for."""
    everyone = index.everyone()
    return Bounds(everyone, everyone) if where is None else Bounds(*_compiled(where)(index, everyone))


def compile_select(where: Expression | None) -> Select:
    """For whom a condition is true, among some or everyone, in an index that knows all its properties.

    The condition is compiled beforehand: this is done for every deployment and every batch.
    """
    match where:
        case Comparison(PathOf(path), Op.EQ, Constant(str() | int() | float() as literal)):
            return _equality(path, literal)
        case _:
            sides = _compiled(MATCH_ALL if where is None else where)

    def select(index: ColumnIndex, within: BitMap | None) -> BitMap:
        sure, maybe = sides(index, index.everyone() if within is None else within)
        assert sure is maybe
        return sure

    return select


def _equality(path: Path, literal: Primitive) -> Select:
    """What most conditions are, without the way over bounds: a worker asks thousands of them about each batch."""
    equal = Op.EQ

    def select(index: ColumnIndex, within: BitMap | None) -> BitMap:
        members = index.compare(path, equal, literal)
        assert members is not None
        return members & (index.everyone() if within is None else within)

    return select


def among(op: Op, literal: Primitive, *values: tuple[Primitive, BitMap]) -> BitMap:
    """For whom a comparison is true of a property that has one of a few values, by who has them."""
    return BitMap().union(*(members for value, members in values if compared(value, op, literal) is True))


def _compiled(where: Expression, truth: bool = True) -> _Select:  # noqa: FBT001, FBT002 - the side that is selected
    """The rows for which a condition is true, or is false; it recurses once per level, as deep as queries are nested."""
    match where:
        case And(terms) | Or(terms):
            parts = tuple(map(_compiled, terms, repeat(truth)))
            return _every(parts) if isinstance(where, And) is truth else _any(parts)
        case Not(term):
            return _compiled(term, not truth)
        case Comparison(PathOf(path), op, Constant(literal)):
            return _comparison(path, op if truth else OPPOSITE[op], literal)
        case Comparison(Constant(literal), op, PathOf(path)):
            return _comparison(path, MIRRORED[op if truth else OPPOSITE[op]], literal)
        case Comparison(PathOf(left), op, PathOf(right)):
            op = op if truth else OPPOSITE[op]
            return _leaf(lambda index: index.compare_properties(left, op, right))
        case PathOf(path):
            # A bare property holds as it would compared with true.
            return _comparison(path, Op.EQ, literal=truth)
        case IsDefined(path):
            return _leaf(lambda index: index.defined(path)) if truth else _leaf(lambda index: _without(index, path))
        case Contains(path, str(text)) if truth:
            return _leaf(lambda index: index.contains(path, text))
        case Arithmetic():
            return _nobody  # numbers are neither true nor false
        case _ if not paths_of(where):
            return _everybody if holds(where, {}) is truth else _nobody
        case In(value, literals):
            op = Op.EQ if truth else Op.NE
            equalities = tuple(_compiled(Comparison(value, op, Constant(literal))) for literal in literals)
            return _any(equalities) if truth else _every(equalities)
        case _:
            return _undecided


def _every(parts: tuple[_Select, ...]) -> _Select:
    def select(index: ColumnIndex, within: BitMap) -> _Sides:
        sure = maybe = within
        # Each part only looks at those whom the parts before it left over.
        for part in parts:
            exact = sure is maybe
            part_sure, maybe = part(index, maybe)
            sure = maybe if exact and part_sure is maybe else sure & part_sure
            if not maybe:
                break
        return sure, maybe

    return select


def _any(parts: tuple[_Select, ...]) -> _Select:
    def select(index: ColumnIndex, within: BitMap) -> _Sides:
        sides = []
        for part in parts:
            sides.append(part(index, within))  # noqa: PERF401 - a comprehension recurses twice as deep
        maybe = BitMap.union(*(side[1] for side in sides))
        if all(sure is maybe for sure, maybe in sides):
            return maybe, maybe
        return BitMap.union(*(side[0] for side in sides)), maybe

    return select


def _comparison(path: Path, op: Op, literal: Literal) -> _Select:
    match literal:
        case Undefined():
            return _nobody
        case None:
            return _undecided
        case bool() if op not in {Op.EQ, Op.NE}:
            return _nobody  # booleans have no order

    def select(index: ColumnIndex, within: BitMap) -> _Sides:
        # As `_leaf`, without its one call more for what nearly every condition is made of.
        members = index.compare(path, op, literal)
        if members is None:
            return BitMap(), within
        members = members & within
        return members, members

    return select


def _leaf(members_of: Callable[[ColumnIndex], BitMap | None]) -> _Select:
    def select(index: ColumnIndex, within: BitMap) -> _Sides:
        members = members_of(index)
        if members is None:
            return BitMap(), within
        members = members & within
        return members, members

    return select


def _without(index: ColumnIndex, path: Path) -> BitMap | None:
    defined = index.defined(path)
    return None if defined is None else index.everyone() - defined


def _everybody(_index: ColumnIndex, within: BitMap) -> _Sides:
    members = BitMap(within)
    return members, members


def _nobody(_index: ColumnIndex, _within: BitMap) -> _Sides:
    members = BitMap()
    return members, members


def _undecided(_index: ColumnIndex, within: BitMap) -> _Sides:
    return BitMap(), within
