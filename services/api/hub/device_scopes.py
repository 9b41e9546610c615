"""The scope calls of edgeHub: whom an edge device is the gateway of, with the keys to authenticate them (contract/device.md §2)."""

from collections.abc import Sequence
from typing import Annotated
from urllib.parse import quote

from fastapi import Query, Request

from events.canonical import JsonObject
from events.device.errors import DeviceNotFound, ModuleNotFound
from events.device.hierarchy import LAYERS_MAX, device_of_scope, own_scope
from events.device.state import DeviceDocument, decode_device
from events.query import tree
from events.view_store.querying import PAGE_DEFAULT, PAGE_MAX
from services.api.context.api_context import Room
from services.api.context.request import room_of
from services.api.http.access import REGISTRY_READ, Access
from services.api.http.errors import BodyInvalid, OutOfDeviceScope
from services.api.http.openapi import answers
from services.api.http.path_names import DeviceId
from services.api.hub import described, shapes
from services.api.hub.bodies import IdentityOnBehalfBody, TargetScopeBody
from services.api.hub.identities import module_identities
from services.api.hub.keys import shown
from services.api.hub.router import hub_router

# The answers hold keys of the devices below, and no scope limits them.
_EDGE_HUB = Access(REGISTRY_READ, own="$edgeHub")
router = hub_router(read=_EDGE_HUB, write=_EDGE_HUB)

_OF_EDGE_HUB = "/devices/{device_id}/modules/$edgeHub"
_GET_VERSION = "2018-08-30-preview"
_ANSWERS = answers(described.DeviceScopeResult)


@router.post(f"{_OF_EDGE_HUB}/devicesAndModulesInTargetDeviceScope", response_model=None, responses=_ANSWERS)
def list_target_scope(request: Request, device_id: DeviceId, body: TargetScopeBody) -> JsonObject:
    """A page of the children of the first device of `authChain`, which is this one or below it, and itself on the first page."""
    target = _first_of(body.auth_chain)
    return _page(request, device_id, target, body.page_size, body.continuation_link)


@router.get(f"{_OF_EDGE_HUB}/devicesAndModulesInDeviceScope", response_model=None, responses=_ANSWERS)
def list_scope(
    request: Request,
    device_id: DeviceId,
    count: Annotated[int, Query(alias="deviceCount", ge=0, le=PAGE_MAX)] = PAGE_DEFAULT,
    continuation: Annotated[str, Query(alias="continuationToken")] = "",
) -> JsonObject:
    """A page of the device's children, and itself on the first page; `continuationLink` is the address of the next page."""
    result = _page(request, device_id, device_id, count, continuation)
    if result["continuationLink"] is None:
        return result
    path = f"/devices/{quote(device_id, safe='')}/modules/%24edgeHub/devicesAndModulesInDeviceScope"
    token = quote(result["continuationLink"], safe="")
    link = f"{path}?deviceCount={count}&continuationToken={token}&api-version={_GET_VERSION}"
    return {**result, "continuationLink": link}


@router.post(f"{_OF_EDGE_HUB}/getDeviceAndModuleOnBehalfOf", response_model=None, responses=_ANSWERS)
def get_on_behalf(request: Request, device_id: DeviceId, body: IdentityOnBehalfBody) -> JsonObject:
    """One device below this one, or one of its modules and the device."""
    return _identity(request, device_id, body.target_device_id, body.target_module_id)


@router.get(f"{_OF_EDGE_HUB}/deviceAndModuleInDeviceScope", response_model=None, responses=_ANSWERS)
def get_in_scope(
    request: Request,
    device_id: DeviceId,
    target_device_id: Annotated[str, Query(alias="targetDeviceId", examples=["edge-1"])],
    target_module_id: Annotated[str, Query(alias="targetModuleId")] = "",
) -> JsonObject:
    """One device below this one, or one of its modules and the device."""
    return _identity(request, device_id, target_device_id, target_module_id)


def _first_of(auth_chain: str) -> str:
    """The device that a chain begins with: `leaf;edge-2;edge-1`, or `edge-2/$edgeHub;edge-2;edge-1`."""
    first = auth_chain.partition(";")[0].partition("/")[0].strip()
    if not first:
        raise BodyInvalid("authChain begins with the id of a device, as in edge-2;edge-1")
    return first


def _identity(request: Request, actor: str, device_id: str, module_id: str | None) -> JsonObject:
    room = room_of(request)
    document = _document_below(room, actor, device_id)
    modules: Sequence[str] = () if not module_id else (module_id,)
    if module_id and module_id not in room.twins.module_ids(device_id):
        raise ModuleNotFound(device_id, module_id)
    return _result(request, {device_id: document}, {device_id: modules}, None)


def _page(request: Request, actor: str, target: str, size: int, continuation: str | None) -> JsonObject:
    room = room_of(request)
    gateway = _document_below(room, actor, target)
    if not gateway.edge:
        raise OutOfDeviceScope(actor, target)
    scope = own_scope(target, gateway)
    query = tree.Query(select=(tree.Projection(("deviceId",)),), where=tree.Contains(("parentScopes",), scope))
    place = room.continuations.open(continuation or None)
    page = room.querying.page(query, size=size or PAGE_DEFAULT, continuation=place)
    names = [row["deviceId"] for row in page.rows]
    # Views are behind the log by a moment: who has another parent by now is not this gateway's any more.
    documents = {name: document for name, document in _documents(room, names).items() if document.parent_scope == scope}
    if place is None:
        documents = {target: gateway, **documents}
    modules = {name: room.twins.module_ids(name) for name in documents}
    link = None if page.continuation is None else room.continuations.seal(page.continuation)
    return _result(request, documents, modules, link)


def _document_below(room: Room, actor: str, device_id: str) -> DeviceDocument:
    """A device that is another, the gateway that asks, or below it.

    Raises:
        DeviceNotFound: there is none of that id.
        OutOfDeviceScope: it is somewhere else.
    """
    document = found = _documents(room, [device_id]).get(device_id)
    if found is None or document is None:
        raise DeviceNotFound(device_id)
    name = device_id
    for _ in range(LAYERS_MAX + 2):
        if name == actor:
            return found
        above = device_of_scope(document.parent_scope)
        gateway = None if above is None else _documents(room, [above]).get(above)
        if above is None or gateway is None or own_scope(above, gateway) != document.parent_scope:
            break
        name, document = above, gateway
    raise OutOfDeviceScope(actor, device_id)


def _documents(room: Room, names: Sequence[str]) -> dict[str, DeviceDocument]:
    loaded = zip(names, room.log.load(names), strict=True)
    decoded = ((name, decode_device(stored.snapshot)) for name, stored in loaded if stored.snapshot is not None)
    return {name: document for name, document in decoded if not document.retired}


def _result(
    request: Request,
    documents: dict[str, DeviceDocument],
    modules: dict[str, Sequence[str]],
    link: str | None,
) -> JsonObject:
    keys = shown(request, {name: document.authentication for name, document in documents.items()})
    devices = [
        shapes.device_identity(name, document, authentication)
        for (name, document), authentication in zip(documents.items(), keys, strict=True)
    ]
    identities = [
        identity
        for name, document in documents.items()
        for identity in module_identities(request, name, document, modules[name])
    ]
    return {"devices": devices, "modules": identities, "continuationLink": link}
