"""The syntax tree of queries and of target conditions, which are a WHERE clause with less in it (`condition.py`)."""

import enum
from collections.abc import Callable
from typing import Literal as OneOf

import msgspec

Path = tuple[str, ...]


class Op(enum.Enum):
    """A comparison; `<>` is written `!=` here."""

    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="


class Undefined(enum.Enum):
    """The value of a property that is not there; its only member is `UNDEFINED`."""

    UNDEFINED = "undefined"


UNDEFINED: OneOf[Undefined.UNDEFINED] = Undefined.UNDEFINED
Primitive = str | int | float | bool
Literal = Primitive | Undefined | None

# The operator that says the same with the sides swapped.
MIRRORED = {Op.LT: Op.GT, Op.LE: Op.GE, Op.GT: Op.LT, Op.GE: Op.LE, Op.EQ: Op.EQ, Op.NE: Op.NE}
# Values that compare at all are in total order: what is not < is >=.
OPPOSITE = {Op.EQ: Op.NE, Op.NE: Op.EQ, Op.LT: Op.GE, Op.GE: Op.LT, Op.GT: Op.LE, Op.LE: Op.GT}


class QuerySource(enum.Enum):
    """What a query goes over, as FROM writes it."""

    DEVICES = "devices"
    MODULES = "devices.modules"
    JOBS = "devices.jobs"


class Function(enum.Enum):
    """An aggregate."""

    COUNT = "COUNT"
    AVG = "AVG"
    SUM = "SUM"
    MIN = "MIN"
    MAX = "MAX"


class ArithmeticOp(enum.Enum):
    """An operation on two numbers."""

    ADD = "+"
    SUBTRACT = "-"
    MULTIPLY = "*"
    DIVIDE = "/"
    REMAINDER = "%"


class Constant(msgspec.Struct, frozen=True, tag=True):
    """A literal. As in all of Python, those of 1, 1.0 and true are equal: trees are no keys for a cache."""

    value: Literal


class PathOf(msgspec.Struct, frozen=True, tag=True):
    """The value of a property."""

    path: Path


class Arithmetic(msgspec.Struct, frozen=True, tag=True):
    """Two numbers made one; a negated property is 0 minus it."""

    left: "Expression"
    op: ArithmeticOp
    right: "Expression"


class Comparison(msgspec.Struct, frozen=True, tag=True):
    """Two values of one type compared."""

    left: "Expression"
    op: Op
    right: "Expression"


class In(msgspec.Struct, frozen=True, tag=True):
    """A value is equal to one of one or more literals; NIN is the `Not` of it."""

    value: "Expression"
    literals: tuple[Literal, ...]


class IsDefined(msgspec.Struct, frozen=True, tag=True):
    """The property is there, null included."""

    path: Path


class Contains(msgspec.Struct, frozen=True, tag=True):
    """An array has an item that is equal to a literal."""

    path: Path
    literal: Literal


class And(msgspec.Struct, frozen=True, tag=True):
    """All of two or more terms."""

    terms: tuple["Expression", ...]


class Or(msgspec.Struct, frozen=True, tag=True):
    """Any of two or more terms."""

    terms: tuple["Expression", ...]


class Not(msgspec.Struct, frozen=True, tag=True):
    """The opposite of a term; unknown stays unknown."""

    term: "Expression"


Expression = Constant | PathOf | Arithmetic | Comparison | In | IsDefined | Contains | And | Or | Not

MATCH_ALL = Constant(value=True)
"""The condition `*`: all devices."""
MATCH_NONE = Constant(value=False)
"""The empty condition: no device."""


class Projection(msgspec.Struct, frozen=True, tag=True):
    """A property that is shown."""

    path: Path
    alias: str | None = None


class Aggregate(msgspec.Struct, frozen=True, tag=True):
    """One number for many rows; `path` is `None` for COUNT alone."""

    function: Function
    path: Path | None = None
    alias: str | None = None


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """`SELECT [TOP n] … FROM … [WHERE …] [GROUP BY …]`; an empty `select` is `*`."""

    select: tuple[Projection | Aggregate, ...] = ()
    top: int | None = None
    source: QuerySource = QuerySource.DEVICES
    where: Expression | None = None
    group_by: tuple[Path, ...] = ()


def is_aggregate(query: Query) -> bool:
    """Whether a row of the result stands for many twins."""
    return bool(query.group_by) or any(isinstance(item, Aggregate) for item in query.select)


def keys(query: Query) -> tuple[str, ...]:
    """The key of every selected item, in order, each its own; empty for `*`.

    It is the alias, or the last name of the path, or the function's name in lower case; one without an alias whose name is
    taken has a number behind it, from 2.
    """
    used_keys = {item.alias for item in query.select}
    result: list[str] = []
    for item in query.select:
        if item.alias is not None:
            result.append(item.alias)
            continue
        name = item.path[-1] if isinstance(item, Projection) else item.function.value.lower()
        key, number = name, 2
        while key in used_keys:
            key, number = f"{name}{number}", number + 1
        used_keys.add(key)
        result.append(key)
    return tuple(result)


def paths_of(expression: Expression | None) -> frozenset[Path]:
    """Every property that an expression names."""
    match expression:
        case None | Constant():
            return frozenset()
        case PathOf(path) | IsDefined(path) | Contains(path):
            return frozenset({path})
        case Arithmetic(left, _, right) | Comparison(left, _, right):
            return paths_of(left) | paths_of(right)
        case In(value, _):
            return paths_of(value)
        case And(terms) | Or(terms):
            return frozenset().union(*map(paths_of, terms))
        case Not(term):
            return paths_of(term)


def equalities(expression: Expression | None) -> tuple[tuple[Path, Primitive], ...]:
    """Every (property, value) that an expression compares for equality, wherever it does."""
    pairs: list[tuple[Path, Literal]] = []
    for leaf in () if expression is None else leaves(expression):
        match leaf:
            case Comparison(PathOf(path), Op.EQ, Constant(literal)) | Comparison(
                Constant(literal), Op.EQ, PathOf(path)
            ):
                pairs.append((path, literal))
            case In(PathOf(path), literals):
                pairs += [(path, literal) for literal in literals]
            case _:
                pass
    return tuple((path, literal) for path, literal in pairs if isinstance(literal, Primitive))


def module_ids_asked(where: Expression | None) -> frozenset[str] | None:
    """The module ids that a condition limits itself to; `None` where it may be about any."""
    match where:
        case And(terms):
            limits = [ids for ids in map(module_ids_asked, terms) if ids is not None]
            return frozenset.intersection(*limits) if limits else None
        case Or(terms):
            each = [module_ids_asked(term) for term in terms]
            return None if None in each else frozenset().union(*(ids for ids in each if ids is not None))
        case Comparison(PathOf(("moduleId",)), Op.EQ, Constant(str(name))) | Comparison(
            Constant(str(name)), Op.EQ, PathOf(("moduleId",))
        ):
            return frozenset({name})
        case In(PathOf(("moduleId",)), literals):
            return frozenset(literal for literal in literals if isinstance(literal, str))
        case _:
            return None


def paths(query: Query) -> frozenset[Path]:
    """Every property that a query names, wherever it does; `*` names none."""
    selected = frozenset(item.path for item in query.select if item.path is not None)
    return selected | paths_of(query.where) | frozenset(query.group_by)


def compare_property(path: Path, op: Op, literal: Literal) -> Comparison:
    """A property against a literal, the property on the left."""
    return Comparison(PathOf(path), op, Constant(literal))


def both(first: Expression, second: Expression) -> Expression:
    """The condition that is true where two are; `MATCH_ALL` and `MATCH_NONE` stand alone, never inside another."""
    if first == MATCH_ALL or second == MATCH_NONE:
        return second
    if second == MATCH_ALL or first == MATCH_NONE:
        return first
    return And(tuple(term for part in (first, second) for term in (part.terms if isinstance(part, And) else (part,))))


def renamed(condition: Expression, name: Callable[[Path], Path]) -> Expression:
    """The same condition over properties of other names."""
    match condition:
        case PathOf(path) | IsDefined(path) | Contains(path):
            return msgspec.structs.replace(condition, path=name(path))
        case Comparison(left, _, right) | Arithmetic(left, _, right):
            return msgspec.structs.replace(condition, left=renamed(left, name), right=renamed(right, name))
        case In(value):
            return msgspec.structs.replace(condition, value=renamed(value, name))
        case And(terms) | Or(terms):
            return msgspec.structs.replace(condition, terms=tuple(renamed(term, name) for term in terms))
        case Not(term):
            return Not(renamed(term, name))
        case Constant():
            return condition


def leaves(condition: Expression) -> tuple[Expression, ...]:
    """What AND, OR and NOT join, from left to right."""
    match condition:
        case And(terms) | Or(terms):
            return tuple(leaf for term in terms for leaf in leaves(term))
        case Not(term):
            return leaves(term)
        case _:
            return (condition,)


def is_monotone(condition: Expression) -> bool:
    """Whether a condition is made of equalities, AND and OR alone.

    Then a device can enter or leave only when one of the named (property, value) pairs gains or loses it.
    """
    match condition:
        case Comparison(PathOf(), Op.EQ, Constant()) | Comparison(Constant(), Op.EQ, PathOf()) | Constant():
            return True
        case And(terms) | Or(terms):
            return all(map(is_monotone, terms))
        case _:
            return False
