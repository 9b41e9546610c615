"""A condition in the query language: the stored texts of the targetedCount system metric (DESIGN §7)."""

from events.targeting.parse import parse
from events.targeting.tree import (
    And,
    Comparison,
    Condition,
    Everyone,
    IsDefined,
    Literal,
    Nobody,
    Not,
    Or,
    both,
    printed_literal,
    printed_path,
)

_ALL = "select deviceId from devices"
_EDGE = f"{_ALL} where capabilities.iotEdge = true"


def targeted_query(condition_text: str, scope_text: str = "*") -> str:
    """The query whose rows are the devices that an edge deployment targets within a scope; empty where it is nobody.

    Raises:
        ConditionInvalid: the text is not a condition.
    """
    condition = both(parse(condition_text), parse(scope_text))
    if isinstance(condition, Nobody):
        return ""
    return _EDGE if isinstance(condition, Everyone) else f"{_EDGE} and ({_query(condition)})"


def own_targeted_query(condition_text: str, scope_text: str = "*") -> str:
    """The query whose rows are the devices, edge-capable or not, whose own twins a configuration targets within a scope.

    Raises:
        ConditionInvalid: the text is not a condition.
    """
    condition = both(parse(condition_text), parse(scope_text))
    if isinstance(condition, Nobody):
        return ""
    return _ALL if isinstance(condition, Everyone) else f"{_ALL} where {_query(condition)}"


def _query(condition: Condition) -> str:
    match condition:
        case Comparison(path, op, literal):
            return f"{printed_path(path)} {op.value} {_literal(literal)}"
        case IsDefined(path):
            return f"is_defined({printed_path(path)})"
        case And(terms):
            return " and ".join(map(_grouped, terms))
        case Or(terms):
            return " or ".join(map(_grouped, terms))
        case Not(term):
            return f"not {_grouped(term)}"
        case Everyone() | Nobody():
            raise AssertionError(condition)


def _grouped(condition: Condition) -> str:
    return f"({_query(condition)})" if isinstance(condition, And | Or) else _query(condition)


def _literal(literal: Literal) -> str:
    if isinstance(literal, str):
        return "'" + literal.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return printed_literal(literal)
