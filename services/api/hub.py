"""The hub's paths (contract/hub.md §1.1-1.9): identities, twins and configurations."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from events.canonical import JsonObject
from events.deployment.commands import CreateDeployment, DeleteDeployment, UpdateDeployment, Validation
from events.deployment.errors import DeploymentNotFound
from events.deployment.state import DeploymentDocument, decode, etag_text
from events.device.commands import (
    CreateModule,
    DeleteModule,
    PatchTwin,
    RegisterDevice,
    ReplaceTwin,
    RetireDevice,
    UpdateDevice,
)
from events.device.errors import DeviceNotFound, ModuleNotFound
from events.device.state import DeviceDocument, decode_device
from events.device.twin import device_twin
from events.log.port import Stored
from events.targeting.errors import ConditionInvalid
from events.targeting.parse import parse
from events.view_store.deployments import deployments
from services.api import described, shapes
from services.api.answers import JsonAnswer
from services.api.bodies import ConfigurationBody, DeviceBody, ModuleBody, TestQueriesBody, TwinBody
from services.api.described import answers, refusals
from services.api.errors import BodyInvalid, EtagMissing
from services.api.paths import DeploymentId, DeviceId, ModuleId
from services.api.room import Room
from services.api.writing import Writer

router = APIRouter(tags=["hub"], responses=refusals(described.HubErrorAnswer))

IfMatch = Annotated[str | None, Header()]
IfMatchToDelete = Annotated[str | None, Header(examples=["*"])]

_STATUSES = {"enabled": True, "disabled": False}


def _room(request: Request) -> Room:
    room: Room = request.app.state.room
    return room


# -- identities


@router.get("/devices", response_model=None, responses=answers(list[described.DeviceIdentity]))
def list_devices(request: Request, top: Annotated[int, Query(ge=1, le=1000)] = 1000) -> list[JsonObject]:
    """Identities of devices that the workers know, at most `top`."""
    room = _room(request)
    names, _ = room.view.devices(limit=top)
    found = zip(names, room.log.load(names), strict=True)
    documents = [(name, decode_device(one.snapshot)) for name, one in found if one.snapshot is not None]
    return [shapes.device_identity(name, document) for name, document in documents if not document.retired]


@router.get("/statistics/devices", response_model=None, responses=answers(described.DeviceStatistics))
def count_devices(request: Request) -> JsonObject:
    """How many devices there are, and how many of them are enabled."""
    total, enabled = _room(request).view.totals()
    return {"totalDeviceCount": total, "enabledDeviceCount": enabled, "disabledDeviceCount": total - enabled}


@router.get("/devices/{device_id}", response_model=None, responses=answers(described.DeviceIdentity))
def get_device(request: Request, response: Response, device_id: DeviceId) -> JsonObject:
    """A device's identity."""
    return _identity(_room(request), response, device_id)


@router.put("/devices/{device_id}", response_model=None, responses=answers(described.DeviceIdentity))
def put_device(
    request: Request, response: Response, device_id: DeviceId, body: DeviceBody, if_match: IfMatch = None
) -> JsonObject:
    """Register a device, or with If-Match update it."""
    room = _room(request)
    enabled = _STATUSES.get(body.status)
    if enabled is None:
        raise BodyInvalid(f"status must be enabled or disabled, not {body.status[:40]!r}")
    edge = body.capabilities.iot_edge
    if if_match is None:
        room.do(RegisterDevice(device_id, edge=edge, enabled=enabled, status_reason=body.status_reason))
    else:
        room.do(UpdateDevice(device_id, edge, enabled, body.status_reason, if_match))
    return _identity(room, response, device_id)


@router.delete("/devices/{device_id}", status_code=204)
def delete_device(request: Request, device_id: DeviceId, if_match: IfMatchToDelete = None) -> None:
    """Let a device go."""
    if if_match is None:
        raise EtagMissing
    _room(request).do(RetireDevice(device_id, if_match))


@router.get("/devices/{device_id}/modules", response_model=None, responses=answers(list[described.ModuleIdentity]))
def list_modules(request: Request, device_id: DeviceId) -> list[JsonObject]:
    """The identities of a device's modules."""
    room = _room(request)
    document = _device(room, device_id)
    return [shapes.module_identity(device_id, name, document) for name in room.twins.module_ids(device_id)]


@router.get(
    "/devices/{device_id}/modules/{module_id}", response_model=None, responses=answers(described.ModuleIdentity)
)
def get_module(request: Request, device_id: DeviceId, module_id: ModuleId) -> JsonObject:
    """A module's identity."""
    room = _room(request)
    document = _device(room, device_id)
    if module_id not in room.twins.module_ids(device_id):
        raise ModuleNotFound(device_id, module_id)
    return shapes.module_identity(device_id, module_id, document)


@router.put(
    "/devices/{device_id}/modules/{module_id}", response_model=None, responses=answers(described.ModuleIdentity)
)
def put_module(request: Request, device_id: DeviceId, module_id: ModuleId, body: ModuleBody) -> JsonObject:
    """Make a module by hand."""
    _room(request).do(CreateModule(device_id, module_id, body.managed_by))
    return get_module(request, device_id, module_id)


@router.delete("/devices/{device_id}/modules/{module_id}", status_code=204)
def delete_module(request: Request, device_id: DeviceId, module_id: ModuleId, if_match: IfMatchToDelete = None) -> None:
    """Remove a module made by hand."""
    if if_match is None:
        raise EtagMissing
    _room(request).do(DeleteModule(device_id, module_id))


# -- twins


@router.get("/twins/{device_id}", response_model=None, responses=answers(described.Twin))
def get_twin(request: Request, device_id: DeviceId) -> Response:
    """A device's twin."""
    twin = _room(request).twins.device(device_id)
    if twin is None:
        raise DeviceNotFound(device_id)
    return JsonAnswer(twin)


@router.patch("/twins/{device_id}", response_model=None, responses=answers(described.Twin))
async def patch_twin(request: Request, device_id: DeviceId, body: TwinBody, if_match: IfMatch = None) -> Response:
    """Merge-patch tags and desired properties; answers the whole twin."""
    desired = _written(body.properties.desired)
    return await _write_twin(request, PatchTwin(device_id, None, _written(body.tags), desired, if_match))


@router.put("/twins/{device_id}", response_model=None, responses=answers(described.Twin))
async def put_twin(request: Request, device_id: DeviceId, body: TwinBody, if_match: IfMatch = None) -> Response:
    """Make tags and desired properties exactly these."""
    tags, desired = _written(body.tags) or {}, _written(body.properties.desired) or {}
    return await _write_twin(request, ReplaceTwin(device_id, None, tags, desired, if_match))


async def _write_twin(request: Request, command: PatchTwin | ReplaceTwin) -> Response:
    writer: Writer = request.app.state.writer
    stored = await writer.do(command)
    return JsonAnswer(device_twin(command.device_id, _registered(command.device_id, stored)))


@router.get("/twins/{device_id}/modules/{module_id}", response_model=None, responses=answers(described.ModuleTwin))
def get_module_twin(request: Request, device_id: DeviceId, module_id: ModuleId) -> JsonObject:
    """A module's twin."""
    twin = _room(request).twins.module(device_id, module_id)
    if twin is None:
        raise DeviceNotFound(f"{device_id}/{module_id}")
    return twin


@router.patch("/twins/{device_id}/modules/{module_id}", response_model=None, responses=answers(described.ModuleTwin))
def patch_module_twin(
    request: Request, device_id: DeviceId, module_id: ModuleId, body: TwinBody, if_match: IfMatch = None
) -> JsonObject:
    """Merge-patch a module's desired properties."""
    get_module_twin(request, device_id, module_id)
    desired = _written(body.properties.desired)
    _room(request).do(PatchTwin(device_id, module_id, None, desired, if_match))
    return get_module_twin(request, device_id, module_id)


# -- configurations


@router.get("/configurations", response_model=None, responses=answers(list[described.Configuration]))
def list_configurations(request: Request) -> list[JsonObject]:
    """Every deployment; `top` is let pass and means nothing, as on the hub."""
    room = _room(request)
    counts = room.view.status()
    return [shapes.configuration(name, one, counts.get(name)) for name, one in deployments(room.log)]


@router.get("/configurations/{name}", response_model=None, responses=answers(described.Configuration))
def get_configuration(request: Request, response: Response, name: DeploymentId) -> JsonObject:
    """One deployment."""
    room = _room(request)
    document = deployment_of(room, name)
    response.headers["ETag"] = f'"{etag_text(document.etag)}"'
    return shapes.configuration(name, document, room.view.status(name)[name])


@router.put("/configurations/{name}", response_model=None, responses=answers(described.Configuration))
def put_configuration(
    request: Request, response: Response, name: DeploymentId, body: ConfigurationBody, if_match: IfMatch = None
) -> JsonObject:
    """Create a deployment, or with If-Match change what may change; then the content is let pass."""
    if body.content is None:
        raise BodyInvalid("content is missing")
    room, metrics = _room(request), {} if body.metrics is None else body.metrics.queries
    condition, labels = body.target_condition or "", body.labels or {}
    if if_match is None:
        room.do(
            CreateDeployment(
                name,
                body.content,
                condition,
                body.priority,
                labels,
                metrics,
                body.schema_version,
                validation=Validation.CONTENT,
            )
        )
    else:
        room.do(UpdateDeployment(name, condition, body.priority, labels, metrics, if_match))
    return get_configuration(request, response, name)


@router.delete("/configurations/{name}", status_code=204)
def delete_configuration(request: Request, name: DeploymentId, if_match: IfMatchToDelete = None) -> None:
    """Delete a deployment."""
    _room(request).do(DeleteDeployment(name, if_match))


@router.post("/configurations/testQueries", response_model=None, responses=answers(described.QueriesTried))
def try_queries(body: TestQueriesBody) -> JsonObject:
    """Whether a target condition can be read; its error is in the answer."""
    error = None
    try:
        parse(body.target_condition or "")
    except ConditionInvalid as refused:
        error = str(refused)
    return {"targetConditionError": error, "customMetricQueryErrors": {}}


def _written(section: dict[str, Any] | None) -> dict[str, Any] | None:
    """A section without what the service adds and clients send back (`$version`, `$metadata`, …)."""
    return None if section is None else {name: value for name, value in section.items() if not name.startswith("$")}


def _identity(room: Room, response: Response, device_id: str) -> JsonObject:
    identity = shapes.device_identity(device_id, _device(room, device_id))
    response.headers["ETag"] = f'"{identity["etag"]}"'
    return identity


def _device(room: Room, device_id: str) -> DeviceDocument:
    (stored,) = room.log.load([device_id])
    return _registered(device_id, stored)


def _registered(device_id: str, stored: Stored) -> DeviceDocument:
    document = None if stored.snapshot is None else decode_device(stored.snapshot)
    if document is None or document.retired:
        raise DeviceNotFound(device_id)
    return document


def deployment_of(room: Room, name: str) -> DeploymentDocument:
    """A deployment as it stands.

    Raises:
        DeploymentNotFound: it does not.
    """
    (stored,) = room.log.load([name], fleet=True)
    if stored.snapshot is None:
        raise DeploymentNotFound(name)
    return decode(stored.snapshot)
