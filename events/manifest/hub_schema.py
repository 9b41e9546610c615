"""The rules for `$edgeHub` (contract/hub.md §3.1, contract/edge.md §2), for schema versions 1.0 to 1.3."""

from collections.abc import Iterator
from functools import lru_cache

from events.canonical import JsonObject
from events.manifest import placeholders
from events.manifest.agent_schema import key_pattern, parts_of
from events.manifest.errors import RouteInvalid
from events.manifest.problem import Problem, Severity
from events.manifest.routes import parse_route
from events.manifest.shape import Checked, Fields, Integer, ListOf, NamedMembers, Shape, Text, TextOr, refusal, shown

PRIORITY_MAX = 9
_TIME_TO_LIVE_SECONDS_MAX = 2**32 - 1

_MINOR_MAX = 3


def shape(minor: int) -> Shape:
    """Return the shape of the section in a standard deployment of schema version 1.`minor`."""
    return Fields(_members(minor), ("schemaVersion", "routes"), closed=minor > 0, also=_check_forwarding)


def layer_shape() -> Shape:
    """Return the shape of what a layer can set in the section: everything that the newest version knows."""
    return Fields(_members(_MINOR_MAX), closed=True)


def minor_of(version: object) -> int | None:
    """Return the minor number of a schema version that the edge hub accepts, 1.0 to 1.3; `None` for any other."""
    parts = parts_of(version)
    return parts[1] if parts is not None and parts[0] == 1 and parts[1] <= _MINOR_MAX else None


@lru_cache(maxsize=4)
def _members(minor: int) -> dict[str, Shape]:
    closed = minor > 0
    text = Text(open_names=placeholders.variables, strict=True, also=_check_route)
    route = Fields(
        {"route": text, "priority": Integer(0, PRIORITY_MAX), "timeToLiveSecs": Integer(0, _TIME_TO_LIVE_SECONDS_MAX)},
        ("route",),
        closed=True,
    )
    members: dict[str, Shape] = {
        "schemaVersion": Text(strict=True, also=_check_version),
        "routes": NamedMembers("a route", key_pattern(minor), TextOr(text, route) if minor else text),
        "storeAndForwardConfiguration": Fields({"timeToLiveSecs": Integer()}, ("timeToLiveSecs",), closed=closed),
    }
    if minor >= 2:  # noqa: PLR2004 - the schema of 1.2 adds the broker
        members["mqttBroker"] = _broker()
    if minor == _MINOR_MAX:
        members["integrity"] = Checked()
    return members


def _broker() -> Shape:
    not_empty = Text(pattern=r"(?s:.+)")
    operation = Text(pattern="mqtt:(connect|subscribe|publish)")
    rules = ListOf(Fields({"operations": ListOf(operation), "resources": ListOf(not_empty)}, closed=True))
    authorization = Fields({"identities": ListOf(not_empty), "allow": rules, "deny": rules}, closed=True)
    topic = {"direction": Text(one_of=("in", "out")), "topic": Text(), "inPrefix": Text(), "outPrefix": Text()}
    topics = ListOf(Fields(topic, closed=True))
    bridge = Fields({"endpoint": Text(one_of=("$upstream",)), "settings": topics}, closed=True)
    return Fields({"bridges": ListOf(bridge), "authorizations": ListOf(authorization)}, closed=True)


def _check_version(version: str, path: str) -> Iterator[Problem]:
    if minor_of(version) is None:
        yield Problem(path, "schema-version", f"the hub accepts schema versions 1.0 to 1.3, not {shown(version)!r}")


def _check_route(text: str, path: str) -> Iterator[Problem]:
    try:
        parse_route(text)
    except RouteInvalid as error:
        name = path.removesuffix(".route").partition("properties.desired.routes.")[2]
        yield Problem(path, "route", f"Error parsing route {name} - {refusal(error)}")


def _check_forwarding(section: JsonObject, path: str) -> Iterator[Problem]:
    if "storeAndForwardConfiguration" not in section:
        # Optional in the schema, but the module itself rejects such a configuration (contract/edge.md §2).
        message = "without storeAndForwardConfiguration, $edgeHub rejects this configuration"
        yield Problem(path, "store-and-forward", message, Severity.WARNING)
