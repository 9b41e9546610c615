"""Target conditions of configurations for modules: `FROM devices.modules WHERE …` (contract/hub.md §2.2)."""

import re

import msgspec

from events.query import tree
from events.query.condition import DEPTH_MAX
from events.query.errors import ConditionInvalid, QueryInvalid
from events.query.evaluate import holds
from events.query.parse import parse
from events.query.text import printed_expression
from events.query.tree import MATCH_ALL, MATCH_NONE, Expression, Op, Path
from events.text_cache import by_text

_SELECT = "select deviceId "
_BEGINNING = re.compile(r"\s*from\s+devices\.modules\s+where\b", re.IGNORECASE)
_MODULE_ID = re.compile(r"(?!\$)[A-Za-z0-9\-:.+%_#*?!(),=@;$']{1,128}")
_SUPPORTED = (
    "a condition for modules is FROM devices.modules WHERE … on moduleId, deviceId, and tags and properties.reported of the "
    "module, each compared with a string, a number, true or false, and moduleId only with strings"
)

MODULE_ID: Path = ("moduleId",)

EVERY_MODULE = "/"
"""Stands for the module id of a condition for modules of several ids; an id cannot have a slash."""


class ModuleCondition(msgspec.Struct, frozen=True):
    """A condition for modules: `condition` is on `deviceId`, and on `tags` and `properties.reported` of a module.

    `module_id` is the only module id that it can select. If it is `EVERY_MODULE`, `condition` also has terms on `moduleId`,
    and `of` evaluates them for one module id.
    """

    module_id: str
    condition: Expression

    def of(self, module_id: str) -> Expression:
        """Return the condition that remains for modules with an id, without terms on `moduleId`."""
        return _of(self.condition, module_id)


def can_be_for(module_id: str) -> bool:
    """Return whether a configuration can be for a module id: for all but system modules, whose ids begin with `$`."""
    return not module_id.startswith("$")


def is_module_condition(text: str) -> bool:
    """Return whether a text begins with `FROM devices.modules WHERE`, as only conditions for modules do."""
    return _BEGINNING.match(text) is not None


@by_text
def parse_module_condition(text: str) -> ModuleCondition:
    """Parse a condition for modules.

    Raises:
        ConditionInvalid: it is not a condition for modules, or has unsupported parts; the message says what is supported.
    """
    if not is_module_condition(text):
        raise ConditionInvalid(text, column=1, reason=_SUPPORTED)
    try:
        query = parse(_SELECT + text.strip())
    except QueryInvalid as error:
        raise ConditionInvalid(text, column=max(1, error.column - len(_SELECT)), reason=error.reason) from None
    if query.source is not tree.QuerySource.MODULES or query.where is None or query.group_by:
        raise ConditionInvalid(text, column=1, reason=_SUPPORTED)
    module_ids = tree.selectable_module_ids(query.where)
    condition = _restricted(query.where, text, 1)
    if module_ids is None:
        return ModuleCondition(EVERY_MODULE, condition)
    possible = [module_id for module_id in sorted(module_ids) if _MODULE_ID.fullmatch(module_id)]
    if not possible:
        names = " or ".join(map(repr, sorted(module_ids)))[:140] or "moduleId with two values"
        reason = f"{names} is not a module id for a configuration; system modules are not supported"
        raise ConditionInvalid(text, column=1, reason=reason)
    if len(module_ids) > 1:
        return ModuleCondition(EVERY_MODULE, condition)
    return ModuleCondition(possible[0], _of(condition, possible[0]))


def _restricted(where: Expression, text: str, depth: int) -> Expression:
    """Return a condition in the form of target conditions: each property on the left, compared with one literal."""
    if depth > DEPTH_MAX:
        raise ConditionInvalid(text, column=1, reason=f"nested deeper than {DEPTH_MAX}")
    match where:
        case tree.And(terms) | tree.Or(terms):
            return type(where)(tuple(_restricted(term, text, depth + 1) for term in terms))
        case tree.Not(term):
            return tree.Not(_restricted(term, text, depth + 1))
        case tree.Comparison(tree.PathOf(path), op, tree.Constant(literal)) if _compares(path, op, literal):
            return where
        case tree.Comparison(tree.Constant(literal), op, tree.PathOf(path)) if _compares(path, op, literal):
            return tree.compare_property(path, tree.MIRRORED[op], literal)
        case tree.In(tree.PathOf(path), literals) if all(_compares(path, Op.EQ, literal) for literal in literals):
            equal = tuple(tree.compare_property(path, Op.EQ, literal) for literal in literals)
            return tree.Or(equal) if len(equal) > 1 else equal[0]
        case tree.IsDefined(path) if _is_supported(path):
            return where
        case tree.PathOf(path) if _compares(path, Op.EQ, literal=True):
            return tree.compare_property(path, Op.EQ, literal=True)
        case _:
            reason = f"{printed_expression(where)[:140]} is not supported: {_SUPPORTED}"
            raise ConditionInvalid(text, column=1, reason=reason)


def _is_supported(path: Path) -> bool:
    return path in {("deviceId",), MODULE_ID} or tree.is_twin_property(path)


def _compares(path: Path, op: Op, literal: object) -> bool:
    if not _is_supported(path):
        return False
    if path == MODULE_ID:
        # Only strings: then a term on moduleId is true or false for every module, never unknown, and `of` can remove it.
        return isinstance(literal, str)
    if isinstance(literal, bool):
        return op in {Op.EQ, Op.NE}
    return isinstance(literal, str | int | float)


def _of(condition: Expression, module_id: str) -> Expression:
    """Return a condition for one `moduleId`, with its terms on `moduleId` evaluated and removed."""
    match condition:
        case tree.And(terms):
            return _joined(tree.And, terms, module_id, neutral=MATCH_ALL, decisive=MATCH_NONE)
        case tree.Or(terms):
            return _joined(tree.Or, terms, module_id, neutral=MATCH_NONE, decisive=MATCH_ALL)
        case tree.Not(term):
            inner = _of(term, module_id)
            if inner == MATCH_ALL:
                return MATCH_NONE
            return MATCH_ALL if inner == MATCH_NONE else tree.Not(inner)
        case _ if MODULE_ID in tree.paths_of(condition):
            return MATCH_ALL if holds(condition, {"moduleId": module_id}) else MATCH_NONE
        case _:
            return condition


def _joined(
    join: type[tree.And | tree.Or],
    terms: tuple[Expression, ...],
    module_id: str,
    *,
    neutral: Expression,
    decisive: Expression,
) -> Expression:
    """Join the terms of a condition: neutral terms are dropped, and a decisive term replaces all."""
    parts = [part for part in (_of(term, module_id) for term in terms) if part != neutral]
    if decisive in parts:
        return decisive
    if len(parts) > 1:
        return join(tuple(parts))
    return parts[0] if parts else neutral
