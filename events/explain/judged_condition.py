"""A condition held against one twin, term by term: what each property is, and what the reference says of each term."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from events.query.evaluate import Assignment, holds, value_at
from events.query.tree import UNDEFINED, And, Comparison, Constant, Expression, IsDefined, Not, Or, Path, PathOf

PropertyType = Literal["missing", "text", "number", "boolean", "object", "list"]


class Judged(msgspec.Struct, frozen=True):
    """A term with its truth (`None`: unknown), and the terms that it joins.

    Of a comparison and of `is_defined`, `found` says what the property is, and `value` is what stands there. `comparable` is
    whether that is of the literal's type.
    """

    term: Expression
    truth: bool | None
    terms: tuple["Judged", ...] = ()
    found: PropertyType | None = None
    value: object = None
    comparable: bool = True


def judge(condition: Expression, assignment: Assignment) -> Judged:
    """Hold a target condition against a twin; every truth is what `holds` answers for that term."""
    truth = holds(condition, assignment)
    match condition:
        case And(terms) | Or(terms):
            return Judged(condition, truth, tuple(judge(term, assignment) for term in terms))
        case Not(term):
            return Judged(condition, truth, (judge(term, assignment),))
        case Comparison(PathOf(path), _, Constant(literal)):
            actual_type, value = _typed_value(path, assignment)
            return Judged(condition, truth, (), actual_type, value, actual_type == type_of(literal))
        case IsDefined(path):
            return Judged(condition, truth, (), *_typed_value(path, assignment))
        case _:
            return Judged(condition, truth)


def _typed_value(path: Path, assignment: Assignment) -> tuple[PropertyType, object]:
    value = value_at(path, assignment)
    return type_of(value), None if value is UNDEFINED else value


def type_of(value: object) -> PropertyType:
    """How people call the type of a value; `missing` where there is none."""
    if value is UNDEFINED or value is None:
        return "missing"
    # bool is an int in Python.
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | float):
        return "number"
    return "list" if isinstance(value, list) else "object"


def leaves(judged: Judged) -> Iterator[Judged]:
    """Every comparison and every `is_defined`, from left to right."""
    if isinstance(judged.term, Comparison | IsDefined):
        yield judged
    for term in judged.terms:
        yield from leaves(term)


class Blame(msgspec.Struct, frozen=True):
    """Why a term is not what is wanted: leaves that would have to be otherwise, all of them, or any one where `any_of`.

    `wanted` is what each leaf should be.
    """

    leaf: Judged | None = None
    wanted: bool = True
    parts: tuple["Blame", ...] = ()
    any_of: bool = False


def blame(judged: Judged, *, wanted: bool = True) -> Blame | None:
    """What keeps a term from being as wanted; `None` where it is."""
    if judged.truth is wanted:
        return None
    match judged.term:
        case Not():
            return blame(judged.terms[0], wanted=not wanted)
        case And() | Or():
            parts = tuple(part for term in judged.terms if (part := blame(term, wanted=wanted)) is not None)
            return Blame(parts=parts, any_of=isinstance(judged.term, Or) is wanted)
        case _:
            return Blame(judged, wanted)
