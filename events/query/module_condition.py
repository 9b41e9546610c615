"""Target conditions of configurations for modules: `FROM devices.modules WHERE …` (contract/hub.md §2.2)."""

import re

import msgspec

from events.query.errors import QueryInvalid
from events.query.evaluate import compared
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
from events.text_cache import by_text

_SELECT = "select deviceId "
_MODULES = "select deviceId from devices.modules where {}"
_BEGINNING = re.compile(r"\s*from\s+devices\.modules\s+where\b", re.IGNORECASE)
_MODULE_ID = re.compile(r"(?!\$)[A-Za-z0-9\-:.+%_#*?!(),=@;$']{1,128}")
_DEPTH_MAX = 100
_SUPPORTED = (
    "a condition for modules is FROM devices.modules WHERE … over moduleId, deviceId, tags and properties.reported of the "
    "module, each compared with a text, a number, true or false, and moduleId with texts alone"
)

MODULE_ID: Path = ("moduleId",)

EVERY_MODULE = "/"
"""Stands for the module of a condition that may be about any; no id holds a slash."""


class ModuleCondition(msgspec.Struct, frozen=True):
    """Which modules of which devices: `condition` is over `deviceId`, and `tags` and `properties.reported` of a module.

    `module_id` is the only module that it can be about. Where that is `EVERY_MODULE`, `condition` names `moduleId` as well, and
    `of` says what it comes to for one.
    """

    module_id: str
    condition: Condition

    def of(self, module_id: str) -> Condition:
        """The condition on what is left to ask of modules of one name."""
        return _of(self.condition, module_id)


def can_be_for(module_id: str) -> bool:
    """Whether a configuration can be for modules of a name: for any but the system modules, whose names begin with `$`."""
    return not module_id.startswith("$")


def is_module_condition(text: str) -> bool:
    """Whether a text begins as conditions for modules do; no condition for devices does."""
    return _BEGINNING.match(text) is not None


@by_text
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
    asked = module_ids_asked(query.where)
    condition = _condition(query.where, text, 1)
    if asked is None:
        return ModuleCondition(EVERY_MODULE, condition)
    possible = [module_id for module_id in sorted(asked) if _MODULE_ID.fullmatch(module_id)]
    if not possible:
        names = " or ".join(map(repr, sorted(asked)))[:140] or "moduleId with two values"
        reason = f"{names} is no module that a configuration can be for; system modules are not"
        raise ConditionInvalid(text, column=1, reason=reason)
    if len(asked) > 1:
        return ModuleCondition(EVERY_MODULE, condition)
    return ModuleCondition(possible[0], _of(condition, possible[0]))


def module_targeted_query(text: str) -> str:
    """The query whose rows are the modules that such a condition selects, by their devices; empty where it is nobody."""
    return _query_text(text) if text.strip() else ""


def module_applied_query(text: str, deployment_id: str) -> str:
    """The query whose rows are the modules that a configuration with such a condition is applied to."""
    status = f"configurations.[[{deployment_id}]].status = 'Applied'"
    module_id = parse_module_condition(text).module_id if text.strip() else EVERY_MODULE
    if module_id == EVERY_MODULE:
        return _MODULES.format(status)
    return _MODULES.format(f"moduleId = {printed_literal(module_id)} and {status}")


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
        case Comparison(PathOf(path), op, Constant(literal)) if _compares(path, op, literal):
            return tree.Comparison(path, op, _primitive(literal))
        case Comparison(Constant(literal), op, PathOf(path)) if _compares(path, op, literal):
            return tree.Comparison(path, MIRRORED[op], _primitive(literal))
        case In(PathOf(path), literals) if all(_compares(path, Op.EQ, one) for one in literals):
            equal = tuple(tree.Comparison(path, Op.EQ, _primitive(one)) for one in literals)
            return tree.Or(equal) if len(equal) > 1 else equal[0]
        case IsDefined(path) if _is_known(path):
            return tree.IsDefined(path)
        case PathOf(path) if _compares(path, Op.EQ, literal=True):
            return tree.Comparison(path, Op.EQ, literal=True)
        case _:
            reason = f"{printed_expression(where)[:140]} is not supported: {_SUPPORTED}"
            raise ConditionInvalid(text, column=1, reason=reason)


def _is_known(path: Path) -> bool:
    match path:
        case ("deviceId",) | ("moduleId",):
            return True
        case ("tags", name, *_) | ("properties", "reported", name, *_):
            return not name.startswith("$")
        case _:
            return False


def _compares(path: Path, op: Op, literal: object) -> bool:
    if not _is_known(path):
        return False
    if path == MODULE_ID:
        # Nothing else compares with a name: so this part of a condition is true or false of a module, and never unknown.
        return isinstance(literal, str)
    if isinstance(literal, bool):
        return op in {Op.EQ, Op.NE}
    return isinstance(literal, str | int | float)


def _primitive(literal: object) -> tree.Literal:
    assert isinstance(literal, str | int | float)
    return literal


def _of(condition: Condition, module_id: str) -> Condition:
    """What a condition comes to where `moduleId` is this: its parts on that are decided, and gone."""
    match condition:
        case tree.Comparison(("moduleId",), op, literal):
            return _decided(compared(module_id, op, literal) is True)
        case tree.IsDefined(("moduleId",)):
            return tree.Everyone()
        case tree.And(terms):
            return _joined(tree.And, terms, module_id, neutral=tree.Everyone(), final=tree.Nobody())
        case tree.Or(terms):
            return _joined(tree.Or, terms, module_id, neutral=tree.Nobody(), final=tree.Everyone())
        case tree.Not(term):
            inner = _of(term, module_id)
            if isinstance(inner, tree.Everyone | tree.Nobody):
                return _decided(isinstance(inner, tree.Nobody))
            return tree.Not(inner)
        case _:
            return condition


def _decided(holds: bool) -> Condition:  # noqa: FBT001 - it is the value itself
    return tree.Everyone() if holds else tree.Nobody()


def _joined(
    join: type[tree.And | tree.Or],
    terms: tuple[Condition, ...],
    module_id: str,
    *,
    neutral: Condition,
    final: Condition,
) -> Condition:
    """Terms without those that change nothing; one that decides stands for all."""
    left = [one for one in (_of(term, module_id) for term in terms) if one != neutral]
    if final in left:
        return final
    if len(left) > 1:
        return join(tuple(left))
    return left[0] if left else neutral
