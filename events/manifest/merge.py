"""The merge of a base and its layers into the desired properties of each module (contract/hub.md §3.3)."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from events.canonical import Json, JsonObject
from events.manifest import create_options
from events.manifest.document import AGENT, DESIRED, DEVICE, MODULE
from events.properties import DESIRED_BYTES_MAX, is_secret, merge_patch, size_of

MODULES_MAX = 50

_ABSENT = object()


class Conflict(msgspec.Struct, frozen=True):
    """A property that deployments of a stack set to different values; the last one wins."""

    module: str
    path: str
    winner: str
    losers: tuple[str, ...]


def merge(base: JsonObject, layers: Sequence[JsonObject]) -> dict[str, JsonObject]:
    """Merge `modulesContent` objects into a base, in ascending priority; return the sections by module.

    `properties.desired` replaces a module's whole section. `properties.desired.a.b` replaces only a.b and keeps its
    siblings. Null removes a property. createOptions in several chunks are one value: setting `…settings.createOptions` of
    a module removes `createOptions01` and the other chunks of lower deployments. Within one deployment, shorter paths
    apply first, whatever their order in the file.

    Each content must have passed `content_problems`. The contents are not changed.
    """
    sections: dict[str, JsonObject] = {}
    for modules in (base, *layers):
        for module, paths in modules.items():
            if paths:
                sections[module] = _laid_over(sections.get(module, {}), paths, of_agent=module == AGENT)
    return sections


def contributes(modules_content: JsonObject, module: str) -> bool:
    """Return whether a deployment sets anything for a module; `"$edgeAgent": {}` does not (contract/hub.md §1.7)."""
    return bool(modules_content.get(module))


def over_limit(sections: Mapping[str, JsonObject]) -> str:
    """Return why merged sections exceed a limit of devices: 50 modules, then 32 KB per section; empty if they do not."""
    modules = sections.get(AGENT, {}).get("modules")
    if isinstance(modules, dict) and len(modules) > MODULES_MAX:
        return f"{len(modules)} modules are more than the {MODULES_MAX} that a device can have"
    for module, section in sorted(sections.items()):
        if (size := size_of(section)) > DESIRED_BYTES_MAX:
            subject = f"the desired properties of {module} have"
            if module == DEVICE:
                subject = "the device's own desired properties have"
            elif module == MODULE:
                subject = "the desired properties of the module from configurations have"
            return f"{subject} {size} bytes, more than {DESIRED_BYTES_MAX}"
    return ""


def conflicts(stack: Sequence[tuple[str, JsonObject]]) -> tuple[Conflict, ...]:
    """Return the properties that a later deployment of a stack sets to another value than an earlier one.

    The stack is (deployment id, `modulesContent`) in ascending priority. The result is ordered by module and path.
    """
    contents = [modules for _, modules in stack]
    merged = merge({}, contents)
    losers: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for number, modules in enumerate(contents):
        for module, section in merge({}, [modules]).items():
            for leaf, value in _leaves(section):
                if _differs(value, _value_at(merged[module], leaf)):
                    losers.setdefault((module, leaf), []).append(number)
    result = []
    for (module, leaf), numbers in sorted(losers.items()):
        winner = stack[last_setter(contents, module, leaf)][0]
        result.append(Conflict(module, ".".join((DESIRED, *leaf)), winner, tuple(stack[n][0] for n in numbers)))
    return tuple(result)


def _laid_over(section: JsonObject, paths: JsonObject, *, of_agent: bool) -> JsonObject:
    # Only this merge has `section`, so it can be changed. Values are copied into it, so that the inputs stay unchanged.
    if of_agent:
        for path in paths:
            _remove_chunks(section, _segments(path))
    for path, value in sorted(paths.items(), key=lambda item: item[0].count(".")):
        if segments := _segments(path):
            _set(section, segments, value)
        else:
            section = merge_patch({}, value)
    return section


def _remove_chunks(section: JsonObject, segments: list[str]) -> None:
    # This runs before the deployment's own paths are set, so that its own chunks stay.
    if _is_of_options(segments) and isinstance(settings := _value_at(section, tuple(segments[:-1])), dict):
        for name in create_options.chunks_of(settings, segments[-1]):
            del settings[name]


def _is_of_options(segments: list[str]) -> bool:
    """Return whether a path in the section of `$edgeAgent` is a chunk of a module's createOptions."""
    return segments[-2:-1] == ["settings"] and create_options.is_chunk(segments[-1])


def _segments(path: str) -> list[str]:
    return path.split(".")[2:]


def _set(section: JsonObject, segments: list[str], value: Json) -> None:
    node = section
    for name in segments[:-1]:
        child = node.get(name)
        # A reference to a secret is one value, although it is written as an object.
        if not isinstance(child, dict) or is_secret(child):
            child = node[name] = {}
        node = child
    if value is None:
        node.pop(segments[-1], None)
    else:
        node[segments[-1]] = merge_patch({}, value) if isinstance(value, dict) else value


def _leaves(section: JsonObject) -> Iterator[tuple[tuple[str, ...], Json]]:
    nodes: list[tuple[tuple[str, ...], Json]] = [((), section)]
    for path, value in nodes:
        if isinstance(value, dict) and value and not is_secret(value):
            nodes.extend(((*path, key), item) for key, item in value.items())
        elif path:
            yield path, value


def _value_at(section: Json, path: tuple[str, ...]) -> object:
    for name in path:
        if not isinstance(section, dict) or name not in section:
            return _ABSENT
        section = section[name]
    return section


def _differs(value: Json, final: object) -> bool:
    # Members that are added to an empty object do not overwrite it. True == 1 in Python, but not in JSON.
    if value == {}:
        return not isinstance(final, dict)
    return isinstance(value, bool) != isinstance(final, bool) or value != final


def last_setter(contents: Sequence[JsonObject], module: str, leaf: tuple[str, ...]) -> int:
    """Return the index of the last content, in ascending order, that sets a property of a module; -1 if none does."""
    setters = (
        number
        for number, modules in enumerate(contents)
        for path in modules.get(module, {})
        if _sets(_segments(path), leaf, of_agent=module == AGENT)
    )
    return max(setters, default=-1)


def _sets(segments: list[str], leaf: tuple[str, ...], *, of_agent: bool) -> bool:
    """Return whether setting a path changes a property: itself, a parent, a part of it, or a chunk that is removed."""
    if of_agent and _is_of_options(segments) and segments[:-1] == list(leaf[:-1]):
        return segments[-1] == leaf[-1] or bool(create_options.chunks_of({leaf[-1]: None}, segments[-1]))
    return all(mine == theirs for mine, theirs in zip(segments, leaf, strict=False))
