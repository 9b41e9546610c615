"""The plan of a custom metric's query, if the index can answer it."""

import msgspec

from events.device.identifiers import AGENT, HUB
from events.fleet.column import ValueKey, value_key
from events.fleet.index import MODULES, REPORTED
from events.query.errors import QueryInvalid
from events.query.parse import parse
from events.query.select import Select, compile_select
from events.query.tree import (
    And,
    Comparison,
    Constant,
    Expression,
    In,
    IsDefined,
    Not,
    Op,
    Or,
    Path,
    PathOf,
    QuerySource,
    equalities,
    is_aggregate,
    is_monotone,
    is_twin_property,
    paths_of,
    selectable_module_ids,
)
from events.text_cache import by_text

EDGE_ANSWER = frozenset({"lastDesiredStatus", "lastDesiredVersion"})
"""The reported properties that an edge-capable device inherits from its `$edgeHub` if it has none itself (DESIGN §7)."""

DESIRED_VERSION: Path = ("properties", "desired", "$version")
VERSION: Path = (*REPORTED, "lastDesiredVersion")

_OF_THE_REGISTRY: frozenset[Path] = frozenset({("deviceId",), ("moduleId",), ("status",), ("capabilities", "iotEdge")})


class MetricPlan(msgspec.Struct, frozen=True, eq=False):
    """How the rows of a metric are selected. `module` is their module, `None` for devices.

    `paths` are the paths of the index that the query reads, and `values` the (path, value) pairs if only these can change the
    rows; `statuses`: assignments and answers can change them as well.
    """

    select: Select
    module: str | None
    paths: frozenset[Path]
    values: frozenset[tuple[Path, ValueKey]] | None
    statuses: bool


@by_text
def plan_of(text: str) -> MetricPlan | None:
    """The plan of a metric's query; `None` if the index cannot answer it, or the query is invalid."""
    try:
        query = parse(text)
    except QueryInvalid:
        # A metric whose query cannot be read must not block the partition, so it is only not kept.
        return None
    if is_aggregate(query) or query.source is QuerySource.JOBS:
        return None
    module = None
    if query.source is QuerySource.MODULES:
        module_ids = selectable_module_ids(query.where)
        if module_ids is None or len(module_ids) != 1:
            return None
        (module,) = module_ids
    if query.where is not None and not _is_known(query.where, module):
        return None
    named = {path for path in paths_of(query.where) if path not in _OF_THE_REGISTRY}
    statuses = any(path[0] == "configurations" or path == DESIRED_VERSION for path in named)
    read = [indexed(path, module) for path in named if path[0] != "configurations" and path != DESIRED_VERSION]
    # A property that the device can inherit from `$edgeHub` also depends on whether the device reports it itself.
    inherited = {sources[0][: len(REPORTED) + 1] for sources in read if len(sources) > 1}
    values = None
    # The result of equalities joined by AND and OR changes only with their own values.
    if not statuses and query.where is not None and is_monotone(query.where) and not inherited:
        compared = ((path, literal) for path, literal in equalities(query.where) if path not in _OF_THE_REGISTRY)
        values = frozenset((indexed(path, module)[0], value_key(literal)) for path, literal in compared)
    # Which devices have a module other than those of the runtime follows from their assignments.
    follows = statuses or module not in {None, AGENT, HUB}
    return MetricPlan(compile_select(query.where), module, frozenset(inherited.union(*read)), values, follows)


def _is_known(where: Expression, module: str | None) -> bool:
    """Whether the index can answer every term of a condition."""
    match where:
        case And(terms) | Or(terms):
            return all(_is_known(term, module) for term in terms)
        case Not(term):
            return _is_known(term, module)
        case Comparison(PathOf(left), Op.EQ | Op.NE, PathOf(right)):
            return module == AGENT and {left, right} == {VERSION, DESIRED_VERSION}
        case Comparison(PathOf(path), _, Constant(literal)) | Comparison(Constant(literal), _, PathOf(path)):
            return literal is not None and _has_sets(path, module)
        case In(PathOf(path), literals):
            return None not in literals and _has_sets(path, module)
        case IsDefined(path) | PathOf(path):
            return _has_sets(path, module)
        case Constant():
            return True
        case _:
            return False


def _has_sets(path: Path, module: str | None) -> bool:
    if path in _OF_THE_REGISTRY:
        return module is None or path in {("deviceId",), ("moduleId",)}
    match path:
        case ("configurations", _, "status"):
            return module is not None
        case _:
            return is_twin_property(path)


def indexed(path: Path, module: str | None) -> tuple[Path, ...]:
    """The paths of the index behind a reported property or a tag."""
    if module is not None:
        return ((*MODULES, module, *(path if path[0] == "tags" else path[1:])),)
    if path[:2] == REPORTED and path[2] in EDGE_ANSWER:
        return path, (*MODULES, HUB, "reported", *path[2:])
    return (path,)
