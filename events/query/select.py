"""Selection by an index: the rows for which a condition is true, by set algebra on columns, without reading rows."""

from collections.abc import Callable
from itertools import repeat
from typing import Protocol

import msgspec
from pyroaring import BitMap

from events.query import tree
from events.query.evaluate import compared, holds
from events.query.tree import Expression, Op, Path, Primitive


class ColumnIndex(Protocol):
    """Sets of ordinals by property. Callers must not change the sets. `None` means that a path is not indexed."""

    def everyone(self) -> BitMap:
        """All rows."""
        ...

    def compare(self, path: Path, op: Op, literal: Primitive) -> BitMap | None:
        """Rows for which a comparison is true. Booleans are compared only for equality."""
        ...

    def defined(self, path: Path) -> BitMap | None:
        """Rows that have the property, null included."""
        ...

    def contains(self, path: Path, literal: str) -> BitMap | None:
        """Rows whose array at a path has a string."""
        ...

    def compare_properties(self, left: Path, op: Op, right: Path) -> BitMap | None:
        """Rows for which a comparison of two properties is true."""
        ...


class Bounds(msgspec.Struct, frozen=True):
    """Bounds of a set: `sure` ⊆ the set ⊆ `maybe`. Only the rows in `maybe - sure` need to be evaluated."""

    sure: BitMap
    maybe: BitMap


# Bounds as a pair; the same object twice means exact. A struct per leaf would cost as much time as a small set.
_Sides = tuple[BitMap, BitMap]
_Select = Callable[[ColumnIndex, BitMap], _Sides]
Select = Callable[[ColumnIndex, BitMap | None], BitMap]


def select_bounds(where: Expression | None, index: ColumnIndex) -> Bounds:
    """Return bounds of the rows for which a condition is true."""
    everyone = index.everyone()
    return Bounds(everyone, everyone) if where is None else Bounds(*_compiled(where)(index, everyone))


def compile_select(where: Expression | None) -> Select:
    """Return a function that selects the rows for which a condition is true, of all rows or of the rows `within`.

    The index must know all properties of the condition.
    """
    # The condition is compiled once, because a worker selects for every deployment and every batch.
    match where:
        case tree.Comparison(
            left=tree.PathOf(path=path), op=Op.EQ, right=tree.Constant(value=str() | int() | float() as literal)
        ):
            return _equality(path, literal)
        case _:
            sides = _compiled(tree.MATCH_ALL if where is None else where)

    def select(index: ColumnIndex, within: BitMap | None) -> BitMap:
        sure, maybe = sides(index, index.everyone() if within is None else within)
        assert sure is maybe
        return sure

    return select


def _equality(path: Path, literal: Primitive) -> Select:
    # Most conditions are one equality, and a worker evaluates thousands per batch, so they skip the bounds. The local
    # variable saves two attribute reads per call.
    equal = Op.EQ

    def select(index: ColumnIndex, within: BitMap | None) -> BitMap:
        members = index.compare(path, equal, literal)
        assert members is not None
        return members & (index.everyone() if within is None else within)

    return select


def among(op: Op, literal: Primitive, *values: tuple[Primitive, BitMap]) -> BitMap:
    """Return the rows for which a comparison is true, from the sets of rows by value of a property with few values."""
    return BitMap().union(*(members for value, members in values if compared(value, op, literal) is True))


def _compiled(where: Expression, truth: bool = True) -> _Select:  # noqa: FBT001, FBT002 - the side that is selected
    """Compile the selection of rows for which a condition is true, or false."""
    # The most frequent cases come first and name their members: positional patterns take a quarter more time.
    match where:
        case tree.Comparison(left=tree.PathOf(path=path), op=op, right=tree.Constant(value=literal)):
            return _comparison(path, op if truth else tree.OPPOSITE[op], literal)
        case tree.And(terms=terms) | tree.Or(terms=terms):
            parts = tuple(map(_compiled, terms, repeat(truth)))
            return _every(parts) if isinstance(where, tree.And) is truth else _any(parts)
        case tree.Not(term=term):
            return _compiled(term, not truth)
        case tree.Comparison(tree.Constant(literal), op, tree.PathOf(path)):
            return _comparison(path, tree.MIRRORED[op if truth else tree.OPPOSITE[op]], literal)
        case tree.Comparison(tree.PathOf(left), op, tree.PathOf(right)):
            op = op if truth else tree.OPPOSITE[op]
            return _leaf(lambda index: index.compare_properties(left, op, right))
        case tree.PathOf(path):
            # A property without comparison is true only if its value is true.
            return _comparison(path, Op.EQ, literal=truth)
        case tree.IsDefined(path):
            return _leaf(lambda index: index.defined(path)) if truth else _leaf(lambda index: _without(index, path))
        case tree.Contains(path, str(text)) if truth:
            return _leaf(lambda index: index.contains(path, text))
        case tree.Arithmetic():
            return _no_rows  # numbers are neither true nor false
        case _ if not tree.paths_of(where):
            return _all_rows if holds(where, {}) is truth else _no_rows
        case tree.In(value, literals):
            op = Op.EQ if truth else Op.NE
            equalities = tuple(_compiled(tree.Comparison(value, op, tree.Constant(literal))) for literal in literals)
            return _any(equalities) if truth else _every(equalities)
        case _:
            return _undecided


def _every(parts: tuple[_Select, ...]) -> _Select:
    def select(index: ColumnIndex, within: BitMap) -> _Sides:
        sure = maybe = within
        # Each part gets only the rows that the parts before it left.
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


def _comparison(path: Path, op: Op, literal: tree.Literal) -> _Select:
    match literal:
        case tree.Undefined():
            return _no_rows
        case None:
            return _undecided
        case bool() if op not in {Op.EQ, Op.NE}:
            return _no_rows  # booleans have no order

    def select(index: ColumnIndex, within: BitMap) -> _Sides:
        # A copy of `_leaf` without its extra call, because nearly all conditions consist of comparisons.
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


def _all_rows(_index: ColumnIndex, within: BitMap) -> _Sides:
    members = BitMap(within)
    return members, members


def _no_rows(_index: ColumnIndex, _within: BitMap) -> _Sides:
    members = BitMap()
    return members, members


def _undecided(_index: ColumnIndex, within: BitMap) -> _Sides:
    return BitMap(), within
