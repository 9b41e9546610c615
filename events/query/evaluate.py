"""The reference: what a query says of one row, a twin as it is shown."""

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from events.query.tree import (
    UNDEFINED,
    And,
    Arithmetic,
    ArithmeticOp,
    Comparison,
    Constant,
    Contains,
    Expression,
    In,
    IsDefined,
    Not,
    Or,
    PathOf,
    Projection,
    Query,
    is_aggregate,
    keys,
)
from events.targeting.evaluate import COMPARE
from events.targeting.tree import Op, Path

Row = Mapping[str, Any]


def holds(where: Expression | None, row: Row) -> bool | None:
    """True, false, or `None` for unknown; only true selects the row. Without a condition it is true.

    A comparison is unknown when a side is missing, an object or an array, or when the sides are of different types. A bare
    value is what it is when it is a boolean, and else unknown.
    """
    match where:
        case None:
            return True
        case Comparison(left, op, right):
            return compared(value(left, row), op, value(right, row))
        case In(operand, literals):
            actual = value(operand, row)
            return _any([compared(actual, Op.EQ, literal) for literal in literals])
        case IsDefined(path):
            return found(path, row) is not UNDEFINED
        case Contains(path, literal):
            return contained(found(path, row), literal)
        case Not(term):
            return _opposite(holds(term, row))
        case And(terms):
            verdicts: list[bool | None] = []
            for term in terms:
                verdicts.append(_opposite(holds(term, row)))  # noqa: PERF401 - a comprehension recurses twice as deep
            return _opposite(_any(verdicts))
        case Or(terms):
            verdicts = []
            for term in terms:
                verdicts.append(holds(term, row))
            return _any(verdicts)
        case Constant() | PathOf() | Arithmetic():
            actual = value(where, row)
            return actual if isinstance(actual, bool) else None


def value(expression: Expression, row: Row) -> object:
    """The value of an expression: JSON or `UNDEFINED`; a condition's is a boolean, or `UNDEFINED` where it is unknown."""
    match expression:
        case Constant(literal):
            return literal
        case PathOf(path):
            return found(path, row)
        case Arithmetic(left, op, right):
            return computed(value(left, row), op, value(right, row))
        case _:
            verdict = holds(expression, row)
            return UNDEFINED if verdict is None else verdict


def found(path: Path, row: Row) -> object:
    """What stands at a path: JSON, null as `None`, or `UNDEFINED`."""
    at: Any = row
    for name in path:
        if not isinstance(at, Mapping) or name not in at:
            return UNDEFINED
        at = at[name]
    return at


def compared(left: object, op: Op, right: object) -> bool | None:
    """One comparison of two values; numbers compare by value, strings by code point, booleans and null for equality alone."""
    kind = _kind(left)
    if kind is None or kind != _kind(right):
        return None
    if kind in {"null", "boolean"} and op not in {Op.EQ, Op.NE}:
        return None
    return COMPARE[op](left, right)


def contained(array: object, literal: object) -> bool | None:
    """Whether an array has an item that is equal to a literal; unknown of what is missing or no array."""
    if not isinstance(array, list):
        return None
    return any(compared(item, Op.EQ, literal) is True for item in array)


def computed(left: object, op: ArithmeticOp, right: object) -> object:
    """One operation on two values; `UNDEFINED` unless both are numbers and the result is one that floats hold.

    `/` does not round. The remainder has the sign of the dividend.
    """
    if not is_number(left) or not is_number(right):
        return UNDEFINED
    try:
        result = _OPERATIONS[op](left, right)
        return result if math.isfinite(result) else UNDEFINED
    except (ZeroDivisionError, OverflowError):
        return UNDEFINED


def is_number(actual: object) -> bool:
    """Whether a value is a JSON number."""
    # bool is an int in Python.
    return isinstance(actual, int | float) and not isinstance(actual, bool)


def projected(query: Query, row: Row) -> Row:
    """What a query that is no aggregate shows of a row; undefined properties are left out, and `*` is the row itself."""
    assert not is_aggregate(query)
    if not query.select:
        return row
    shown: dict[str, object] = {}
    for key, item in zip(keys(query), query.select, strict=True):
        assert isinstance(item, Projection)
        actual = found(item.path, row)
        if actual is not UNDEFINED:
            shown[key] = actual
    return shown


def _kind(actual: object) -> str | None:
    match actual:
        case None:
            return "null"
        case bool():  # before the numbers: it is an int in Python
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case _:
            return None


def _opposite(verdict: bool | None) -> bool | None:  # noqa: FBT001 - three truth values, not a switch
    return None if verdict is None else not verdict


def _any(verdicts: list[bool | None]) -> bool | None:
    return True if True in verdicts else None if None in verdicts else False


def _remainder(left: float, right: float) -> float:
    if isinstance(left, int) and isinstance(right, int):
        size = abs(left) % abs(right)
        return -size if left < 0 else size
    if right == 0:
        raise ZeroDivisionError
    return math.fmod(left, right)


_OPERATIONS: dict[ArithmeticOp, Callable[[Any, Any], Any]] = {
    ArithmeticOp.ADD: operator.add,
    ArithmeticOp.SUBTRACT: operator.sub,
    ArithmeticOp.MULTIPLY: operator.mul,
    ArithmeticOp.DIVIDE: operator.truediv,
    ArithmeticOp.REMAINDER: _remainder,
}
