"""A manifest as a document: what it wraps, which kind it is, and which modules it wants to run."""

import enum
from collections.abc import Mapping
from typing import Literal

from events.canonical import Json, JsonObject

AGENT = "$edgeAgent"
HUB = "$edgeHub"
DESIRED = "properties.desired"

_STATUSES = ("running", "stopped")

DEVICE = "$device"
"""Stands for the device's own twin where modules are named; no module can be called so."""

MODULE = "$module"
"""Stands for the module that a configuration's condition names, which an update may change; no module can be called so."""


class ContentKind(enum.Enum):
    """The three kinds of content, by the member that holds it (contract/hub.md §1.2)."""

    EDGE = "modulesContent"
    DEVICE = "deviceContent"
    MODULE = "moduleContent"


KindName = Literal["edge", "device", "module"]
KIND_NAMES: Mapping[ContentKind, KindName] = {
    ContentKind.EDGE: "edge",
    ContentKind.DEVICE: "device",
    ContentKind.MODULE: "module",
}
"""Whom each kind of content is for, as answers name it."""


def content_of(document: Json) -> Json:
    """The content in a file as the CLI takes it (contract/hub.md §3.1).

    A `{"content": …}` wrapper is taken off, whatever stands beside the content is left out, and the old form is read as
    `in_modern_form` says. What is no content is answered as it is, for `problems` to name.
    """
    content = document
    if isinstance(document, dict) and "content" in document:
        content = document["content"]
    if not isinstance(content, dict):
        return content
    return in_modern_form({kind.value: content[kind.value] for kind in ContentKind if kind.value in content})


def in_modern_form(content: Json) -> Json:
    """A content whose `moduleContent` names modules, as older manifests of edge deployments do, with `modulesContent` instead.

    The CLI reads it so too (contract/hub.md §3.1). In a configuration of one module's twin, `moduleContent` names paths
    (`properties.desired…`); that stays, and so does what has both, which is refused.
    """
    if not isinstance(content, dict) or content.get(ContentKind.EDGE.value) is not None:
        return content
    modules = content.get(ContentKind.MODULE.value)
    if not isinstance(modules, dict) or not modules:
        return content
    if any(name.startswith(DESIRED) or not isinstance(paths, dict) for name, paths in modules.items()):
        return content
    other_members = {
        name: value for name, value in content.items() if name not in {ContentKind.EDGE.value, ContentKind.MODULE.value}
    }
    return {**other_members, ContentKind.EDGE.value: modules}


def kind_of(content: JsonObject) -> ContentKind:
    """The kind of a content that passed `content_problems`."""
    return next((kind for kind in ContentKind if content.get(kind.value) is not None), ContentKind.EDGE)


def by_module(content: JsonObject) -> JsonObject:
    """What a content sets, as paths and values by module; of a device's own twin under `DEVICE`, of one module under `MODULE`."""
    kind = kind_of(content)
    match kind:
        case ContentKind.EDGE:
            modules: JsonObject = content.get(kind.value, {})
            return modules
        case ContentKind.DEVICE:
            return {DEVICE: content[kind.value]}
        case ContentKind.MODULE:
            return {MODULE: content[kind.value]}


def is_layered(content: Json) -> bool:
    """Whether an edge content lies over a base instead of being one: `$edgeAgent` has no key `properties.desired`."""
    if isinstance(content, dict) and kind_of(content) is not ContentKind.EDGE:
        return False
    modules = content.get(ContentKind.EDGE.value) if isinstance(content, dict) else None
    agent = modules.get(AGENT) if isinstance(modules, dict) else None
    return not isinstance(agent, dict) or DESIRED not in agent


def desired_status(sections: Mapping[str, JsonObject]) -> dict[str, str]:
    """Module id → `running` or `stopped`, by the merged `$edgeAgent` section.

    The system modules stand as `$edgeAgent`, always running, and `$edgeHub`: a user's module may be called edgeHub.
    What has no readable status is left out.
    """
    agent = sections.get(AGENT, {})
    system, modules = agent.get("systemModules"), agent.get("modules")
    specs: dict[str, Json] = dict(modules) if isinstance(modules, dict) else {}
    if isinstance(system, dict):
        specs |= {f"${name}": spec for name, spec in system.items() if name in ("edgeAgent", "edgeHub")}
    status_by_module = {name: spec.get("status") for name, spec in specs.items() if isinstance(spec, dict)}
    if AGENT in status_by_module:
        status_by_module[AGENT] = "running"
    return {name: status for name, status in status_by_module.items() if status in _STATUSES}
