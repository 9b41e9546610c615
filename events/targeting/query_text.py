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


def targeted_query(condition_text: str, scope_text: str = "*", *, own: bool = False) -> str:
    """The query whose rows are the devices that a deployment targets within a scope; empty where it is nobody.

    An edge deployment targets edge-capable devices; a configuration of devices' `own` twins, any.

    Raises:
        ConditionInvalid: the text is not a condition.
    """
    condition = both(parse(condition_text), parse(scope_text))
    if isinstance(condition, Nobody):
        return ""
    if isinstance(condition, Everyone):
        return _ALL if own else _EDGE
    return f"{_ALL} where {_query(condition)}" if own else f"{_EDGE} and ({_query(condition)})"


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
