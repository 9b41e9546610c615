"""A plain evaluation of conditions, term by term; compiled conditions and selections must agree with it."""

from collections.abc import Mapping
from typing import Any

from events.query.evaluate import compared, computed, contained, value_at
from events.query.tree import (
    UNDEFINED,
    And,
    Arithmetic,
    Comparison,
    Constant,
    Contains,
    Expression,
    In,
    IsDefined,
    Not,
    Op,
    Or,
    PathOf,
)


def verdict(where: Expression | None, row: Mapping[str, Any]) -> bool | None:
    """True, false, or `None` for unknown."""
    match where:
        case None:
            return True
        case Comparison(left, op, right):
            return compared(value(left, row), op, value(right, row))
        case In(operand, literals):
            return any_of([compared(value(operand, row), Op.EQ, literal) for literal in literals])
        case IsDefined(path):
            return value_at(path, row) is not UNDEFINED
        case Contains(path, literal):
            return contained(value_at(path, row), literal)
        case Not(term):
            return opposite(verdict(term, row))
        case And(terms):
            return opposite(any_of([opposite(verdict(term, row)) for term in terms]))
        case Or(terms):
            return any_of([verdict(term, row) for term in terms])
        case Constant() | PathOf() | Arithmetic():
            actual = value(where, row)
            return actual if isinstance(actual, bool) else None


def value(expression: Expression, row: Mapping[str, Any]) -> object:
    """JSON or `UNDEFINED`; a condition's is a boolean, or `UNDEFINED` where it is unknown."""
    match expression:
        case Constant(literal):
            return literal
        case PathOf(path):
            return value_at(path, row)
        case Arithmetic(left, op, right):
            return computed(value(left, row), op, value(right, row))
        case _:
            truth = verdict(expression, row)
            return UNDEFINED if truth is None else truth


def opposite(truth: bool | None) -> bool | None:  # noqa: FBT001 - three truth values, not a switch
    return None if truth is None else not truth


def any_of(truths: list[bool | None]) -> bool | None:
    return True if True in truths else None if None in truths else False
