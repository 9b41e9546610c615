"""Rules about routes: the edge hub accepts them, and messages reach a destination."""

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


@rule("route-syntax", Severity.ERROR, source=_CONTRACT)
def route_syntax(subject: ReadinessSubject) -> Iterator[Hit]:
    """Every route is valid.

    The edge hub rejects its whole configuration if it cannot read one route.
    Remedy: Write FROM source [WHERE condition] INTO $upstream, or INTO BrokeredEndpoint("/modules/m/inputs/i").
    """
    for route in subject.routes:
        if not isinstance(route.parsed, Route):
            message = f"route {shown(route.path[-1])}: {refusal(route.parsed)}"
            yield subject.hit(message, HUB, route.path)


@rule("route-object-needs-1.1", Severity.ERROR, source=_CONTRACT)
def route_object_schema(subject: ReadinessSubject) -> Iterator[Hit]:
    """Routes with a priority have schema version 1.1.

    With schema version 1.0, the edge hub accepts only text as a route.
    Remedy: Set schemaVersion of $edgeHub to 1.1.
    """
    if hub_schema.minor_of(subject.hub.get("schemaVersion")) == 0:
        for route in subject.routes:
            if isinstance(route.value, dict):
                message = f"route {shown(route.path[-1])} is an object, which needs schema version 1.1"
                yield subject.hit(message, HUB, route.path)


@rule("route-priority-range", Severity.ERROR, source=_CONTRACT)
def route_priority_range(subject: ReadinessSubject) -> Iterator[Hit]:
    """Route priorities are from 0 to 9.

    The edge hub rejects its whole configuration if one priority is out of range.
    Remedy: Use 0 for the first messages to 9 for the last. Routes without a priority come after all others.
    """
    for route in subject.routes:
        priority = route.value.get("priority") if isinstance(route.value, dict) else None
        if isinstance(priority, int) and not 0 <= priority <= hub_schema.PRIORITY_MAX:
            message = f"route {shown(route.path[-1])} has the priority {shown(priority)}, which is not from 0 to {hub_schema.PRIORITY_MAX}"
            yield subject.hit(message, HUB, (*route.path, "priority"))


@rule("route-unknown-module", Severity.WARNING, Inspects.WHOLE, source=_CONTRACT)
def route_unknown_module(subject: ReadinessSubject) -> Iterator[Hit]:
    """Routes name existing modules.

    The edge hub does not check that a module exists. A route with an unknown module carries no messages or loses them.
    Remedy: Correct the name, or add the module.
    """
    module_names = {module.name.lower() for module in subject.user_modules}
    module_names |= {"edgehub", "edgeagent", "$edgehub", "$edgeagent"}
    for route in subject.routes:
        for name in dict.fromkeys(_named(route.parsed)) if isinstance(route.parsed, Route) else ():
            if name.lower() not in module_names:
                text = f"names {shown(name)}, which is not a module of this configuration"
                yield subject.hit(f"route {shown(route.path[-1])} {text}", HUB, route.path, detail=name)


@rule("route-wildcard-middle", Severity.WARNING, source=_CONTRACT)
def route_wildcard_middle(subject: ReadinessSubject) -> Iterator[Hit]:
    """Wildcards are at the end of a source.

    Anywhere else the edge hub reads * as a plain character, and no message matches.
    Remedy: Write /messages/modules/m/*, or name the output.
    """
    for route in subject.routes:
        if isinstance(route.parsed, Route) and "*" in route.parsed.source:
            message = f"route {shown(route.path[-1])} has a * in the middle of {shown(route.parsed.source)}"
            yield subject.hit(message, HUB, route.path)


@rule("module-not-routed", Severity.INFO, Inspects.WHOLE, source="contract/edge.md §4.2")
def module_not_routed(subject: ReadinessSubject) -> Iterator[Hit]:
    """Every module has a route.

    Messages of a module are dropped unless a route forwards them.
    Remedy: Add a route from the module, or ignore this if it sends no messages.
    """
    parsed = [route.parsed for route in subject.routes if isinstance(route.parsed, Route)]
    # A route that cannot be parsed may be the one for a module.
    if len(parsed) < len(subject.routes) or agent_schema.minor_of(subject.agent.get("schemaVersion")) is None:
        return
    for module in subject.user_modules:
        own = f"{_MODULES}{module.name}/".lower()
        is_source = any(
            own.startswith(route.source.lower()) or route.source.lower().startswith(own) for route in parsed
        )
        is_endpoint = any(_endpoint_module(route).lower() == module.name.lower() for route in parsed)
        if not is_source and not is_endpoint:
            yield subject.module_hit(module, f"no route forwards messages from or to {module.name}")


def _named(route: Route) -> Iterator[str]:
    source = route.source
    if source.lower().startswith(_MODULES) and len(source) > len(_MODULES):
        name, slash, _ = source[len(_MODULES) :].partition("/")
        # A source is a prefix: without a slash after it, the name may be the start of several names.
        if slash and "*" not in name:
            yield name
    if endpoint_module := _endpoint_module(route):
        yield endpoint_module


def _endpoint_module(route: Route) -> str:
    # `modules/{module}/inputs/{input}`: the parser has checked that an endpoint has these four parts.
    return "" if route.endpoint is None else route.endpoint.removeprefix("/").removesuffix("/").split("/")[1]
