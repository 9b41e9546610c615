"""Identities of devices and modules, their keys, and counts of them (contract/hub.md §1.1, §1.5)."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Body, Depends, Request, Response

from events.canonical import JsonObject
from events.device.commands import (
    CreateModule,
    DeleteModule,
    RetireDevice,
    UpdateModule,
)
from events.device.errors import EtagMismatch, ModuleNotFound
from events.device.etags import matches, twin_etag
from events.device.identifiers import SYSTEM_MODULES, module_subject
from events.device.state import CONFIGURED_IDENTITY, DeviceDocument, decode_device
from events.log.device_documents import registered_device
from services.api.context.api_context import Room
from services.api.context.devices import device_document
from services.api.context.request import author_of, caller_of, room_of
from services.api.http.access import REGISTRY_READ, REGISTRY_WRITE, Access
from services.api.http.errors import EtagMissing, ModulesOutOfReach
from services.api.http.json_answer import JsonAnswer
from services.api.http.openapi import ETAG, answers
from services.api.http.path_names import DeviceId, ModuleId
from services.api.http.request_costs import LONG, MANY_DEVICES
from services.api.hub import described, shapes
from services.api.hub.bodies import BulkBody, DeviceBody, ModuleBody
from services.api.hub.keys import (
    as_identity_service_reads,
    authentication_of,
    of_system_module,
    shown,
    without_present_keys,
)
from services.api.hub.registry import identity_command, in_bulk
from services.api.hub.router import IDENTITY_SERVICE_VERSION, IfMatch, IfMatchToDelete, hub_router


def modules_in_reach(request: Request, device_id: DeviceId) -> None:
    """Turn away a policy's signature from the modules of a device that is missing or disabled (contract/hub.md §1.5).

    Raises:
        ModulesOutOfReach: it is. Everybody else gets what the operation itself says of such a device.
    """
    if caller_of(request).policy is None:
        return
    document = registered_device(room_of(request).log, device_id)
    if document is None or not document.enabled:
        raise ModulesOutOfReach(device_id)


router = hub_router()


BULK_MAX = 100

LISTED_MAX = 1000

_BULK = [{"id": "edge-3", "importMode": "create", "capabilities": {"iotEdge": True}, "tags": {"site": "north"}}]


@router.get("/devices", response_model=None, responses=answers(list[described.DeviceIdentity]))
@Access(REGISTRY_READ, scope="handler", cost=LONG)
def list_devices(request: Request, top: int = LISTED_MAX) -> list[JsonObject]:
    """Identities of devices that the workers know, at most `top`; outside 1 to 1,000 it counts as 1,000."""
    room, caller = room_of(request), caller_of(request)
    limit = top if 1 <= top <= LISTED_MAX else LISTED_MAX
    names, _ = room.view.devices(limit=limit, within=room.within(caller))
    found = zip(names, room.log.load(names), strict=True)
    documents = [(name, decode_device(one.snapshot)) for name, one in found if one.snapshot is not None]
    standing = [(name, document) for name, document in documents if not document.retired]
    if caller.scope is not None:
        standing = [(name, document) for name, document in standing if caller.scope.holds(name, document)]
    keys = shown(request, {name: document.authentication for name, document in standing})
    return [shapes.device_identity(name, document, one) for (name, document), one in zip(standing, keys, strict=True)]


@router.get("/statistics/devices", response_model=None, responses=answers(described.DeviceStatistics))
@Access(REGISTRY_READ, scope="handler", at=True)
def count_devices(request: Request) -> JsonObject:
    """How many devices there are, and how many of them are enabled."""
    room = room_of(request)
    total, enabled = room.view.totals(within=room.within(caller_of(request)))
    return {"totalDeviceCount": total, "enabledDeviceCount": enabled, "disabledDeviceCount": total - enabled}


@router.get("/statistics/service", response_model=None, responses=answers(described.ServiceStatistics))
@Access(REGISTRY_READ, scope="handler")
def count_connected() -> JsonObject:
    """How many devices are connected: none, as long as none can."""
    return {"connectedDeviceCount": 0}


@router.post(
    "/devices",
    responses={
        400: {
            "type": described.BulkResult | described.HubErrorAnswer,
            "description": "Some of it was refused, or all as the request breaks a rule.",
        },
    },
)
@Access(REGISTRY_WRITE, scope="handler", cost=MANY_DEVICES)
def change_many(
    request: Request, body: Annotated[list[BulkBody], Body(max_length=BULK_MAX, examples=[_BULK])]
) -> JsonAnswer[described.BulkResult]:
    """Change up to 100 identities and twins; 400 with the same body where some were refused."""
    errors = in_bulk(room_of(request), body, author_of(request))
    return JsonAnswer(described.BulkResult(not errors, errors, warnings=[]), 400 if errors else 200)


@router.get("/devices/{device_id}", response_model=None, responses=answers(described.DeviceIdentity, headers=ETAG))
@Access(REGISTRY_READ, scope="device")
def get_device(request: Request, response: Response, device_id: DeviceId) -> JsonObject:
    """A device's identity, with its keys."""
    return _identity(request, response, device_id)


@router.put("/devices/{device_id}", response_model=None, responses=answers(described.DeviceIdentity, headers=ETAG))
@Access(REGISTRY_WRITE, scope="new device")
def put_device(
    request: Request, response: Response, device_id: DeviceId, body: DeviceBody, if_match: IfMatch = None
) -> JsonObject:
    """Register a device, or with If-Match update it. Without keys, new ones are made."""
    room = room_of(request)
    (command,) = without_present_keys(room, [identity_command(device_id, body, if_match)])
    room.do(command, author_of(request))
    return _identity(request, response, device_id)


@router.delete("/devices/{device_id}", status_code=204)
@Access(REGISTRY_WRITE, scope="device")
def delete_device(request: Request, device_id: DeviceId, if_match: IfMatchToDelete = None) -> None:
    """Let a device go."""
    if if_match is None:
        raise EtagMissing
    room_of(request).do(RetireDevice(device_id, if_match), author_of(request))


@router.get(
    "/devices/{device_id}/modules",
    response_model=None,
    responses=answers(list[described.ModuleIdentity]),
    dependencies=[Depends(modules_in_reach)],
)
@Access(REGISTRY_READ, own=True, scope="device")
def list_modules(request: Request, device_id: DeviceId) -> list[JsonObject]:
    """The identities of a device's modules, with their keys."""
    room = room_of(request)
    document = device_document(room, device_id)
    return module_identities(request, device_id, document, room.twins.module_ids(device_id))


@router.get(
    "/devices/{device_id}/modules/{module_id}",
    response_model=None,
    responses=answers(described.ModuleIdentity, headers=ETAG),
    dependencies=[Depends(modules_in_reach)],
)
@Access(REGISTRY_READ, own=True, scope="device")
def get_module(request: Request, response: Response, device_id: DeviceId, module_id: ModuleId) -> JsonObject:
    """A module's identity, with its keys."""
    room = room_of(request)
    document = device_document(room, device_id)
    if module_id not in room.twins.module_ids(device_id):
        raise ModuleNotFound(device_id, module_id)
    (identity,) = module_identities(request, device_id, document, [module_id])
    response.headers["ETag"] = f'"{identity["etag"]}"'
    return identity


@router.put(
    "/devices/{device_id}/modules/{module_id}",
    response_model=None,
    responses=answers(described.ModuleIdentity, headers=ETAG),
    dependencies=[Depends(modules_in_reach)],
)
@Access(REGISTRY_WRITE, own=True, scope="device")
def put_module(
    request: Request,
    response: Response,
    device_id: DeviceId,
    module_id: ModuleId,
    *,
    body: ModuleBody,
    if_match: IfMatch = None,
) -> JsonObject:
    """Make a module by hand, or with If-Match make it exactly this."""
    room, authentication = room_of(request), authentication_of(body.authentication, module=True)
    command: CreateModule | UpdateModule
    if if_match is None or _is_only_configured(room, device_id, module_id, if_match):
        command = CreateModule(device_id, module_id, body.managed_by, authentication)
    else:
        command = UpdateModule(device_id, module_id, body.managed_by, authentication, if_match)
    (change,) = without_present_keys(room, [command])
    room.do(change, author_of(request))
    return get_module(request, response, device_id, module_id)


def _is_only_configured(room: Room, device_id: str, module_id: str, if_match: str) -> bool:
    """Whether a module's identity follows from a configuration alone: an update makes it one by hand, with its keys.

    Raises:
        DeviceNotFound: the device is not registered.
        EtagMismatch: it does, and its etag is another.
    """
    document = device_document(room, device_id)
    if module_id in {*document.modules, *SYSTEM_MODULES} or module_id not in room.twins.module_ids(device_id):
        return False
    if not matches(if_match, CONFIGURED_IDENTITY.etag):
        subject = module_subject(device_id, module_id)
        raise EtagMismatch(subject, expected=if_match, actual=twin_etag(CONFIGURED_IDENTITY.etag))
    return True


@router.delete("/devices/{device_id}/modules/{module_id}", status_code=204, dependencies=[Depends(modules_in_reach)])
@Access(REGISTRY_WRITE, own=True, scope="device")
def delete_module(request: Request, device_id: DeviceId, module_id: ModuleId, if_match: IfMatchToDelete = None) -> None:
    """Remove a module made by hand."""
    if if_match is None:
        raise EtagMissing
    room_of(request).do(DeleteModule(device_id, module_id, if_match), author_of(request))


def _identity(request: Request, response: Response, device_id: str) -> JsonObject:
    document = device_document(room_of(request), device_id)
    identity = shapes.device_identity(device_id, document, shown(request, {device_id: document.authentication})[0])
    response.headers["ETag"] = f'"{identity["etag"]}"'
    return identity


def module_identities(
    request: Request, device_id: str, document: DeviceDocument, names: Sequence[str]
) -> list[JsonObject]:
    """The identities of some modules of a device, with their keys; that these are read is noted before."""
    by_hand = [name for name in names if name in document.modules]
    wanted = {module_subject(device_id, name): document.modules[name].authentication for name in by_hand}
    keys = dict(zip(by_hand, shown(request, wanted), strict=True))
    identities = [
        shapes.module_identity(device_id, name, document, keys.get(name) or of_system_module()) for name in names
    ]
    if request.query_params["api-version"] == IDENTITY_SERVICE_VERSION:
        for identity in identities:
            identity["authentication"] = as_identity_service_reads(identity["authentication"])
    return identities
