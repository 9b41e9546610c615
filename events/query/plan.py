"""What an index can say of a condition without looking at a row: bounds on whom it is true for."""

from typing import Protocol

import msgspec
from pyroaring import BitMap

from events.query.evaluate import compared, holds
from events.query.tree import (
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
    Not,
    Or,
    PathOf,
    Primitive,
    Undefined,
    paths_of,
)
from events.targeting.tree import Op, Path

Exact = tuple[BitMap, BitMap]


class QueryIndex(Protocol):
    """Sets of ordinals by property. What it answers is not to be changed; what is answered from it neither."""

    def everyone(self) -> BitMap:
        """Every row."""
        ...

    def compare(self, path: Path, op: Op, literal: Primitive) -> BitMap | None:
        """For whom a comparison is true; `None` where the path is not indexed. Booleans are compared for equality alone."""
        ...

    def defined(self, path: Path) -> BitMap | None:
        """Who has the property, null included; `None` where the path is not indexed."""
        ...

    def contains(self, path: Path, literal: str) -> BitMap | None:
        """Whose array at a path has a text; `None` where the arrays of that path are not indexed."""
        ...

    def special(self, expression: Comparison | In) -> Exact | None:
        """For whom a leaf is true, and for whom it is false, if the index knows this very leaf; asked first for each."""
        ...


class Bounds(msgspec.Struct, frozen=True):
    """A set between two: `sure` ⊆ the set ⊆ `maybe`. Only `maybe - sure` has to be looked at."""

    sure: BitMap
    maybe: BitMap


def among(op: Op, literal: Primitive, *values: tuple[Primitive, BitMap]) -> BitMap:
    """For whom a comparison is true of a property that has one of a few values, by who has them."""
    return BitMap().union(*(members for value, members in values if compared(value, op, literal) is True))


def true_bounds(where: Expression | None, index: QueryIndex) -> Bounds:
    """Bounds on whom a condition is true for; whom it is false for, NOT of it is true for."""
    return _exactly(index.everyone()) if where is None else _true(where, index)


def _true(where: Expression, index: QueryIndex) -> Bounds:
    match where:
        case And(terms):
            return _every(terms, _true, index)
        case Or(terms):
            return _some(terms, _true, index)
        case Not(term):
            return _false(term, index)
        case _:
            return _leaf(where, index, truth=True)


def _false(where: Expression, index: QueryIndex) -> Bounds:
    match where:
        case And(terms):
            return _some(terms, _false, index)
        case Or(terms):
            return _every(terms, _false, index)
        case Not(term):
            return _true(term, index)
        case _:
            return _leaf(where, index, truth=False)


class _Side(Protocol):
    def __call__(self, where: Expression, index: QueryIndex, /) -> Bounds: ...


def _every(terms: tuple[Expression, ...], side: _Side, index: QueryIndex) -> Bounds:
    first, *rest = terms
    found = side(first, index)
    for term in rest:
        # Nobody is left whom the other terms could tell anything about.
        if not found.maybe:
            break
        other = side(term, index)
        found = Bounds(found.sure & other.sure, found.maybe & other.maybe)
    return found


def _some(terms: tuple[Expression, ...], side: _Side, index: QueryIndex) -> Bounds:
    parts = []
    for term in terms:
        parts.append(side(term, index))  # noqa: PERF401 - a comprehension recurses twice as deep
    return Bounds(
        BitMap.union(*(part.sure for part in parts)),
        BitMap.union(*(part.maybe for part in parts)),
    )


def _exactly(known: BitMap) -> Bounds:
    return Bounds(known, known)


def _leaf(leaf: Expression, index: QueryIndex, *, truth: bool) -> Bounds:
    """One side of what is no AND, OR or NOT."""
    exact = _exact(leaf, index, truth=truth)
    if exact is not None:
        return _exactly(exact)
    if isinstance(leaf, In):
        equalities = tuple(Comparison(leaf.value, Op.EQ, Constant(literal)) for literal in leaf.literals)
        # One equality is not an Or, which has two terms at least; for the sets it makes no difference.
        return _some(equalities, _true, index) if truth else _every(equalities, _false, index)
    return Bounds(BitMap(), index.everyone())


def _exact(leaf: Expression, index: QueryIndex, *, truth: bool) -> BitMap | None:
    """For whom a leaf is true, or is false, or `None` if the index cannot tell."""
    special = index.special(leaf) if isinstance(leaf, Comparison | In) else None
    if special is not None:
        return special[0 if truth else 1]
    match leaf:
        case Comparison(PathOf(path), op, Constant(literal)):
            return _compare(path, op if truth else OPPOSITE[op], literal, index)
        case Comparison(Constant(literal), op, PathOf(path)):
            mirrored = MIRRORED[op]
            return _compare(path, mirrored if truth else OPPOSITE[mirrored], literal, index)
        case IsDefined(path):
            defined = index.defined(path)
            return defined if truth or defined is None else index.everyone() - defined
        case Contains(path, str(literal)) if truth:
            return index.contains(path, literal)
        case PathOf(path):
            # A bare property holds as it would compared with true.
            return _compare(path, Op.EQ, literal=truth, index=index)
        case Arithmetic():
            return BitMap()  # numbers are neither true nor false
        case _ if not paths_of(leaf):
            return index.everyone() if holds(leaf, {}) is truth else BitMap()
        case _:
            return None


def _compare(path: Path, op: Op, literal: Primitive | Undefined | None, index: QueryIndex) -> BitMap | None:
    match literal:
        case Undefined():
            return BitMap()
        case None:
            return None
        case bool() if op not in {Op.EQ, Op.NE}:
            return BitMap()  # booleans have no order
        case _:
            return index.compare(path, op, literal)
