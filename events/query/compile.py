"""The verdict of `holds` as closures: what is done for every row of a scan."""

from collections.abc import Callable, Mapping
from typing import Any

from events.query.evaluate import Row, compared, computed, found, holds, value
from events.query.tree import (
    MIRRORED,
    OPPOSITE,
    UNDEFINED,
    And,
    Arithmetic,
    Comparison,
    Constant,
    Expression,
    In,
    IsDefined,
    Not,
    Or,
    PathOf,
)
from events.targeting.evaluate import COMPARE
from events.targeting.tree import Op, Path

Test = Callable[[Row], bool]
Getter = Callable[[Row], object]


def compiled(where: Expression | None) -> Test:
    """Whether `holds(where, row) is True`, taken apart beforehand."""
    return _true(where)


def _true(where: Expression | None) -> Test:
    match where:
        case Comparison(left, op, right):
            return _comparison(left, op, right)
        case Not(term):
            return _false(term)
        case And(terms):
            return _all_of(tuple(map(_true, terms)))
        case Or(terms):
            return _any_of(tuple(map(_true, terms)))
        case In(operand, literals):
            get = _getter(operand)
            return lambda row: any(compared(get(row), Op.EQ, literal) for literal in literals)
        case IsDefined(path):
            return lambda row: found(path, row) is not UNDEFINED
        case _:
            return lambda row: holds(where, row) is True


def _false(where: Expression) -> Test:
    match where:
        case Comparison(left, op, right):
            return _comparison(left, OPPOSITE[op], right)
        case Not(term):
            return _true(term)
        case And(terms):
            return _any_of(tuple(map(_false, terms)))
        case Or(terms):
            return _all_of(tuple(map(_false, terms)))
        case In(operand, literals):
            get = _getter(operand)
            return lambda row: all(compared(get(row), Op.NE, literal) for literal in literals)
        case IsDefined(path):
            return lambda row: found(path, row) is UNDEFINED
        case _:
            return lambda row: holds(where, row) is False


def _all_of(tests: tuple[Test, ...]) -> Test:
    def test(row: Row) -> bool:
        for one in tests:  # noqa: SIM110 - all() costs a frame per level and half the speed
            if not one(row):
                return False
        return True

    return test


def _any_of(tests: tuple[Test, ...]) -> Test:
    def test(row: Row) -> bool:
        for one in tests:  # noqa: SIM110 - as above
            if one(row):
                return True
        return False

    return test


def _comparison(left: Expression, op: Op, right: Expression) -> Test:
    match left, right:
        case PathOf(path), Constant(literal):
            return _with_literal(path, op, literal)
        case Constant(literal), PathOf(path):
            return _with_literal(path, MIRRORED[op], literal)
        case _:
            get_left, get_right = _getter(left), _getter(right)
            return lambda row: compared(get_left(row), op, get_right(row)) is True


def _with_literal(path: Path, op: Op, literal: object) -> Test:
    """What is asked most, so that it is worth a closure for each kind; JSON has no subclasses of str, int or float."""
    get, compare = _at(path), COMPARE[op]
    if type(literal) is str:
        return lambda row: type(actual := get(row)) is str and compare(actual, literal)
    if type(literal) is int or type(literal) is float:
        return lambda row: (type(actual := get(row)) is int or type(actual) is float) and compare(actual, literal)
    return lambda row: compared(get(row), op, literal) is True


def _getter(expression: Expression) -> Getter:
    match expression:
        case Constant(literal):
            return lambda _row: literal
        case PathOf(path):
            return _at(path)
        case Arithmetic(left, op, right):
            get_left, get_right = _getter(left), _getter(right)
            return lambda row: computed(get_left(row), op, get_right(row))
        case _:
            return lambda row: value(expression, row)


def _at(path: Path) -> Getter:
    def get(row: Row) -> object:
        at: Any = row
        for name in path:
            # Rows are dicts nearly always, and asking for a Mapping is ten times as slow.
            if type(at) is not dict and not isinstance(at, Mapping):
                return UNDEFINED
            at = at.get(name, UNDEFINED)
        return at

    return get
