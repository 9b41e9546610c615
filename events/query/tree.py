"""The syntax tree of a query."""

import enum
import json
import re
from typing import Literal as OneOf

import msgspec

from events.targeting.tree import Op, Path


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


class Source(enum.Enum):
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
    source: Source = Source.DEVICES
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
    taken = {item.alias for item in query.select}
    found: list[str] = []
    for item in query.select:
        if item.alias is not None:
            found.append(item.alias)
            continue
        name = item.path[-1] if isinstance(item, Projection) else item.function.value.lower()
        key, number = name, 2
        while key in taken:
            key, number = f"{name}{number}", number + 1
        taken.add(key)
        found.append(key)
    return tuple(found)


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
    match expression:
        case And(terms) | Or(terms):
            return tuple(found for term in terms for found in equalities(term))
        case Not(term):
            return equalities(term)
        case Comparison(PathOf(path), Op.EQ, Constant(literal)) | Comparison(Constant(literal), Op.EQ, PathOf(path)):
            literals: tuple[Literal, ...] = (literal,)
        case In(PathOf(path), literals):
            pass
        case _:
            return ()
    return tuple((path, one) for one in literals if one is not None and not isinstance(one, Undefined))


def module_ids_asked(where: Expression | None) -> frozenset[str] | None:
    """The module ids that a condition limits itself to; `None` where it may be about any."""
    match where:
        case And(terms):
            known = [asked for asked in map(module_ids_asked, terms) if asked is not None]
            return frozenset.intersection(*known) if known else None
        case Or(terms):
            each = [module_ids_asked(term) for term in terms]
            return None if None in each else frozenset().union(*(asked for asked in each if asked is not None))
        case Comparison(PathOf(("moduleId",)), Op.EQ, Constant(str(name))) | Comparison(
            Constant(str(name)), Op.EQ, PathOf(("moduleId",))
        ):
            return frozenset({name})
        case In(PathOf(("moduleId",)), literals):
            return frozenset(one for one in literals if isinstance(one, str))
        case _:
            return None


def where_paths(query: Query) -> frozenset[Path]:
    """Every property that the condition names."""
    return paths_of(query.where)


def paths(query: Query) -> frozenset[Path]:
    """Every property that a query names, wherever it does; `*` names none."""
    selected = frozenset(item.path for item in query.select if item.path is not None)
    return selected | where_paths(query) | frozenset(query.group_by)


def printed(query: Query) -> str:
    """The query as text that parses to the same tree, if it stays within the longest text of a query."""
    parts = ["SELECT"]
    if query.top is not None:
        parts.append(f"TOP {query.top}")
    parts.append(", ".join(_item(item) for item in query.select) or "*")
    parts.append(f"FROM {query.source.value}")
    if query.where is not None:
        parts.append(f"WHERE {printed_expression(query.where)}")
    if query.group_by:
        parts.append("GROUP BY " + ", ".join(printed_path(path) for path in query.group_by))
    return " ".join(parts)


def _item(item: Projection | Aggregate) -> str:
    alias = "" if item.alias is None else f" AS {_name(item.alias)}"
    if isinstance(item, Projection):
        return printed_path(item.path) + alias
    return f"{item.function.value}({'' if item.path is None else printed_path(item.path)}){alias}"


def printed_expression(expression: Expression) -> str:
    """An expression as text that parses to the same tree."""
    match expression:
        case Constant(value):
            return printed_literal(value)
        case PathOf(path):
            return printed_path(path)
        case Arithmetic(left, op, right) | Comparison(left, op, right):
            return f"{_operand(left)} {op.value} {_operand(right)}"
        case In(value, literals):
            return f"{_operand(value)} IN [{', '.join(printed_literal(one) for one in literals)}]"
        case IsDefined(path):
            return f"IS_DEFINED({printed_path(path)})"
        case Contains(path, literal):
            return f"ARRAY_CONTAINS({printed_path(path)}, {printed_literal(literal)})"
        case And(terms):
            return " AND ".join(map(_term, terms))
        case Or(terms):
            return " OR ".join(map(_term, terms))
        case Not(term):
            return f"NOT {_term(term)}"


def _operand(expression: Expression) -> str:
    text = printed_expression(expression)
    return text if isinstance(expression, Constant | PathOf | IsDefined | Contains) else f"({text})"


def _term(expression: Expression) -> str:
    text = printed_expression(expression)
    return f"({text})" if isinstance(expression, And | Or) else text


ROOTS = (
    *("deviceId", "moduleId", "tags", "properties", "etag", "version", "deviceEtag", "status", "statusReason"),
    *("statusUpdateTime", "connectionState", "lastActivityTime", "cloudToDeviceMessageCount", "authenticationType"),
    *("x509Thumbprint", "capabilities", "deviceScope", "parentScopes", "configurations", "modelId"),
)
_PLAIN = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*\Z")


def printed_path(path: Path) -> str:
    """`tags.site`, with `[[…]]` around names that are not plain and around roots no twin has, which may be keywords."""
    root, *names = path
    return ".".join([root if root in ROOTS else f"[[{root}]]", *map(_name, names)])


def _name(name: str) -> str:
    return name if _PLAIN.match(name) else f"[[{name}]]"


def printed_literal(literal: Literal) -> str:
    """A literal as queries write it; strings as JSON does, in single quotes."""
    match literal:
        case Undefined():
            return "undefined"
        case None:
            return "null"
        case bool():
            return "true" if literal else "false"
        case str():
            return "'" + json.dumps(literal, ensure_ascii=False)[1:-1].replace("'", "\\'") + "'"
        case _:
            return repr(literal)
