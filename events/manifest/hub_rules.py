"""What the hub itself refuses in a deployment's content (contract/hub.md §1.3, §6), whatever the modules make of it."""

import re
from collections.abc import Iterator

from events.canonical import Json, JsonObject
from events.manifest.document import AGENT, DESIRED, DEVICE, HUB, MODULE, ContentKind, by_module
from events.manifest.merge import MODULES_MAX, merge
from events.manifest.problem import Problem
from events.manifest.shape import join, shown, type_name
from events.properties import DESIRED_BYTES_MAX, SECRET, is_secret, problems_of

CONTENT = ContentKind.EDGE.value

_EDGE_ALONE = "an edge deployment has modulesContent and no other kind"
_ONE_KIND = "a configuration has one of modulesContent, deviceContent and moduleContent"
_module_id = re.compile(r"[A-Za-z0-9\-:.+%_#*?!(),=@;$']{1,128}")


def content_problems(content: Json) -> tuple[Problem, ...]:
    """Everything for which a configuration's content is refused; empty when it is taken. Any value is answered."""
    shape_problems = tuple(_shape_problems(content, tuple(ContentKind), _ONE_KIND))
    return shape_problems or tuple(_limit_problems(content))


def edge_content_problems(content: Json) -> tuple[Problem, ...]:
    """As `content_problems`, where nothing but the content of an edge deployment will do."""
    shape_problems = tuple(_shape_problems(content, (ContentKind.EDGE,), _EDGE_ALONE))
    return shape_problems or tuple(_limit_problems(content))


def _shape_problems(content: Json, allowed: tuple[ContentKind, ...], rule: str) -> Iterator[Problem]:
    if not isinstance(content, dict):
        yield Problem("content", "type", f"must be an object, not {type_name(content)}")
        return
    kinds = [kind for kind in ContentKind if content.get(kind.value) is not None]
    if len(kinds) != 1 or kinds[0] not in allowed:
        kind_names = " and ".join(kind.value for kind in kinds) or "nothing"
        yield Problem("content", "kind", f"{rule}; this has {kind_names}")
    elif kinds == [ContentKind.EDGE]:
        yield from _module_problems(content[CONTENT])
    else:
        yield from _paths_problems(content[kinds[0].value], kinds[0].value)


def _module_problems(modules: Json) -> Iterator[Problem]:
    if not isinstance(modules, dict):
        yield Problem(CONTENT, "type", f"must be an object, not {type_name(modules)}")
        return
    if AGENT not in modules:
        yield Problem(CONTENT, "agent-missing", f"{AGENT!r} is required")
    for module, paths in modules.items():
        if not _module_id.fullmatch(module) or (module.startswith("$") and module not in (AGENT, HUB)):
            yield Problem(join(CONTENT, module), "module-id", f"{shown(module)!r} is no name for a module")
        yield from _paths_problems(paths, join(CONTENT, module))


def _paths_problems(paths: Json, at: str) -> Iterator[Problem]:
    if not isinstance(paths, dict):
        yield Problem(at, "type", f"must be an object, not {type_name(paths)}")
        return
    for path, value in paths.items():
        yield from _path_problems(path, value, at)


def _path_problems(path: str, value: Json, at: str) -> Iterator[Problem]:
    if path != DESIRED and not path.startswith(f"{DESIRED}."):
        yield Problem(join(at, path), "path", f"must be {DESIRED} or begin with {DESIRED}. and a name")
    elif "" in path.split("."):
        yield Problem(join(at, path), "path", "a path has a name between any two dots and at its end")
    elif path == DESIRED and not isinstance(value, dict):
        yield Problem(join(at, path), "type", f"must be an object, not {type_name(value)}")


def _limit_problems(content: JsonObject) -> Iterator[Problem]:
    for module, section in merge({}, [by_module(content)]).items():
        holder = {DEVICE: ContentKind.DEVICE.value, MODULE: ContentKind.MODULE.value}.get(module, f"{CONTENT}.{module}")
        path = f"{holder}.{DESIRED}"
        if module == AGENT:
            _lift_secrets(section)
            user_modules = section.get("modules")
            if isinstance(user_modules, dict) and len(user_modules) > MODULES_MAX:
                message = f"a deployment has at most {MODULES_MAX} modules, not {len(user_modules)}"
                yield Problem(f"{path}.modules", "modules-max", message)
        for problem in problems_of(section, root=path, size_bytes_max=DESIRED_BYTES_MAX):
            yield Problem(problem.path, f"limit-{problem.rule}", problem.message)


def _lift_secrets(section: JsonObject) -> None:
    # A reference where one may stand counts as the text it is; anywhere else its `$` breaks the rule for keys.
    registries = _at(section, "runtime", "settings", "registryCredentials")
    holders = [(registry, "password") for registry in _objects(registries)]
    for group in (section.get("modules"), section.get("systemModules")):
        for module in _objects(group):
            holders += [(variable, "value") for variable in _objects(module.get("env"))]
    for holder, name in holders:
        if is_secret(holder.get(name)):
            holder[name] = holder[name][SECRET]


def _at(value: Json, *path: str) -> Json:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _objects(value: Json) -> list[JsonObject]:
    return [item for item in value.values() if isinstance(item, dict)] if isinstance(value, dict) else []
