"""A manifest as a document: its content, its kind, and the modules that it runs."""

import enum
from collections.abc import Mapping
from typing import Literal

from events.canonical import Json, JsonObject

AGENT = "$edgeAgent"
HUB = "$edgeHub"
DESIRED = "properties.desired"

DEVICE = "$device"
"""The key of the device's own twin among modules; module ids cannot begin with `$`."""

MODULE = "$module"
"""The key of the module in a configuration's condition, which an update of the condition can change; not a module id."""


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
"""Kind of content → the name that API responses use."""


def object_of(value: Json) -> JsonObject:
    """Return an object unchanged; empty for any other value."""
    return value if isinstance(value, dict) else {}


def content_of(document: Json) -> Json:
    """Return the content in a file that the CLI accepts (contract/hub.md §3.1).

    This removes a `{"content": …}` wrapper and members beside the content, and converts the old form (`in_modern_form`).
    A value that is not an object is returned unchanged, so that `problems` reports it.
    """
    content = document["content"] if isinstance(document, dict) and "content" in document else document
    if not isinstance(content, dict):
        return content
    return in_modern_form({kind.value: content[kind.value] for kind in ContentKind if kind.value in content})


def in_modern_form(content: Json) -> Json:
    """Return a content with `moduleContent` renamed to `modulesContent` if its members are modules; else unchanged.

    Older manifests of edge deployments have this form, and the CLI reads them too (contract/hub.md §3.1). The members of
    `moduleContent` in a configuration of one module's twin are paths (`properties.desired…`). A content with both members
    stays unchanged, and `problems` reports it.
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
    """Return the kind of a content that passed `content_problems`."""
    return next((kind for kind in ContentKind if content.get(kind.value) is not None), ContentKind.EDGE)


def by_module(content: JsonObject) -> JsonObject:
    """Return the paths and values that a content sets, by module; under `DEVICE` or `MODULE` for the other kinds."""
    kind = kind_of(content)
    if kind is ContentKind.EDGE:
        modules: JsonObject = content.get(kind.value, {})
        return modules
    return {DEVICE if kind is ContentKind.DEVICE else MODULE: content[kind.value]}


def is_layered(content: Json) -> bool:
    """Return whether an edge content is a layer: its `$edgeAgent` has no key `properties.desired`."""
    if isinstance(content, dict) and kind_of(content) is not ContentKind.EDGE:
        return False
    return DESIRED not in object_of(object_of(object_of(content).get(ContentKind.EDGE.value)).get(AGENT))


def desired_status(sections: Mapping[str, JsonObject]) -> dict[str, str]:
    """Return module id → `running` or `stopped`, from the merged section of `$edgeAgent`.

    The system modules have the keys `$edgeAgent`, always running, and `$edgeHub`, because a user's module can have the name
    edgeHub. Modules without a valid status are skipped.
    """
    agent = sections.get(AGENT, {})
    system = {f"${name}": spec for name, spec in object_of(agent.get("systemModules")).items()}
    specs = object_of(agent.get("modules")) | {name: spec for name, spec in system.items() if name in (AGENT, HUB)}
    status_by_module = {name: spec.get("status") for name, spec in specs.items() if isinstance(spec, dict)}
    if AGENT in status_by_module:
        status_by_module[AGENT] = "running"
    return {name: status for name, status in status_by_module.items() if status in ("running", "stopped")}
