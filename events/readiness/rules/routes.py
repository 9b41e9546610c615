"""Routes: that the hub takes them, and that messages get somewhere."""

from collections.abc import Iterator

from events.manifest import agent_schema, hub_schema
from events.manifest.document import HUB
from events.manifest.problem import Severity
from events.manifest.routes import Route
from events.manifest.shape import refusal, shown
from events.readiness.finding import Hit
from events.readiness.rule import Inspects, rule
from events.readiness.subject import ReadinessSubject

_MODULES = "/messages/modules/"
_CONTRACT = "contract/edge.md §2"
_ENDPOINT_MODULE = 1


@rule(
    "route-syntax",
    "Every route follows the grammar",
    Severity.ERROR,
    reason="One route that cannot be read makes the hub refuse its whole configuration.",
    remedy='Write FROM source [WHERE condition] INTO $upstream, or INTO BrokeredEndpoint("/modules/m/inputs/i").',
    source=_CONTRACT,
)
def route_syntax(subject: ReadinessSubject) -> Iterator[Hit]:
    """A route that cannot be read."""
    for route in subject.routes:
        if not isinstance(route.parsed, Route):
            message = f"route {shown(route.path[-1])}: {refusal(route.parsed)}"
            yield subject.hit(message, module=HUB, twin=HUB, path=route.path)


@rule(
    "route-object-needs-1.1",
    "Routes with a priority stand in a configuration of version 1.1",
    Severity.ERROR,
    reason="A hub that reads schema version 1.0 takes text alone for a route, and refuses the rest.",
    remedy="Set schemaVersion of $edgeHub to 1.1.",
    source=_CONTRACT,
)
def route_object_schema(subject: ReadinessSubject) -> Iterator[Hit]:
    """A route as an object under version 1.0."""
    if hub_schema.minor_of(subject.hub.get("schemaVersion")) == 0:
        for route in subject.routes:
            if isinstance(route.value, dict):
                message = f"route {shown(route.path[-1])} is an object, which needs schema version 1.1"
                yield subject.hit(message, module=HUB, twin=HUB, path=route.path)


@rule(
    "route-priority-range",
    "Priorities of routes lie within 0 and 9",
    Severity.ERROR,
    reason="One priority outside makes the hub refuse its whole configuration.",
    remedy="Use 0 for what goes first, up to 9; leave the priority out for what goes last.",
    source=_CONTRACT,
)
def route_priority_range(subject: ReadinessSubject) -> Iterator[Hit]:
    """A priority out of bounds."""
    for route in subject.routes:
        priority = route.value.get("priority") if isinstance(route.value, dict) else None
        if isinstance(priority, int) and not 0 <= priority <= hub_schema.PRIORITY_MAX:
            message = f"route {shown(route.path[-1])} has the priority {shown(priority)}"
            yield subject.hit(message, module=HUB, twin=HUB, path=(*route.path, "priority"))


@rule(
    "route-unknown-module",
    "Routes name modules that are there",
    Severity.WARNING,
    inspects=Inspects.WHOLE,
    reason="The hub does not look whether the module exists: such a route carries nothing, or into nothing.",
    remedy="Correct the name, or add the module.",
    source=_CONTRACT,
)
def route_unknown_module(subject: ReadinessSubject) -> Iterator[Hit]:
    """A source or an endpoint of a module that is nowhere."""
    module_names = {module.name.lower() for module in subject.user_modules} | {
        "edgehub",
        "edgeagent",
        "$edgehub",
        "$edgeagent",
    }
    for route in subject.routes:
        for name in dict.fromkeys(_named(route.parsed)) if isinstance(route.parsed, Route) else ():
            if name.lower() not in module_names:
                message = f"route {shown(route.path[-1])} names {shown(name)}, which is no module here"
                yield subject.hit(message, module=HUB, twin=HUB, path=route.path, detail=name)


@rule(
    "route-wildcard-middle",
    "A wildcard stands at the end of a source",
    Severity.WARNING,
    reason="Anywhere else the hub takes * for a character, and no message comes from there.",
    remedy="Write /messages/modules/m/* or name the output.",
    source=_CONTRACT,
)
def route_wildcard_middle(subject: ReadinessSubject) -> Iterator[Hit]:
    """A * that more of the source follows."""
    for route in subject.routes:
        if isinstance(route.parsed, Route) and "*" in route.parsed.source:
            message = f"route {shown(route.path[-1])} has a * inside of {shown(route.parsed.source)}"
            yield subject.hit(message, module=HUB, twin=HUB, path=route.path)


@rule(
    "module-not-routed",
    "Every module is part of a route",
    Severity.INFO,
    inspects=Inspects.WHOLE,
    reason="What a module sends goes nowhere unless a route takes it.",
    remedy="Add a route from the module; if it sends nothing there is nothing to do.",
    source="contract/edge.md §4.2",
)
def module_not_routed(subject: ReadinessSubject) -> Iterator[Hit]:
    """A module that no route takes from or leads to."""
    parsed = [route.parsed for route in subject.routes if isinstance(route.parsed, Route)]
    if len(parsed) < len(subject.routes) or agent_schema.minor_of(subject.agent.get("schemaVersion")) is None:
        return
    for module in subject.user_modules:
        own = f"{_MODULES}{module.name}/".lower()
        is_source = any(
            own.startswith(route.source.lower()) or route.source.lower().startswith(own) for route in parsed
        )
        effects = any(_endpoint_module(route).lower() == module.name.lower() for route in parsed)
        if not is_source and not effects:
            yield subject.module_hit(module, f"no route takes messages of {module.name} or leads to it")


def _named(route: Route) -> Iterator[str]:
    source = route.source
    if source.lower().startswith(_MODULES) and len(source) > len(_MODULES):
        name, slash, _ = source[len(_MODULES) :].partition("/")
        # Without anything behind it the name may be the beginning of several.
        if slash and "*" not in name:
            yield name
    if endpoint_module := _endpoint_module(route):
        yield endpoint_module


def _endpoint_module(route: Route) -> str:
    if route.endpoint is None:
        return ""
    return route.endpoint.removeprefix("/").removesuffix("/").split("/")[_ENDPOINT_MODULE]
