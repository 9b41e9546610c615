"""What the update service's paths have in common: pages, operations, and the answers about updates."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Query, Request

from events.canonical import Json, JsonObject
from events.log.keys import partition_of
from events.projection_store.groups import DEFAULT_CLASS, DeployedUpdate, GroupProjection, class_of
from events.rollout.sets import FleetSet
from events.update.names import UpdateId
from events.update.state import UpdateDocument
from services.api.context.pages import continuation_at, location_of
from services.api.context.request import context_of
from services.api.http.access import REGISTRY_READ, REGISTRY_WRITE, Access
from services.api.http.errors import BodyInvalid, NotFound
from services.api.http.request_costs import CONTENT
from services.api.http.router import DeclaringRouter

PREFIX = "/deviceUpdate"
PAGE = 100
CLASSES_DERIVED = "device classes are derived from the compatibility of updates, and cannot be changed"


def device_update_router(below: str = "") -> DeclaringRouter:
    """A router for paths below those of one instance of the service."""
    # Closed to scoped tokens: no condition tells whose group it is (docs/decisions/0024).
    read, write = Access(REGISTRY_READ, at=False), Access(REGISTRY_WRITE, at=False, cost=CONTENT)
    return DeclaringRouter(read=read, write=write, prefix=below)


Filter = Annotated[str | None, Query(alias="filter")]
OrderBy = Annotated[str | None, Query(alias="orderby")]


def list_page(request: Request, items: Sequence[Any], answer: Callable[[Any], Json] = lambda item: item) -> JsonObject:
    """A page of a list. Its link counts the items before it: if the list changes meanwhile, an item can appear twice."""
    start = _after(request)[1] + 1
    end = start + PAGE
    next_link = None if end >= len(items) else _link(request, (0, end - 1))
    return present(value=[answer(item) for item in items[start:end]], nextLink=next_link)


def device_page(
    request: Request, groups: GroupProjection, members: FleetSet, answer: Callable[[str, tuple[int, int]], JsonObject]
) -> JsonObject:
    """A page of devices. A device that is in the set throughout is on exactly one page."""
    names, location = groups.page(members, after=_after(request), limit=PAGE)
    next_link = None if location is None else _link(request, location)
    return present(value=[answer(name, where) for name, where in names], nextLink=next_link)


def _after(request: Request) -> tuple[int, int]:
    return location_of(context_of(request).continuations.open(request.query_params.get("after")))


def _link(request: Request, location: tuple[int, int]) -> str:
    sealed = continuation_at(context_of(request), location)
    return f"{request.scope['path']}?{urlencode({**request.query_params, 'after': sealed})}"


def device_location(request: Request, device_id: str) -> tuple[int, int] | None:
    """The partition and ordinal of a device; `None` if it is not in the projections."""
    context = context_of(request)
    assignment = context.fleet_projection.assignment(device_id)
    return None if assignment is None else (partition_of(device_id, context.log.partitions), assignment.ordinal)


def condition_of(groups: GroupProjection, device_class: str) -> str:
    """The condition of a device class.

    Raises:
        NotFound: there is no such class.
    """
    if device_class not in groups.classes:
        raise NotFound(f"there is no device class {device_class[:80]!r}")
    return groups.classes[device_class]


def read_update_id(body: Json, location: str) -> UpdateId:
    """The `updateId` of a body.

    Raises:
        BodyInvalid: it is missing or incomplete; names its `location`.
    """
    match body:
        case {"updateId": {"provider": str(provider), "name": str(name), "version": str(version)}}:
            return UpdateId(provider, name, version)
        case _:
            raise BodyInvalid(f"{location} requires provider, name and version")


def info_of(document: UpdateDocument) -> JsonObject:
    """An update as other answers mention it."""
    return {"updateId": document.update, "description": document.description, "friendlyName": document.friendly_name}


def update_info(update: UpdateId, groups: GroupProjection) -> JsonObject:
    """An update as other answers mention it; a deleted update has no description."""
    document = groups.updates.get(update)
    return {"updateId": update} if document is None else info_of(document)


def class_of_update(deployed: DeployedUpdate, groups: GroupProjection) -> str:
    """The device class of a deployment's update; the default class if the update was deleted."""
    document = groups.updates.get(deployed.deployment.update)
    return DEFAULT_CLASS if document is None else class_of(document.condition)


def present(**members: Json) -> JsonObject:
    """An answer without the members that are `None`."""
    # The service omits members that do not apply, and its clients expect that.
    return {name: value for name, value in members.items() if value is not None}


# -- filters and orders: the part of OData that the service documents


# OData doubles a quote within a text.
_CLAUSE = re.compile(r"\s*([A-Za-z/]+)\s+eq\s+('(?:[^']|'')*'|null|true|false)\s*", re.IGNORECASE)
_LITERALS = {"null": None, "true": True, "false": False}
_AND = re.compile(r"\band\b", re.IGNORECASE)


def read_filter(text: str | None, names: Collection[str]) -> dict[str, Json]:
    """The required value of each property in a filter as `groupId eq 'a' and deploymentStatus eq null`; empty without a filter.

    Raises:
        BodyInvalid: the filter has another form, or another property than `names`.
    """
    selection: dict[str, Json] = {}
    properties = {name.lower(): name for name in names}
    remaining = (text or "").strip()
    while remaining:
        clause = _CLAUSE.match(remaining)
        name = None if clause is None else properties.get(clause[1].lower())
        if clause is None or name is None or name in selection:
            raise _unsupported(text, names)
        literal = clause[2]
        selection[name] = _LITERALS.get(literal.lower(), literal[1:-1].replace("''", "'"))
        remaining = remaining[clause.end() :]
        if remaining:
            joint = _AND.match(remaining)
            remaining = "" if joint is None else remaining[joint.end() :]
            if not remaining.strip():
                raise _unsupported(text, names)
    return selection


def read_order(text: str | None, names: Mapping[str, str]) -> tuple[str, bool] | None:
    """The member to order by in an order as `deviceCount desc`, and whether the largest is first; `None` without an order.

    Raises:
        BodyInvalid: the list cannot be ordered by that.
    """
    words = (text or "").split()
    if not words:
        return None
    members = {name.lower(): member for name, member in names.items()}
    direction = [word.lower() for word in words[1:]]
    if words[0].lower() not in members or direction not in ([], ["asc"], ["desc"]):
        raise BodyInvalid(f"orderby is one of {', '.join(names)}, with asc or desc, not {text!r}")
    return members[words[0].lower()], direction == ["desc"]


def _unsupported(text: str | None, names: Collection[str]) -> BodyInvalid:
    form = " and ".join(f"{name} eq ..." for name in names)
    return BodyInvalid(f"this filter is not supported: {(text or '')[:200]!r}; supported is {form}")
