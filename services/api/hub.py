"""The hub's paths (contract/hub.md §1.1-1.9): identities, twins and configurations."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from events.canonical import JsonObject
from events.deployment.commands import CreateDeployment, DeleteDeployment, UpdateDeployment, Validation
from events.deployment.condition import check_any_condition
from events.deployment.errors import DeploymentNotFound
from events.deployment.state import DeploymentDocument, decode, etag_of
from events.device.commands import (
    CreateModule,
    DeleteModule,
    PatchTwin,
    ReplaceTwin,
    RetireDevice,
    SetConfiguration,
    UpdateModule,
)
from events.device.errors import DeviceNotFound, EtagMismatch, ModuleNotFound
from events.device.etags import matches, twin_etag
from events.device.identifiers import SYSTEM_MODULES, module_subject
from events.device.state import CONFIGURED_IDENTITY, DeviceDocument, decode_device
from events.device.twin import device_twin
from events.log.port import Stored
from events.manifest.document import Kind, in_modern_form
from events.query import tree
from events.query.errors import QueryInvalid
from events.query.parse import parse as parse_query
from events.secrets.personal import Personal
from events.targeting.errors import ConditionInvalid
from events.view_store.deployments import deployments
from events.view_store.querying import PAGE_DEFAULT, PAGE_MAX
from services.api import described, shapes
from services.api.answers import JsonAnswer
from services.api.asking import author_of, caller_of, room_of, writer_of
from services.api.bodies import (
    BulkBody,
    ConfigurationBody,
    ContentBody,
    DeviceBody,
    ModuleBody,
    QueryBody,
    TestQueriesBody,
    TwinBody,
)
from services.api.described import ETAG, PAGED, answers, refusals
from services.api.errors import BodyInvalid, ContentMissing, EtagMissing, ModulesOutOfReach
from services.api.keys import (
    as_identity_service_reads,
    authentication_of,
    of_system_module,
    shown,
    without_present_keys,
)
from services.api.paths import DeploymentId, DeviceId, ModuleId
from services.api.registry import identity_command, in_bulk, patch_of, written
from services.api.room import Room

IDENTITY_SERVICE_VERSION = "2017-11-08-preview"
"""What the IoT identity service of an edge device sends, and no other client (contract/device.md §2)."""

API_VERSIONS = (
    "2024-03-31",
    "2021-04-12",
    "2020-09-30",
    "2020-06-30-preview",
    "2020-05-31-preview",
    "2020-03-13",
    "2019-10-01",
    "2018-08-30-preview",
    "2018-06-30",
    IDENTITY_SERVICE_VERSION,
)
"""What clients send (contract/hub.md §1, §5); all of them get the same answers."""


async def known_version(
    version: Annotated[
        str, Query(alias="api-version", examples=[API_VERSIONS[0]], json_schema_extra={"enum": list(API_VERSIONS)})
    ],
) -> None:
    """Refuse a request that does not say which version of the contract it speaks, or an unknown one.

    Raises:
        BodyInvalid: names the versions.
    """
    if version not in API_VERSIONS:
        raise BodyInvalid(f"api-version is one of {', '.join(API_VERSIONS)}, not {version[:40]!r}")


def modules_in_reach(request: Request, device_id: DeviceId) -> None:
    """Turn away a policy's signature from the modules of a device that is missing or disabled (contract/hub.md §1.5).

    Raises:
        ModulesOutOfReach: it is. Everybody else gets what the operation itself says of such a device.
    """
    if caller_of(request).policy is None:
        return
    (stored,) = room_of(request).log.load([device_id])
    document = None if stored.snapshot is None else decode_device(stored.snapshot)
    if document is None or document.retired or not document.enabled:
        raise ModulesOutOfReach(device_id)


router = APIRouter(tags=["hub"], responses=refusals(described.HubErrorAnswer), dependencies=[Depends(known_version)])

IfMatch = Annotated[str | None, Header()]
IfMatchToDelete = Annotated[str | None, Header(examples=["*"])]

BULK_MAX = 100
COUNTING_SECONDS = 1.0
"""So long a list of configurations runs queries of metrics that are not kept."""

LISTED_MAX = 1000
_WAITS, _WAIT_SECONDS = 100, 0.02
_BULK = [{"id": "edge-3", "importMode": "create", "capabilities": {"iotEdge": True}, "tags": {"site": "north"}}]


# -- identities


@router.get("/devices", response_model=None, responses=answers(list[described.DeviceIdentity]))
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
def count_devices(request: Request) -> JsonObject:
    """How many devices there are, and how many of them are enabled."""
    room = room_of(request)
    total, enabled = room.view.totals(within=room.within(caller_of(request)))
    return {"totalDeviceCount": total, "enabledDeviceCount": enabled, "disabledDeviceCount": total - enabled}


@router.get("/statistics/service", response_model=None, responses=answers(described.ServiceStatistics))
def count_connected() -> JsonObject:
    """How many devices are connected: none, as long as none can."""
    return {"connectedDeviceCount": 0}


@router.post(
    "/devices",
    response_model=None,
    responses={
        **answers(described.BulkResult),
        400: {
            "model": described.BulkResult | described.HubErrorAnswer,
            "description": "Some of it was refused, or all as the request breaks a rule.",
        },
    },
)
def change_many(
    request: Request, body: Annotated[list[BulkBody], Body(max_length=BULK_MAX, examples=[_BULK])]
) -> JSONResponse:
    """Change up to 100 identities and twins; 400 with the same body where some were refused."""
    errors = in_bulk(room_of(request), body, author_of(request))
    told = {"isSuccessful": not errors, "errors": errors, "warnings": []}
    return JSONResponse(told, 400 if errors else 200)


@router.post("/devices/query", response_model=None, responses=answers(list[dict[str, Any]], headers=PAGED))
def run_query(
    request: Request,
    body: QueryBody,
    size: Annotated[int, Header(alias="x-ms-max-item-count", ge=1)] = PAGE_DEFAULT,
    continuation: Annotated[str | None, Header(alias="x-ms-continuation")] = None,
) -> Response:
    """One page of a query; `x-ms-continuation` of the answer, where there is one, asks for the next."""
    room, query = room_of(request), parse_query(body.query)
    room.vault.personal.check_query(body.query)
    place = room.continuations.open(continuation)
    page = room.querying.page(query, size=min(size, PAGE_MAX), continuation=place, scope=caller_of(request).limit)
    headers = {"x-ms-item-type": _item_type(query)}
    if page.continuation is not None:
        headers["x-ms-continuation"] = room.continuations.seal(page.continuation)
    return JsonAnswer(page.rows, headers=headers)


def _item_type(query: tree.Query) -> str:
    if query.source is tree.Source.JOBS:
        return "DeviceJob"
    return "Raw" if query.select else "Twin"


@router.get("/devices/{device_id}", response_model=None, responses=answers(described.DeviceIdentity, headers=ETAG))
def get_device(request: Request, response: Response, device_id: DeviceId) -> JsonObject:
    """A device's identity, with its keys."""
    return _identity(request, response, device_id)


@router.put("/devices/{device_id}", response_model=None, responses=answers(described.DeviceIdentity, headers=ETAG))
def put_device(
    request: Request, response: Response, device_id: DeviceId, body: DeviceBody, if_match: IfMatch = None
) -> JsonObject:
    """Register a device, or with If-Match update it. Without keys, new ones are made."""
    room = room_of(request)
    (command,) = without_present_keys(room, [identity_command(device_id, body, if_match)])
    room.do(command, author_of(request))
    return _identity(request, response, device_id)


@router.delete("/devices/{device_id}", status_code=204)
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
def list_modules(request: Request, device_id: DeviceId) -> list[JsonObject]:
    """The identities of a device's modules, with their keys."""
    room = room_of(request)
    document = _device(room, device_id)
    return module_identities(request, device_id, document, room.twins.module_ids(device_id))


@router.get(
    "/devices/{device_id}/modules/{module_id}",
    response_model=None,
    responses=answers(described.ModuleIdentity, headers=ETAG),
    dependencies=[Depends(modules_in_reach)],
)
def get_module(request: Request, response: Response, device_id: DeviceId, module_id: ModuleId) -> JsonObject:
    """A module's identity, with its keys."""
    room = room_of(request)
    document = _device(room, device_id)
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
    document = _device(room, device_id)
    if module_id in {*document.modules, *SYSTEM_MODULES} or module_id not in room.twins.module_ids(device_id):
        return False
    if not matches(if_match, CONFIGURED_IDENTITY.etag):
        subject = module_subject(device_id, module_id)
        raise EtagMismatch(subject, expected=if_match, actual=twin_etag(CONFIGURED_IDENTITY.etag))
    return True


@router.delete("/devices/{device_id}/modules/{module_id}", status_code=204, dependencies=[Depends(modules_in_reach)])
def delete_module(request: Request, device_id: DeviceId, module_id: ModuleId, if_match: IfMatchToDelete = None) -> None:
    """Remove a module made by hand."""
    if if_match is None:
        raise EtagMissing
    room_of(request).do(DeleteModule(device_id, module_id, if_match), author_of(request))


@router.post("/devices/{device_id}/applyConfigurationContent", status_code=204)
async def set_configuration(request: Request, device_id: DeviceId, body: ContentBody) -> None:
    """Set a configuration on one edge device by hand; answered when it is in force, or after some seconds."""
    room = room_of(request)
    content: JsonObject = in_modern_form(body.model_dump(by_alias=True, exclude_none=True))
    stored = await writer_of(request).do(SetConfiguration(device_id, content), author_of(request))
    version = _registered(device_id, stored).version
    for _ in range(_WAITS):
        if await run_in_threadpool(room.view.folded_version, device_id) >= version:
            return
        await asyncio.sleep(_WAIT_SECONDS)


# -- twins


@router.get("/twins/{device_id}", response_model=None, responses=answers(described.Twin))
def get_twin(request: Request, device_id: DeviceId) -> Response:
    """A device's twin."""
    twin = room_of(request).twins.device(device_id)
    if twin is None:
        raise DeviceNotFound(device_id)
    return JsonAnswer(twin)


@router.patch("/twins/{device_id}", response_model=None, responses=answers(described.Twin))
async def patch_twin(request: Request, device_id: DeviceId, body: TwinBody, if_match: IfMatch = None) -> Response:
    """Merge-patch tags and desired properties; answers the whole twin."""
    return await _write_twin(request, patch_of(device_id, None, body, if_match))


@router.put("/twins/{device_id}", response_model=None, responses=answers(described.Twin))
async def put_twin(request: Request, device_id: DeviceId, body: TwinBody, if_match: IfMatch = None) -> Response:
    """Make tags and desired properties exactly these."""
    tags, desired = written(body.tags) or {}, written(body.desired) or {}
    return await _write_twin(request, ReplaceTwin(device_id, None, tags, desired, if_match))


async def _write_twin(request: Request, command: PatchTwin | ReplaceTwin) -> Response:
    stored = await writer_of(request).do(command, author_of(request))
    document, twins = _registered(command.device_id, stored), room_of(request).twins
    if twins.is_plain(command.device_id):
        return JsonAnswer(device_twin(command.device_id, document))
    return JsonAnswer(await run_in_threadpool(twins.of, command.device_id, document))


@router.get("/twins/{device_id}/modules/{module_id}", response_model=None, responses=answers(described.ModuleTwin))
def get_module_twin(request: Request, device_id: DeviceId, module_id: ModuleId) -> JsonObject:
    """A module's twin."""
    twin = room_of(request).twins.module(device_id, module_id)
    if twin is None:
        raise DeviceNotFound(f"{device_id}/{module_id}")
    return twin


@router.put("/twins/{device_id}/modules/{module_id}", response_model=None, responses=answers(described.ModuleTwin))
def put_module_twin(
    request: Request, device_id: DeviceId, module_id: ModuleId, body: TwinBody, if_match: IfMatch = None
) -> JsonObject:
    """Make a module's tags and desired properties, those by hand, exactly these."""
    get_module_twin(request, device_id, module_id)
    tags, desired = written(body.tags) or {}, written(body.desired) or {}
    room_of(request).do(ReplaceTwin(device_id, module_id, tags, desired, if_match), author_of(request))
    return get_module_twin(request, device_id, module_id)


@router.patch("/twins/{device_id}/modules/{module_id}", response_model=None, responses=answers(described.ModuleTwin))
def patch_module_twin(
    request: Request, device_id: DeviceId, module_id: ModuleId, body: TwinBody, if_match: IfMatch = None
) -> JsonObject:
    """Merge-patch a module's tags and desired properties."""
    get_module_twin(request, device_id, module_id)
    room_of(request).do(patch_of(device_id, module_id, body, if_match), author_of(request))
    return get_module_twin(request, device_id, module_id)


# -- configurations


@router.get("/configurations", response_model=None, responses=answers(list[described.Configuration]))
def list_configurations(request: Request) -> list[JsonObject]:
    """Every deployment that the caller sees; `top` is let pass and means nothing, as on the hub."""
    room, until = room_of(request), time.monotonic() + COUNTING_SECONDS
    kept = room.view.metrics()
    seen = {name: (one, counts) for name, one, counts in deployments_seen(request)}
    twins = _twins(request, seen)
    return [
        shapes.configuration(
            name, one, twins.get(name, counts), _results(request, one, kept.get(name, {}), until=until)
        )
        for name, (one, counts) in seen.items()
    ]


def _twins(
    request: Request, seen: Mapping[str, tuple[DeploymentDocument, Counter[str] | None]]
) -> Mapping[str, Counter[str]]:
    """The counts in twins of those that are configurations of modules, as soon as workers know them."""
    names = [name for name, (one, counts) in seen.items() if one.kind is Kind.MODULE and counts is not None]
    room = room_of(request)
    return room.view.twins(*names, within=room.within(caller_of(request))) if names else {}


def _results(
    request: Request, document: DeploymentDocument, kept: Mapping[str, int], *, until: float = math.inf
) -> dict[str, int]:
    counting, scope = room_of(request).counting, caller_of(request).scope
    # What workers keep is of the whole fleet.
    return counting.results(document, kept if scope is None else {}, until=until, scope=scope)


@router.get("/configurations/{name}", response_model=None, responses=answers(described.Configuration, headers=ETAG))
def get_configuration(request: Request, response: Response, name: DeploymentId) -> JsonObject:
    """One deployment, with the number of rows of each of its custom metrics."""
    return _configuration(request, response, name)


@router.put("/configurations/{name}", response_model=None, responses=answers(described.Configuration, headers=ETAG))
def put_configuration(
    request: Request, response: Response, name: DeploymentId, body: ConfigurationBody, if_match: IfMatch = None
) -> JsonObject:
    """Create a deployment, or with If-Match change what may change; then the content is let pass."""
    if body.content is None:
        raise ContentMissing
    room, metrics = room_of(request), {} if body.metrics is None else body.metrics.queries
    by = author_of(request)
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
            ),
            by,
        )
    else:
        room.do(UpdateDeployment(name, condition, body.priority, labels, metrics, if_match), by)
    # Queries that are not kept are run for those who ask for the configuration.
    return _configuration(request, response, name, until=-math.inf)


@router.delete("/configurations/{name}", status_code=204)
def delete_configuration(request: Request, name: DeploymentId, if_match: IfMatchToDelete = None) -> None:
    """Delete a deployment."""
    room_of(request).do(DeleteDeployment(name, if_match), author_of(request))


@router.post("/configurations/testQueries", response_model=None, responses=answers(described.QueriesTried))
def try_queries(request: Request, body: TestQueriesBody) -> JsonObject:
    """Whether a target condition and queries can be read; their errors are in the answer."""
    personal, errors = room_of(request).vault.personal, {}
    for name, text in (body.custom_metric_queries or {}).items():
        try:
            parse_query(text)
            personal.check_query(text)
        except QueryInvalid as refused:
            errors[name] = str(refused)
    error = _condition_error(body.target_condition or "", personal)
    return {"targetConditionError": error, "customMetricQueryErrors": errors}


def _condition_error(text: str, personal: Personal) -> str | None:
    try:
        check_any_condition(text)
        personal.check_condition(text)
    except ConditionInvalid as refused:
        return str(refused)
    # A configuration may target everyone so, and yet the hub does not let it be tried (contract/hub.md §1.3).
    return "the condition * cannot be tried; it targets every device" if text.strip() == "*" else None


def _configuration(request: Request, response: Response, name: str, *, until: float = math.inf) -> JsonObject:
    document, counts = deployment_seen(request, name)
    response.headers["ETag"] = f'"{etag_of(document)}"'
    results = _results(request, document, room_of(request).view.metrics().get(name, {}), until=until)
    twins = _twins(request, {name: (document, counts)})
    return shapes.configuration(name, document, twins.get(name, counts), results)


def _identity(request: Request, response: Response, device_id: str) -> JsonObject:
    document = _device(room_of(request), device_id)
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


def deployment_seen(request: Request, name: str) -> tuple[DeploymentDocument, Counter[str]]:
    """A deployment as it stands, and the counts of its status sets, for the caller.

    Raises:
        DeploymentNotFound: it does not stand, or they do not see it.
    """
    room, caller = room_of(request), caller_of(request)
    document = deployment_of(room, name)
    counts = room.view.status(name, within=room.within(caller))[name]
    if not caller.sees(document, counts):
        raise DeploymentNotFound(name)
    return document, counts


def deployments_seen(
    request: Request, labels: Mapping[str, str] | None = None
) -> Iterator[tuple[str, DeploymentDocument, Counter[str] | None]]:
    """Every deployment that the caller sees and that carries some labels, with counts as soon as workers know it."""
    room, caller = room_of(request), caller_of(request)
    counts = room.view.status(within=room.within(caller))
    for name, document in deployments(room.log, labels=labels or {}):
        found = counts.get(name)
        if caller.sees(document, found or Counter()):
            yield name, document, found
