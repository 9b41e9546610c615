"""The validation of a deployment's content, by IoT Hub's rules and by those of the system modules."""

from collections.abc import Iterator

from events.canonical import Json
from events.manifest import agent_schema, hub_schema
from events.manifest.document import AGENT, DESIRED, HUB, is_layered, object_of
from events.manifest.errors import ManifestInvalid
from events.manifest.hub_rules import CONTENT, content_problems
from events.manifest.placeholders import variables
from events.manifest.problem import Problem, Severity
from events.manifest.shape import hold, hold_at, join, open_problem
from events.properties import DEPTH_MAX


def problems(content: Json) -> tuple[Problem, ...]:
    """Return all problems of a content of any kind, errors and warnings.

    They are `content_problems` and those of the system modules' schemas: of the schema version in `properties.desired`, or
    of the newest version for a layer without one. Any value is accepted.
    """
    refused = content_problems(content)
    if not isinstance(content, dict) or not isinstance(content.get(CONTENT), dict):
        return refused
    modules = content[CONTENT]
    result = list(refused)
    for module, paths in modules.items():
        for path, value in object_of(paths).items():
            result.extend(_set_problems(module, path, value, layered=is_layered(content)))
    return tuple(dict.fromkeys(result))


def validate(content: Json) -> None:
    """Refuse a content that has errors; warnings do not refuse it.

    Raises:
        ManifestInvalid: with every problem, warnings included.
    """
    all_problems = problems(content)
    if any(problem.severity is Severity.ERROR for problem in all_problems):
        raise ManifestInvalid(all_problems)


def section_problems(module: str, section: Json, path: str = DESIRED) -> Iterator[Problem]:
    """Yield the problems of the whole desired properties of `$edgeAgent` or `$edgeHub`."""
    schema = agent_schema if module == AGENT else hub_schema
    minor = schema.minor_of(section.get("schemaVersion")) if isinstance(section, dict) else None
    # Without a valid version, the rules of 1.0 apply: later versions forbid all that it forbids.
    yield from hold(schema.shape(minor or 0), section, path)


def _set_problems(module: str, path: str, value: Json, *, layered: bool) -> Iterator[Problem]:
    root = f"{join(CONTENT, module)}.{DESIRED}"
    if path != DESIRED and not path.startswith(f"{DESIRED}."):
        return
    if module not in (AGENT, HUB):
        yield from _open_names(value, join(join(CONTENT, module), path))
    elif path == DESIRED:
        yield from section_problems(module, value, root)
    else:
        schema = agent_schema if module == AGENT else hub_schema
        shape = schema.layer_shape() if layered else schema.shape(0)
        yield from hold_at(shape, path.split(".")[2:], value, root)


def _open_names(value: Json, path: str) -> Iterator[Problem]:
    nodes: list[tuple[Json, str, int]] = [(value, path, 0)]
    for node, at, depth in nodes:
        if isinstance(node, str) and (names := variables(node)):
            yield open_problem(names, at, Severity.WARNING)
        elif depth > 2 * DEPTH_MAX:
            continue  # the limit of depth already refuses this
        elif isinstance(node, dict):
            nodes.extend((item, join(at, key), depth + 1) for key, item in node.items())
        elif isinstance(node, list):
            nodes.extend((item, f"{at}[{number}]", depth + 1) for number, item in enumerate(node))
