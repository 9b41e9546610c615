"""Printing of queries and conditions: text that parses to the same tree, in one of three dialects."""

import json
import re
from collections.abc import Callable
from functools import lru_cache

import msgspec

from events.query import tree
from events.query.tree import Expression, Literal, Path

ROOTS = (
    *("deviceId", "moduleId", "tags", "properties", "etag", "version", "deviceEtag", "status", "statusReason"),
    *("statusUpdateTime", "connectionState", "lastActivityTime", "cloudToDeviceMessageCount", "authenticationType"),
    *("x509Thumbprint", "capabilities", "deviceScope", "parentScopes", "configurations", "modelId"),
)
_KEYWORDS = frozenset({"and", "or", "not", "in", "nin", "true", "false", "null", "undefined", "is_defined"})
_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*\Z")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@lru_cache(10_000)
def printed_path(path: Path) -> str:
    """Return `tags.site` in the form of conditions, with `[[…]]` around names that are not plain."""
    return ".".join(name if _PLAIN.match(name) and name.lower() not in _KEYWORDS else f"[[{name}]]" for name in path)


def printed_literal(literal: Literal) -> str:
    """Return a literal in the form of conditions; quotes in a string are doubled."""
    return _literal(literal, lambda text: text.replace("'", "''"))


def query_path(path: Path) -> str:
    """Return `tags.site` in the form of queries, with `[[…]]` around names that are not plain, and around unknown roots."""
    # A root that no twin has can be a keyword.
    root, *names = path
    return ".".join([root if root in ROOTS else f"[[{root}]]", *map(_name, names)])


def query_literal(literal: Literal) -> str:
    """Return a literal in the form of queries; strings are escaped as in JSON, in single quotes."""
    return _literal(literal, lambda text: json.dumps(text, ensure_ascii=False)[1:-1].replace("'", "\\'"))


def _backslashed(literal: Literal) -> str:
    return _literal(literal, lambda text: text.replace("\\", "\\\\").replace("'", "\\'"))


def _literal(literal: Literal, escaped: Callable[[str], str]) -> str:
    match literal:
        case str():
            return f"'{escaped(literal)}'"
        case tree.Undefined():
            return "undefined"
        case None:
            return "null"
        case bool():
            return "true" if literal else "false"
        case _:
            return repr(literal)


def _name(name: str) -> str:
    return name if _NAME.match(name) else f"[[{name}]]"


class Dialect(msgspec.Struct, frozen=True):
    """How expressions are printed."""

    path: Callable[[Path], str]
    literal: Callable[[Literal], str]
    and_: str = "AND"
    or_: str = "OR"
    not_: str = "NOT"
    is_defined: str = "is_defined"


QUERY = Dialect(query_path, query_literal, is_defined="IS_DEFINED")
CONDITION = Dialect(printed_path, printed_literal)
STORED = Dialect(printed_path, _backslashed, "and", "or", "not")
"""The dialect of conditions in the queries of system metrics (`system_metric.py`)."""


def printed(condition: Expression) -> str:
    """Return the text of a condition."""
    if isinstance(condition, tree.Constant):
        return "*" if condition == tree.MATCH_ALL else ""
    return printed_expression(condition, CONDITION)


def printed_query(query: tree.Query) -> str:
    """Return the text of a query; `parse` reads it if it is not too long."""
    parts = ["SELECT"]
    if query.top is not None:
        parts.append(f"TOP {query.top}")
    parts.append(", ".join(map(_item, query.select)) or "*")
    parts.append(f"FROM {query.source.value}")
    if query.where is not None:
        parts.append(f"WHERE {printed_expression(query.where)}")
    if query.group_by:
        parts.append("GROUP BY " + ", ".join(map(query_path, query.group_by)))
    return " ".join(parts)


def _item(item: tree.Projection | tree.Aggregate) -> str:
    alias = "" if item.alias is None else f" AS {_name(item.alias)}"
    if isinstance(item, tree.Projection):
        return query_path(item.path) + alias
    return f"{item.function.value}({'' if item.path is None else query_path(item.path)}){alias}"


def printed_expression(expression: Expression, dialect: Dialect = QUERY) -> str:
    """Return the text of an expression."""

    def operand(inner: Expression) -> str:
        text = printed_expression(inner, dialect)
        return text if isinstance(inner, tree.Constant | tree.PathOf | tree.IsDefined | tree.Contains) else f"({text})"

    def term(inner: Expression) -> str:
        text = printed_expression(inner, dialect)
        return f"({text})" if isinstance(inner, tree.And | tree.Or) else text

    match expression:
        case tree.Constant(value):
            return dialect.literal(value)
        case tree.PathOf(path):
            return dialect.path(path)
        case tree.Arithmetic(left, op, right) | tree.Comparison(left, op, right):
            return f"{operand(left)} {op.value} {operand(right)}"
        case tree.In(value, literals):
            return f"{operand(value)} IN [{', '.join(map(dialect.literal, literals))}]"
        case tree.IsDefined(path):
            return f"{dialect.is_defined}({dialect.path(path)})"
        case tree.Contains(path, literal):
            return f"ARRAY_CONTAINS({dialect.path(path)}, {dialect.literal(literal)})"
        case tree.And(terms):
            return f" {dialect.and_} ".join(map(term, terms))
        case tree.Or(terms):
            return f" {dialect.or_} ".join(map(term, terms))
        case tree.Not(inner):
            return f"{dialect.not_} {term(inner)}"
