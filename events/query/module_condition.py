"""Target conditions of configurations for modules: `FROM devices.modules WHERE …` (contract/hub.md §2.2)."""

import re
from functools import lru_cache

import msgspec

from events.query.errors import QueryInvalid
from events.query.parse import parse
from events.query.tree import (
    MIRRORED,
    And,
    Comparison,
    Constant,
    Expression,
    In,
    IsDefined,
    Not,
    Or,
    PathOf,
    Source,
    module_ids_asked,
    printed_expression,
    printed_literal,
)
from events.targeting import tree
from events.targeting.errors import ConditionInvalid
from events.targeting.tree import Condition, Op, Path

_SELECT = "select deviceId "
_MODULES = "select deviceId from devices.modules where {}"
_BEGINNING = re.compile(r"\s*from\s+devices\.modules\s+where\b", re.IGNORECASE)
_MODULE_ID = re.compile(r"[A-Za-z0-9\-:.+%_#*?!(),=@;']{1,128}")
_DEPTH_MAX = 100
_SUPPORTED = (
    "a condition for modules is FROM devices.modules WHERE moduleId = '…', alone or joined by AND with conditions on "
    "deviceId and on properties.reported of that module, each compared with a text, a number, true or false"
)


class ModuleCondition(msgspec.Struct, frozen=True):
    """Which module of which devices: `condition` names `deviceId` and the module's `properties.reported`."""

    module_id: str
    condition: Condition


def is_module_condition(text: str) -> bool:
    """Whether a text begins as conditions for modules do; no condition for devices does."""
    return _BEGINNING.match(text) is not None


@lru_cache(maxsize=4096)
def parse_module_condition(text: str) -> ModuleCondition:
    """Parse a condition for modules.

    Raises:
        ConditionInvalid: it is none, or asks for what is not supported; says what is.
    """
    if not is_module_condition(text):
        raise ConditionInvalid(text, column=1, reason=_SUPPORTED)
    try:
        query = parse(_query_text(text))
    except QueryInvalid as error:
        raise ConditionInvalid(text, column=max(1, error.column - len(_SELECT)), reason=error.reason) from None
    if query.source is not Source.MODULES or query.where is None or query.group_by:
        raise ConditionInvalid(text, column=1, reason=_SUPPORTED)
    terms = query.where.terms if isinstance(query.where, And) else (query.where,)
    named = [(place, asked) for place, term in enumerate(terms) if (asked := module_ids_asked(term)) is not None]
    if len(named) != 1 or len(named[0][1]) != 1:
        raise ConditionInvalid(text, column=1, reason=_SUPPORTED)
    ((place, (module_id,)),) = named
    if not _MODULE_ID.fullmatch(module_id):
        reason = f"{module_id[:140]!r} is no module that a configuration can be for; system modules are not"
        raise ConditionInvalid(text, column=1, reason=reason)
    rest = tuple(_condition(term, text, 1) for at, term in enumerate(terms) if at != place)
    return ModuleCondition(module_id, tree.And(rest) if len(rest) > 1 else rest[0] if rest else tree.Everyone())


def module_targeted_query(text: str) -> str:
    """The query whose rows are the modules that such a condition selects, by their devices; empty where it is nobody."""
    return _query_text(text) if text.strip() else ""


def module_applied_query(text: str, deployment_id: str) -> str:
    """The query whose rows are the modules that a configuration with such a condition is applied to."""
    status = f"configurations.[[{deployment_id}]].status = 'Applied'"
    if not text.strip():
        return _MODULES.format(status)
    module_id = printed_literal(parse_module_condition(text).module_id)
    return _MODULES.format(f"moduleId = {module_id} and {status}")


def _query_text(text: str) -> str:
    return _SELECT + text.strip()


def _condition(where: Expression, text: str, depth: int) -> Condition:
    """The same as a target condition. One logic table holds for both (docs/decisions/0016)."""
    if depth > _DEPTH_MAX:
        raise ConditionInvalid(text, column=1, reason=f"a condition is nested at most {_DEPTH_MAX} deep")
    match where:
        case And(terms):
            return tree.And(tuple(_condition(term, text, depth + 1) for term in terms))
        case Or(terms):
            return tree.Or(tuple(_condition(term, text, depth + 1) for term in terms))
        case Not(term):
            return tree.Not(_condition(term, text, depth + 1))
        case Comparison(PathOf(path), op, Constant(literal)) if _is_known(path) and _compares(op, literal):
            return tree.Comparison(path, op, _primitive(literal))
        case Comparison(Constant(literal), op, PathOf(path)) if _is_known(path) and _compares(op, literal):
            return tree.Comparison(path, MIRRORED[op], _primitive(literal))
        case In(PathOf(path), literals) if _is_known(path) and all(_compares(Op.EQ, one) for one in literals):
            equal = tuple(tree.Comparison(path, Op.EQ, _primitive(one)) for one in literals)
            return tree.Or(equal) if len(equal) > 1 else equal[0]
        case IsDefined(path) if _is_known(path):
            return tree.IsDefined(path)
        case PathOf(path) if _is_known(path):
            return tree.Comparison(path, Op.EQ, literal=True)
        case _:
            reason = f"{printed_expression(where)[:140]} is not supported: {_SUPPORTED}"
            raise ConditionInvalid(text, column=1, reason=reason)


def _is_known(path: Path) -> bool:
    match path:
        case ("deviceId",):
            return True
        case ("properties", "reported", name, *_):
            return not name.startswith("$")
        case _:
            return False


def _compares(op: Op, literal: object) -> bool:
    if isinstance(literal, bool):
        return op in {Op.EQ, Op.NE}
    return isinstance(literal, str | int | float)


def _primitive(literal: object) -> tree.Literal:
    assert isinstance(literal, str | int | float)
    return literal
