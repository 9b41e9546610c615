"""What IoT Hub itself refuses in a deployment's content (contract/hub.md §1.3, §6), before any module reads it."""

import re
from collections.abc import Iterator, Sequence

from events.canonical import Json, JsonObject
from events.manifest.document import AGENT, DESIRED, DEVICE, HUB, MODULE, ContentKind, by_module, object_of
from events.manifest.merge import MODULES_MAX, merge
from events.manifest.problem import Problem
from events.manifest.shape import join, shown, type_name
from events.properties import DESIRED_BYTES_MAX, SECRET, is_secret, problems_of

CONTENT = ContentKind.EDGE.value

_module_id = re.compile(r"[A-Za-z0-9\-:.+%_#*?!(),=@;$']{1,128}")


def content_problems(content: Json, allowed: Sequence[ContentKind] = tuple(ContentKind)) -> tuple[Problem, ...]:
    """Return the problems for which a content is refused, if it must have one of the `allowed` kinds.

    Any value is accepted.
    """
    # The limits are those of the merge, which needs a content of the right shape.
    return tuple(_shape_problems(content, allowed)) or tuple(_limit_problems(content))


def _shape_problems(content: Json, allowed: Sequence[ContentKind]) -> Iterator[Problem]:
    if not isinstance(content, dict):
        yield Problem("content", "type", f"must be an object, not {type_name(content)}")
        return
    kinds = [kind for kind in ContentKind if content.get(kind.value) is not None]
    if len(kinds) != 1 or kinds[0] not in allowed:
        actual = " and ".join(kind.value for kind in kinds) or "nothing"
        expected = " or ".join(kind.value for kind in allowed)
        yield Problem("content", "kind", f"must have only {expected}, not {actual}")
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
            yield Problem(join(CONTENT, module), "module-id", f"{shown(module)!r} is not a valid module id")
        yield from _paths_problems(paths, join(CONTENT, module))


def _paths_problems(paths: Json, at: str) -> Iterator[Problem]:
    if not isinstance(paths, dict):
        yield Problem(at, "type", f"must be an object, not {type_name(paths)}")
        return
    for path, value in paths.items():
        if path != DESIRED and not path.startswith(f"{DESIRED}."):
            yield Problem(join(at, path), "path", f"must be {DESIRED}, or {DESIRED}. followed by a name")
        elif "" in path.split("."):
            yield Problem(join(at, path), "path", "must have a name between any two dots and at its end")
        elif path == DESIRED and not isinstance(value, dict):
            yield Problem(join(at, path), "type", f"must be an object, not {type_name(value)}")


def _limit_problems(content: JsonObject) -> Iterator[Problem]:
    for module, section in merge({}, [by_module(content)]).items():
        holder = {DEVICE: ContentKind.DEVICE.value, MODULE: ContentKind.MODULE.value}.get(module, f"{CONTENT}.{module}")
        path = f"{holder}.{DESIRED}"
        if module == AGENT:
            _lift_secrets(section)
            if len(user_modules := object_of(section.get("modules"))) > MODULES_MAX:
                message = f"a deployment has at most {MODULES_MAX} modules, not {len(user_modules)}"
                yield Problem(f"{path}.modules", "modules-max", message)
        for problem in problems_of(section, root=path, size_bytes_max=DESIRED_BYTES_MAX):
            yield Problem(problem.path, f"limit-{problem.rule}", problem.message)


def _lift_secrets(section: JsonObject) -> None:
    # Registry passwords and environment variables can be `{"$secret": id}`. It counts as its text here, because its `$`
    # would break the hub's rule for keys, as it still does at any other place.
    registries = object_of(object_of(section.get("runtime")).get("settings")).get("registryCredentials")
    modules = [*object_of(section.get("modules")).values(), *object_of(section.get("systemModules")).values()]
    variables = [variable for module in modules for variable in object_of(object_of(module).get("env")).values()]
    for name, holders in (("password", object_of(registries).values()), ("value", variables)):
        for holder in holders:
            if is_secret(object_of(holder).get(name)):
                holder[name] = holder[name][SECRET]
