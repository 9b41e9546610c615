"""A manifest as a document: what it wraps, which kind it is, and what its system modules' sections say."""

import enum
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from events.canonical import Json, JsonObject
from events.manifest import create_options, image

_AGENT = "$edgeAgent"
_HUB = "$edgeHub"
_DESIRED = "properties.desired"
_STATUSES = ("running", "stopped")

DEVICE = "$device"
"""Stands for the device's own twin where modules are named; no module can be called so."""

MODULE = "$module"
"""Stands for the module that a configuration's condition names, which an update may change; no module can be called so."""

STARTUP_ORDER_DEFAULT = 2**32 - 1
ROUTE_PRIORITY_DEFAULT = 2_000_000_000


class Kind(enum.Enum):
    """The three kinds of content, by the member that holds it (contract/hub.md §1.2)."""

    EDGE = "modulesContent"
    DEVICE = "deviceContent"
    MODULE = "moduleContent"


KindName = Literal["edge", "device", "module"]
KIND_NAMES: Mapping[Kind, KindName] = {Kind.EDGE: "edge", Kind.DEVICE: "device", Kind.MODULE: "module"}
"""Whom each kind of content is for, as answers name it."""


class ModuleSpec(msgspec.Struct, frozen=True):
    """What the agent is to keep of one module; what was left out has the agent's default (contract/edge.md §1.1).

    `create_options` is the chunks as one text, `env` name → value, a reference `{"$secret": id}` among them.
    """

    image: str
    type: str = "docker"
    status: str = "running"
    restart_policy: str = "on-unhealthy"
    image_pull_policy: str = "on-create"
    startup_order: int = STARTUP_ORDER_DEFAULT
    version: str = ""
    create_options: str = ""
    env: dict[str, Json] = {}


class Registry(msgspec.Struct, frozen=True):
    """Where to pull images from, and as whom. `password` can be a reference `{"$secret": id}`."""

    address: str
    username: str
    password: Json


class AgentDesired(msgspec.Struct, frozen=True):
    """The desired properties of `$edgeAgent`. System modules are named `edgeAgent` and `edgeHub`."""

    schema_version: str
    registries: dict[str, Registry]
    system_modules: dict[str, ModuleSpec]
    modules: dict[str, ModuleSpec]


class RouteSpec(msgspec.Struct, frozen=True):
    """A route of the hub as written; priority 0 comes first, and 0 seconds stand for the hub's own time to live."""

    route: str
    priority: int = ROUTE_PRIORITY_DEFAULT
    time_to_live_seconds: int = 0


class StoreAndForward(msgspec.Struct, frozen=True):
    """How long the hub keeps what it cannot deliver; negative is for ever."""

    time_to_live_seconds: int = 7200


class HubDesired(msgspec.Struct, frozen=True):
    """The desired properties of `$edgeHub`."""

    schema_version: str
    routes: dict[str, RouteSpec]
    store_and_forward: StoreAndForward


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
    return in_modern_form({kind.value: content[kind.value] for kind in Kind if kind.value in content})


def in_modern_form(content: Json) -> Json:
    """A content whose `moduleContent` names modules, as older manifests of edge deployments do, with `modulesContent` instead.

    The CLI reads it so too (contract/hub.md §3.1). In a configuration of one module's twin, `moduleContent` names paths
    (`properties.desired…`); that stays, and so does what has both, which is refused.
    """
    if not isinstance(content, dict) or content.get(Kind.EDGE.value) is not None:
        return content
    modules = content.get(Kind.MODULE.value)
    if not isinstance(modules, dict) or not modules:
        return content
    if any(name.startswith(_DESIRED) or not isinstance(paths, dict) for name, paths in modules.items()):
        return content
    others = {name: value for name, value in content.items() if name not in {Kind.EDGE.value, Kind.MODULE.value}}
    return {**others, Kind.EDGE.value: modules}


def kind_of(content: JsonObject) -> Kind:
    """The kind of a content that passed `content_problems`."""
    return next((kind for kind in Kind if content.get(kind.value) is not None), Kind.EDGE)


def by_module(content: JsonObject) -> JsonObject:
    """What a content sets, as paths and values by module; of a device's own twin under `DEVICE`, of one module under `MODULE`."""
    kind = kind_of(content)
    match kind:
        case Kind.EDGE:
            found: JsonObject = content.get(kind.value, {})
            return found
        case Kind.DEVICE:
            return {DEVICE: content[kind.value]}
        case Kind.MODULE:
            return {MODULE: content[kind.value]}


def is_layered(content: Json) -> bool:
    """Whether an edge content lies over a base instead of being one: `$edgeAgent` has no key `properties.desired`."""
    if isinstance(content, dict) and kind_of(content) is not Kind.EDGE:
        return False
    modules = content.get(Kind.EDGE.value) if isinstance(content, dict) else None
    agent = modules.get(_AGENT) if isinstance(modules, dict) else None
    return not isinstance(agent, dict) or _DESIRED not in agent


def read_agent(section: JsonObject) -> AgentDesired:
    """Read the desired properties of `$edgeAgent`, which must have passed `section_problems`."""
    registries = section["runtime"]["settings"].get("registryCredentials", {})
    return AgentDesired(
        section["schemaVersion"],
        {
            name: Registry(registry["address"], registry["username"], registry["password"])
            for name, registry in registries.items()
        },
        {name: _system_module(name, spec) for name, spec in section["systemModules"].items()},
        {name: _module(spec) for name, spec in section["modules"].items()},
    )


def read_hub(section: JsonObject) -> HubDesired:
    """Read the desired properties of `$edgeHub`, which must have passed `section_problems`."""
    forwarding = section.get("storeAndForwardConfiguration", {})
    return HubDesired(
        section["schemaVersion"],
        {name: _route(route) for name, route in section["routes"].items()},
        StoreAndForward(**_renamed(forwarding, {"timeToLiveSecs": "time_to_live_seconds"})),
    )


def desired_status(sections: Mapping[str, JsonObject]) -> dict[str, str]:
    """Module id → `running` or `stopped`, by the merged `$edgeAgent` section.

    The system modules stand as `$edgeAgent`, always running, and `$edgeHub`: a user's module may be called edgeHub.
    What has no readable status is left out.
    """
    agent = sections.get(_AGENT, {})
    system, modules = agent.get("systemModules"), agent.get("modules")
    specs: dict[str, Json] = dict(modules) if isinstance(modules, dict) else {}
    if isinstance(system, dict):
        specs |= {f"${name}": spec for name, spec in system.items() if name in ("edgeAgent", "edgeHub")}
    found = {name: spec.get("status") for name, spec in specs.items() if isinstance(spec, dict)}
    if _AGENT in found:
        found[_AGENT] = "running"
    return {name: status for name, status in found.items() if status in _STATUSES}


def _system_module(name: str, spec: JsonObject) -> ModuleSpec:
    module = _module({"restartPolicy": "always", **spec})
    # Whatever the manifest says, the agent keeps itself (contract/edge.md §1.1).
    return msgspec.structs.replace(module, startup_order=0) if name == "edgeAgent" else module


def _module(spec: JsonObject) -> ModuleSpec:
    names = {
        "type": "type",
        "status": "status",
        "restartPolicy": "restart_policy",
        "imagePullPolicy": "image_pull_policy",
        "startupOrder": "startup_order",
        "version": "version",
    }
    return ModuleSpec(
        image=image.normalize(spec["settings"]["image"]),
        create_options=create_options.join(spec["settings"]),
        env={name: variable["value"] for name, variable in spec.get("env", {}).items()},
        **_renamed(spec, names),
    )


def _route(route: str | JsonObject) -> RouteSpec:
    if isinstance(route, str):
        return RouteSpec(route)
    return RouteSpec(
        **_renamed(route, {"route": "route", "priority": "priority", "timeToLiveSecs": "time_to_live_seconds"})
    )


def _renamed(members: JsonObject, names: Mapping[str, str]) -> dict[str, Any]:
    return {names[name]: value for name, value in members.items() if name in names}
