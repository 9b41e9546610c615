"""The same verdicts for a whole fleet at once, by sets."""

import enum
from collections.abc import Callable
from typing import Protocol

import msgspec
from pyroaring import BitMap

from events.targeting.tree import And, Comparison, Condition, Everyone, IsDefined, Literal, Nobody, Not, Op, Or, Path


class Kind(enum.Enum):
    """The types that compare."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"


class IndexReader(Protocol):
    """Sets of ordinals by property. What it answers is not to be changed."""

    def everyone(self) -> BitMap:
        """Every device."""
        ...

    def equal(self, path: Path, literal: Literal) -> BitMap:
        """Those whose value is of the literal's kind and equal to it."""
        ...

    def of_kind(self, path: Path, kind: Kind) -> BitMap:
        """Those whose value is of a kind."""
        ...

    def present(self, path: Path) -> BitMap:
        """Those that have the property."""
        ...

    def ordered(self, path: Path, op: Op, literal: str | float) -> BitMap:
        """Those whose value is of the literal's kind and compares so with it; `op` is one of < <= > >=."""
        ...


class Selection(msgspec.Struct, frozen=True):
    """For whom a condition is true, and for whom it is false; for the others it is unknown."""

    true: BitMap
    false: BitMap


SelectTrue = Callable[[IndexReader, BitMap | None], BitMap]


def kind_of(literal: Literal) -> Kind:
    """The kind of a literal."""
    if isinstance(literal, bool):
        return Kind.BOOLEAN
    return Kind.STRING if isinstance(literal, str) else Kind.NUMBER


def select(condition: Condition, index: IndexReader, within: BitMap | None = None) -> Selection:
    """Both sides of a condition, among `within` or everyone."""
    everyone = index.everyone() if within is None else within
    match condition:
        case Everyone():
            return Selection(BitMap(everyone), BitMap())
        case Nobody():
            return Selection(BitMap(), BitMap(everyone))
        case Comparison(path, op, literal):
            comparable = index.of_kind(path, kind_of(literal)) & everyone
            true = _comparison(index, path, op, literal, everyone)
            return Selection(true, comparable - true)
        case IsDefined(path):
            true = index.present(path) & everyone
            return Selection(true, everyone - true)
        case Not(term):
            inner = select(term, index, within)
            return Selection(inner.false, inner.true)
        case And(terms):
            sides = [select(term, index, within) for term in terms]
            return Selection(
                BitMap.intersection(*(side.true for side in sides)), BitMap.union(*(side.false for side in sides))
            )
        case Or(terms):
            sides = [select(term, index, within) for term in terms]
            return Selection(
                BitMap.union(*(side.true for side in sides)), BitMap.intersection(*(side.false for side in sides))
            )


def _comparison(index: IndexReader, path: Path, op: Op, literal: Literal, everyone: BitMap) -> BitMap:
    match op:
        case Op.EQ:
            return index.equal(path, literal) & everyone
        case Op.NE:
            return (index.of_kind(path, kind_of(literal)) & everyone) - index.equal(path, literal)
        case _:
            assert not isinstance(literal, bool)
            return index.ordered(path, op, literal) & everyone


def compile_true(condition: Condition) -> SelectTrue:
    """For whom a condition is true, taken apart beforehand: what is done for every deployment and every batch."""
    match condition:
        case Comparison(path, Op.EQ, literal):
            return lambda index, within: index.equal(path, literal) & (index.everyone() if within is None else within)
        case And(terms):
            return _all_of(tuple(compile_true(term) for term in terms))
        case Or(terms):
            return _any_of(tuple(compile_true(term) for term in terms))
        case _:
            return lambda index, within: select(condition, index, within).true


def _all_of(parts: tuple[SelectTrue, ...]) -> SelectTrue:
    def chosen(index: IndexReader, within: BitMap | None) -> BitMap:
        # Each part only looks at those whom the parts before it left over.
        for part in parts:
            within = part(index, within)
            if not within:
                break
        assert within is not None
        return within

    return chosen


def _any_of(parts: tuple[SelectTrue, ...]) -> SelectTrue:
    return lambda index, within: BitMap.union(*(part(index, within) for part in parts))
