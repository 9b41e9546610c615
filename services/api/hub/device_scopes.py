"""The scope calls of edgeHub: the devices below a gateway, with the keys that authenticate them (contract/device.md §2)."""

from typing import Annotated
from urllib.parse import quote

import msgspec
from fastapi import Query, Request
from pydantic import Field

from events.device.errors import ModuleNotFound
from events.device.hierarchy import LAYERS_MAX, device_of_scope, own_scope
from events.device.state import DeviceDocument
from events.log.device_documents import load_device, load_devices, registered_device
from events.projection_store.query_engine import PAGE_DEFAULT, PAGE_MAX
from events.query import tree
from services.api.context.api_context import ApiContext
from services.api.context.request import context_of
from services.api.http.access import REGISTRY_READ, Access
from services.api.http.body_examples import example
from services.api.http.errors import BodyInvalid, OutOfDeviceScope
from services.api.http.json_answer import AnswerBody
from services.api.http.path_names import DeviceId
from services.api.hub.bodies import HubBody
from services.api.hub.identities import DeviceIdentityAnswer, ModuleIdentityAnswer, device_identities, module_identities
from services.api.hub.router import hub_router

# Closed to tokens with a scope: the answers hold keys of devices below, which may be outside of the scope (decision 0038).
_EDGE_HUB = Access(REGISTRY_READ, own="$edgeHub")
router = hub_router(read=_EDGE_HUB, write=_EDGE_HUB)
_OF_EDGE_HUB = "/devices/{device_id}/modules/$edgeHub"
_GET_VERSION = "2018-08-30-preview"


class DeviceScopeResult(AnswerBody):
    """Identities that a gateway authenticates, and the continuation of the next page; `null` on the last page."""

    devices: list[DeviceIdentityAnswer]
    modules: list[ModuleIdentityAnswer]
    continuation_link: str | None


class TargetScopeBody(HubBody):
    """The device whose scope edgeHub requests (the first of `authChain`), and the page."""

    model_config = example({"pageSize": 100, "continuationLink": None, "authChain": "edge-1"})

    page_size: Annotated[int, Field(ge=0, le=1000)] = 100
    continuation_link: str | None = None
    auth_chain: str


class IdentityOnBehalfBody(HubBody):
    """The identity that edgeHub requests."""

    model_config = example({"targetDeviceId": "edge-1", "targetModuleId": None, "authChain": "edge-1"})

    target_device_id: str
    target_module_id: str | None = None


@router.post(f"{_OF_EDGE_HUB}/devicesAndModulesInTargetDeviceScope")
def list_target_scope(request: Request, device_id: DeviceId, body: TargetScopeBody) -> DeviceScopeResult:
    """A page of the children of the first device of `authChain`, and on the first page that device itself.

    It is the device of the path, or below it.
    """
    # The first device of a chain such as `leaf;edge-2;edge-1` or `edge-2/$edgeHub;edge-2;edge-1`. The rest of it is not
    # trusted: parents are looked up in the log (`_document_below`).
    first = body.auth_chain.partition(";")[0].partition("/")[0].strip()
    if not first:
        raise BodyInvalid("authChain must begin with a device id, as in edge-2;edge-1")
    return _page(request, device_id, first, body.page_size, body.continuation_link)


@router.get(f"{_OF_EDGE_HUB}/devicesAndModulesInDeviceScope")
def list_scope(
    request: Request,
    device_id: DeviceId,
    count: Annotated[int, Query(alias="deviceCount", ge=0, le=PAGE_MAX)] = PAGE_DEFAULT,
    continuation: Annotated[str, Query(alias="continuationToken")] = "",
) -> DeviceScopeResult:
    """A page of the device's children, and on the first page the device itself. `continuationLink` is the next page's path."""
    result = _page(request, device_id, device_id, count, continuation)
    if result.continuation_link is None:
        return result
    path = f"/devices/{quote(device_id, safe='')}/modules/%24edgeHub/devicesAndModulesInDeviceScope"
    token = quote(result.continuation_link, safe="")
    link = f"{path}?deviceCount={count}&continuationToken={token}&api-version={_GET_VERSION}"
    return msgspec.structs.replace(result, continuation_link=link)


@router.post(f"{_OF_EDGE_HUB}/getDeviceAndModuleOnBehalfOf")
def get_on_behalf(request: Request, device_id: DeviceId, body: IdentityOnBehalfBody) -> DeviceScopeResult:
    """A device below this one. With `targetModuleId` also that module of it."""
    return _identity(request, device_id, body.target_device_id, body.target_module_id)


@router.get(f"{_OF_EDGE_HUB}/deviceAndModuleInDeviceScope")
def get_in_scope(
    request: Request,
    device_id: DeviceId,
    target_device_id: Annotated[str, Query(alias="targetDeviceId", examples=["edge-1"])],
    target_module_id: Annotated[str, Query(alias="targetModuleId")] = "",
) -> DeviceScopeResult:
    """A device below this one. With `targetModuleId` also that module of it."""
    return _identity(request, device_id, target_device_id, target_module_id)


def _identity(request: Request, actor: str, device_id: str, module_id: str | None) -> DeviceScopeResult:
    context = context_of(request)
    document = _document_below(context, actor, device_id)
    if module_id and module_id not in context.twins.module_ids(device_id):
        raise ModuleNotFound(device_id, module_id)
    devices = device_identities(request, {device_id: document})
    modules = module_identities(request, device_id, document, [module_id] if module_id else [])
    return DeviceScopeResult(devices, modules, None)


def _page(request: Request, actor: str, target: str, size: int, continuation: str | None) -> DeviceScopeResult:
    context = context_of(request)
    gateway = _document_below(context, actor, target)
    if not gateway.edge:
        raise OutOfDeviceScope(actor, target)
    scope = own_scope(target, gateway)
    query = tree.Query(select=(tree.Projection(("deviceId",)),), where=tree.Contains(("parentScopes",), scope))
    position = context.continuations.open(continuation or None)
    page = context.query_engine.page(query, size=size or PAGE_DEFAULT, continuation=position)
    names = [row["deviceId"] for row in page.rows]
    # Projections lag behind the log: a device that has moved to another parent is still in this page.
    documents = {
        name: document for name, document in load_devices(context.log, names).items() if document.parent_scope == scope
    }
    if position is None:
        documents = {target: gateway, **documents}
    devices, modules = device_identities(request, documents), list[ModuleIdentityAnswer]()
    for name, document in documents.items():
        modules += module_identities(request, name, document, context.twins.module_ids(name))
    link = None if page.continuation is None else context.continuations.seal(page.continuation)
    return DeviceScopeResult(devices, modules, link)


def _document_below(context: ApiContext, actor: str, device_id: str) -> DeviceDocument:
    """The document of a device that is the actor itself, or below it.

    Raises:
        DeviceNotFound: the device id is unknown.
        OutOfDeviceScope: the device is not below the actor.
    """
    document = requested = load_device(context.log, device_id)
    name = device_id
    # Bounded, because two writes at the same time can make a circle of parents (decision 0038). Two more than the layers:
    # the leaf device below them, and the edge device above.
    for _ in range(LAYERS_MAX + 2):
        if name == actor:
            return requested
        above = device_of_scope(document.parent_scope)
        gateway = None if above is None else registered_device(context.log, above)
        # A gateway that was deleted and registered again has another scope: its former children are not its own.
        if above is None or gateway is None or own_scope(above, gateway) != document.parent_scope:
            break
        name, document = above, gateway
    raise OutOfDeviceScope(actor, device_id)
