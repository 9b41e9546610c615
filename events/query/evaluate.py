"""Evaluation of a query or a condition for one row: a twin in the form of query results."""

import math
import operator
from collections.abc import Callable, Mapping
from functools import partial
from types import NoneType
from typing import Any

from events.query import tree
from events.query.tree import UNDEFINED, ArithmeticOp, Expression, Literal, Op, Path, Query

QueryRow = Mapping[str, Any]
Test = Callable[[QueryRow], bool]
ValueOf = Callable[[QueryRow], object]

COMPARE: dict[Op, Callable[[Any, Any], bool]] = {
    Op.EQ: operator.eq,
    Op.NE: operator.ne,
    Op.LT: operator.lt,
    Op.LE: operator.le,
    Op.GT: operator.gt,
    Op.GE: operator.ge,
}

NULL, BOOLEAN, NUMBER, STRING = 1, 2, 3, 4
_KINDS: dict[type, int] = {NoneType: NULL, bool: BOOLEAN, int: NUMBER, float: NUMBER, str: STRING}


def twin_row(device_id: str, tags: QueryRow, reported: QueryRow) -> QueryRow:
    """Return the row of a twin with the properties that conditions can use."""
    return {"deviceId": device_id, "tags": tags, "properties": {"reported": reported}}


def holds(where: Expression | None, row: QueryRow) -> bool | None:
    """Return true, false, or `None` for unknown; only true selects the row, or targets the device. No condition is true.

    A comparison, also with `!=`, is unknown if a side is missing, an object or an array, or if the types of the sides
    differ. A value without comparison is itself if it is a boolean, and else unknown.
    """
    verdict = True if where is None else compiled(where)(row)
    return verdict if isinstance(verdict, bool) else None


def row_test(where: Expression | None) -> Test:
    """Return a function for `holds(where, row) is True`, with the condition compiled once for all rows of a scan."""
    if where is None:
        return lambda _row: True
    # Only true counts here, so an AND can stop at an unknown term.
    parts = tuple(map(compiled, where.terms if isinstance(where, tree.And) else (where,)))

    def test(row: QueryRow) -> bool:
        for value_of in parts:  # noqa: SIM110 - all() costs a frame per row
            if value_of(row) is not True:
                return False
        return True

    return test


def compiled(expression: Expression) -> ValueOf:
    """Return a function from a row to the expression's value: JSON, or `UNDEFINED` if it is missing or unknown."""
    # This function and the closures call each other without helpers between them: queries are nested up to 320 deep, and
    # Python stops at 1,000 frames. The most frequent cases name their members: positional patterns take a fifth more time.
    match expression:
        case tree.Comparison(left=tree.PathOf(path=path), op=op, right=tree.Constant(value=literal)):
            return _with_literal(path, op, literal)
        case tree.Comparison(tree.Constant(literal), op, tree.PathOf(path)):
            return _with_literal(path, tree.MIRRORED[op], literal)
        case tree.And(terms=terms):
            return _joined(tuple(map(compiled, terms)), decisive=False)
        case tree.Or(terms=terms):
            return _joined(tuple(map(compiled, terms)), decisive=True)
        case tree.Not(term):
            inner = compiled(term)
            return lambda row: not verdict if isinstance(verdict := inner(row), bool) else UNDEFINED
        case tree.Constant(literal):
            return lambda _row: literal
        case tree.PathOf(path):
            return partial(value_at, path)
        case tree.Comparison(left, op, right):
            left_of, right_of = compiled(left), compiled(right)
            return lambda row: _defined(compared(left_of(row), op, right_of(row)))
        case tree.Arithmetic(left, sign, right):
            left_of, right_of = compiled(left), compiled(right)
            return lambda row: computed(left_of(row), sign, right_of(row))
        case tree.In(operand, literals):
            return _within(compiled(operand), literals)
        case tree.IsDefined(path):
            value_of = partial(value_at, path)
            return lambda row: value_of(row) is not UNDEFINED
        case tree.Contains(path, literal):
            array_of = partial(value_at, path)
            return lambda row: _defined(contained(array_of(row), literal))


def value_at(path: Path, row: QueryRow) -> object:
    """Return the value at a path: JSON, with `None` for null, or `UNDEFINED`."""
    at: Any = row
    for name in path:
        # Nearly all rows are dicts, and isinstance with Mapping takes ten times as long.
        if type(at) is not dict and not isinstance(at, Mapping):
            return UNDEFINED
        at = at.get(name, UNDEFINED)
    return at


def compared(left: object, op: Op, right: object) -> bool | None:
    """Compare two values: numbers by value, strings by code point, booleans and null only for equality. `None` is unknown."""
    kind = kind_of(left)
    if not kind or kind != kind_of(right) or (kind <= BOOLEAN and op not in {Op.EQ, Op.NE}):
        return None
    return COMPARE[op](left, right)


def contained(array: object, literal: object) -> bool | None:
    """Return whether an array has an item equal to a literal; `None` (unknown) if it is not an array."""
    if not isinstance(array, list):
        return None
    return any(compared(item, Op.EQ, literal) is True for item in array)


def computed(left: object, op: ArithmeticOp, right: object) -> object:
    """Return the result of an operation; `UNDEFINED` unless both values are numbers and a float can hold the result.

    `/` does not round. The remainder has the sign of the dividend.
    """
    if not kind_of(left) == kind_of(right) == NUMBER:
        return UNDEFINED
    try:
        result = _OPERATIONS[op](left, right)
        return result if math.isfinite(result) else UNDEFINED
    except (ZeroDivisionError, OverflowError):
        return UNDEFINED


def kind_of(actual: object) -> int:
    """Return the kind of a value, in the order of kinds: null, BOOLEAN, NUMBER, string. 0 is undefined, an object or an array."""
    # By the exact type: bool is an int in Python, and true would be 1.
    return _KINDS.get(type(actual), 0)


def projected(query: Query, row: QueryRow) -> QueryRow:
    """Return the result of a query without aggregates for a row, without undefined properties; for `*`, the row itself."""
    assert not tree.is_aggregate(query)
    if not query.select:
        return row
    result: dict[str, object] = {}
    for key, item in zip(tree.keys(query), query.select, strict=True):
        assert isinstance(item, tree.Projection)
        actual = value_at(item.path, row)
        if actual is not UNDEFINED:
            result[key] = actual
    return result


# -- the closures


def _with_literal(path: Path, op: Op, literal: Literal) -> ValueOf:
    # Most comparisons are these, so each kind has its own closure. type() suffices: JSON has no subclasses of these types.
    value_of, compare = partial(value_at, path), COMPARE[op]
    if type(literal) is str:
        return lambda row: compare(actual, literal) if type(actual := value_of(row)) is str else UNDEFINED
    if type(literal) is int or type(literal) is float:
        return lambda row: (
            compare(actual, literal) if type(actual := value_of(row)) is int or type(actual) is float else UNDEFINED
        )
    return lambda row: _defined(compared(value_of(row), op, literal))


def _within(operand: ValueOf, literals: tuple[Literal, ...]) -> ValueOf:
    def value(row: QueryRow) -> object:
        actual = operand(row)
        verdicts = [compared(actual, Op.EQ, literal) for literal in literals]
        return True if True in verdicts else UNDEFINED if None in verdicts else False

    return value


def _joined(terms: tuple[ValueOf, ...], *, decisive: bool) -> ValueOf:
    """Return an AND, which one false term decides, or an OR, which one true term decides; else unknown wins."""
    otherwise = not decisive

    def value(row: QueryRow) -> object:
        joined: object = otherwise
        for term in terms:
            verdict = term(row)
            if verdict is decisive:
                return decisive
            if verdict is not otherwise:
                joined = UNDEFINED
        return joined

    return value


def _defined(verdict: bool | None) -> object:  # noqa: FBT001 - three truth values, not a switch
    return UNDEFINED if verdict is None else verdict


def _remainder(left: float, right: float) -> float:
    if isinstance(left, int) and isinstance(right, int):
        # Integers stay exact; % of Python would give the sign of the divisor.
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
