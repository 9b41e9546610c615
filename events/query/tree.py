"""The syntax tree of queries and of target conditions, which are a restricted WHERE clause (`condition.py`)."""

import enum
from collections.abc import Callable
from typing import Literal as OneOf

import msgspec

Path = tuple[str, ...]


class Op(enum.Enum):
    """A comparison operator; `<>` becomes `!=`."""

    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="


class Undefined(enum.Enum):
    """The value of a missing property; its only member is `UNDEFINED`."""

    UNDEFINED = "undefined"


UNDEFINED: OneOf[Undefined.UNDEFINED] = Undefined.UNDEFINED
Primitive = str | int | float | bool
Literal = Primitive | Undefined | None

# The operator with the same meaning after the sides are swapped.
MIRRORED = {Op.LT: Op.GT, Op.LE: Op.GE, Op.GT: Op.LT, Op.GE: Op.LE, Op.EQ: Op.EQ, Op.NE: Op.NE}
# Values that can be compared have a total order, so not < is >=.
OPPOSITE = {Op.EQ: Op.NE, Op.NE: Op.EQ, Op.LT: Op.GE, Op.GE: Op.LT, Op.GT: Op.LE, Op.LE: Op.GT}


class QuerySource(enum.Enum):
    """The collection of a query, as in FROM."""

    DEVICES = "devices"
    MODULES = "devices.modules"
    JOBS = "devices.jobs"


class Function(enum.Enum):
    """The function of an aggregate."""

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
    """A literal. In Python 1, 1.0 and true are equal, so trees must not be keys of a cache."""

    value: Literal


class PathOf(msgspec.Struct, frozen=True, tag=True):
    """The value of a property."""

    path: Path


class Arithmetic(msgspec.Struct, frozen=True, tag=True):
    """An operation on two numbers; a negated property is 0 minus the property."""

    left: "Expression"
    op: ArithmeticOp
    right: "Expression"


class Comparison(msgspec.Struct, frozen=True, tag=True):
    """A comparison of two values."""

    left: "Expression"
    op: Op
    right: "Expression"


class In(msgspec.Struct, frozen=True, tag=True):
    """A value is equal to any of at least one literal; NIN is `Not` of it."""

    value: "Expression"
    literals: tuple[Literal, ...]


class IsDefined(msgspec.Struct, frozen=True, tag=True):
    """The property exists, null included."""

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
    """A selected property."""

    path: Path
    alias: str | None = None


class Aggregate(msgspec.Struct, frozen=True, tag=True):
    """A selected aggregate; `path` is `None` only for COUNT."""

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
    """Return whether a row of the result is made from many twins."""
    return bool(query.group_by) or any(isinstance(item, Aggregate) for item in query.select)


def keys(query: Query) -> tuple[str, ...]:
    """Return the unique key of every selected item, in order; empty for `*`.

    It is the alias, or the last name of the path, or the function's name in lower case. Without an alias, a name that is
    already used gets a number, from 2.
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
    """Return every property in an expression."""
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
    """Return every (property, value) that an expression compares for equality, at any depth."""
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


def selectable_module_ids(where: Expression | None) -> frozenset[str] | None:
    """Return the module ids that a condition can select; `None` if it can select any."""
    match where:
        case And(terms):
            limits = [ids for ids in map(selectable_module_ids, terms) if ids is not None]
            return frozenset.intersection(*limits) if limits else None
        case Or(terms):
            each = [selectable_module_ids(term) for term in terms]
            return None if None in each else frozenset().union(*(ids for ids in each if ids is not None))
        case Comparison(PathOf(("moduleId",)), Op.EQ, Constant(str(name))) | Comparison(
            Constant(str(name)), Op.EQ, PathOf(("moduleId",))
        ):
            return frozenset({name})
        case In(PathOf(("moduleId",)), literals):
            return frozenset(literal for literal in literals if isinstance(literal, str))
        case _:
            return None


def is_twin_property(path: Path) -> bool:
    """Return whether a path is a tag or a reported property, and not metadata such as `tags.$version`."""
    match path:
        case ("tags", name, *_) | ("properties", "reported", name, *_):
            return not name.startswith("$")
        case _:
            return False


def paths(query: Query) -> frozenset[Path]:
    """Return every property in a query, at any depth; `*` has none."""
    selected = frozenset(item.path for item in query.select if item.path is not None)
    return selected | paths_of(query.where) | frozenset(query.group_by)


def compare_property(path: Path, op: Op, literal: Literal) -> Comparison:
    """Return the comparison of a property, on the left, with a literal."""
    return Comparison(PathOf(path), op, Constant(literal))


def both(first: Expression, second: Expression) -> Expression:
    """Return the condition that is true if both are; `MATCH_ALL` and `MATCH_NONE` are never part of another condition."""
    if first == MATCH_ALL or second == MATCH_NONE:
        return second
    if second == MATCH_ALL or first == MATCH_NONE:
        return first
    return And(tuple(term for part in (first, second) for term in (part.terms if isinstance(part, And) else (part,))))


def renamed(condition: Expression, name: Callable[[Path], Path]) -> Expression:
    """Return the condition with every path replaced by `name(path)`."""
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
    """Return the parts that AND, OR and NOT join, from left to right."""
    match condition:
        case And(terms) | Or(terms):
            return tuple(leaf for term in terms for leaf in leaves(term))
        case Not(term):
            return leaves(term)
        case _:
            return (condition,)


def is_monotone(condition: Expression) -> bool:
    """Return whether a condition has only equalities, AND and OR.

    A device can then join or leave only if one of the condition's (property, value) pairs begins or stops to hold for it.
    """
    match condition:
        case Comparison(PathOf(), Op.EQ, Constant()) | Comparison(Constant(), Op.EQ, PathOf()) | Constant():
            return True
        case And(terms) | Or(terms):
            return all(map(is_monotone, terms))
        case _:
            return False
