"""A condition evaluated on one twin, term by term: the value of each property, and the truth of each term."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from events.query.evaluate import QueryRow, holds, value_at
from events.query.tree import UNDEFINED, And, Comparison, Constant, Expression, IsDefined, Not, Or, Path, PathOf

PropertyType = Literal["missing", "text", "number", "boolean", "object", "list"]


class Judged(msgspec.Struct, frozen=True):
    """A term with its truth (`None`: unknown), and the terms that it joins.

    A comparison and `is_defined` have the property's `value` and its type, `actual_type`. `comparable` is whether that type is
    the literal's.
    """

    term: Expression
    truth: bool | None
    terms: tuple["Judged", ...] = ()
    actual_type: PropertyType | None = None
    value: object = None
    comparable: bool = True


def judge(condition: Expression, row: QueryRow) -> Judged:
    """Returns each term of a target condition with its truth on a twin; `holds` decides every truth."""
    truth = holds(condition, row)
    match condition:
        case And(terms) | Or(terms):
            return Judged(condition, truth, tuple(judge(term, row) for term in terms))
        case Not(term):
            return Judged(condition, truth, (judge(term, row),))
        case Comparison(PathOf(path), _, Constant(literal)):
            actual_type, value = _typed_value(path, row)
            return Judged(condition, truth, (), actual_type, value, actual_type == type_of(literal))
        case IsDefined(path):
            return Judged(condition, truth, (), *_typed_value(path, row))
        case _:
            return Judged(condition, truth)


def _typed_value(path: Path, row: QueryRow) -> tuple[PropertyType, object]:
    value = value_at(path, row)
    return type_of(value), None if value is UNDEFINED else value


def type_of(value: object) -> PropertyType:
    """Returns the type of a value by the name that messages use; `missing` for no value and for null."""
    if value is UNDEFINED or value is None:
        return "missing"
    # bool is an int in Python: without this, true would be called a number.
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | float):
        return "number"
    return "list" if isinstance(value, list) else "object"


def leaves(judged: Judged) -> Iterator[Judged]:
    """Yields every comparison and every `is_defined`, from left to right."""
    if isinstance(judged.term, Comparison | IsDefined):
        yield judged
    for term in judged.terms:
        yield from leaves(term)


class Blame(msgspec.Struct, frozen=True):
    """The leaves that would have to change for a term to be as expected: all of them, or any of them with `any_of`.

    `expected` is the truth that the leaf should have.
    """

    leaf: Judged | None = None
    expected: bool = True
    parts: tuple["Blame", ...] = ()
    any_of: bool = False


def blame(judged: Judged, *, expected: bool = True) -> Blame | None:
    """Returns the leaves that keep a term from being as expected; `None` if it is."""
    if judged.truth is expected:
        return None
    match judged.term:
        case Not():
            return blame(judged.terms[0], expected=not expected)
        case And() | Or():
            parts = tuple(part for term in judged.terms if (part := blame(term, expected=expected)) is not None)
            return Blame(parts=parts, any_of=isinstance(judged.term, Or) is expected)
        case _:
            return Blame(judged, expected)
