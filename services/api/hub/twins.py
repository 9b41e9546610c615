"""Twins of devices and modules, queries of them and of jobs, and direct methods (contract/hub.md §1.4, §1.8)."""

from typing import Annotated, Any, NoReturn

from fastapi import Header, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from events.device.commands import PatchTwin, ReplaceTwin
from events.device.errors import ModuleNotFound
from events.device.twin import DeviceTwin, ModuleTwin, device_twin
from events.log.device_documents import registered
from events.projection_store.query_engine import PAGE_DEFAULT, PAGE_MAX
from events.query import tree
from events.query.evaluate import QueryRow
from events.query.parse import parse as parse_query
from services.api.context.request import author_of, caller_of, context_of, existing, write, writer_of
from services.api.http.access import TWIN_READ, TWIN_WRITE, Access
from services.api.http.body_examples import example
from services.api.http.errors import DeviceNotOnline
from services.api.http.json_answer import AnswerBody, JsonAnswer
from services.api.http.openapi import PAGED
from services.api.http.path_names import DeviceId, ModuleId
from services.api.http.request_costs import QUERY, TWIN
from services.api.hub.bodies import HubBody, TwinBody
from services.api.hub.registry import patch_of, replacement_of
from services.api.hub.router import IfMatch, hub_router

queries = hub_router()
router = hub_router(
    read=Access(TWIN_READ, scope="device", at=True), write=Access(TWIN_WRITE, scope="device", cost=TWIN)
)
methods = hub_router(write=Access(TWIN_WRITE, scope="device", cost=TWIN))


class QueryBody(HubBody):
    """A query to run."""

    model_config = example({"query": "SELECT deviceId, tags.site FROM devices WHERE tags.site = 'north'"})

    query: str


class MethodBody(HubBody):
    """A direct method to call. Timeouts are in seconds, within the hub's limits."""

    model_config = example({"methodName": "reboot", "responseTimeoutInSeconds": 30, "payload": {"delay": 3}})

    method_name: Annotated[str, Field(min_length=1)]
    payload: Any = None
    response_timeout_in_seconds: Annotated[int | None, Field(ge=5, le=300)] = None
    connect_timeout_in_seconds: Annotated[int | None, Field(ge=0, le=300)] = None


class MethodResult(AnswerBody):
    """The answer of a direct method: a status of the device's choice, and a payload."""

    status: int
    payload: Any


@queries.post("/devices/query", responses=PAGED)
@Access(TWIN_READ, scope="handler", at=True, cost=QUERY)
def run_query(
    request: Request,
    body: QueryBody,
    size: Annotated[int, Header(alias="x-ms-max-item-count", ge=1)] = PAGE_DEFAULT,
    continuation: Annotated[str | None, Header(alias="x-ms-continuation")] = None,
) -> JsonAnswer[list[QueryRow]]:
    """One page of a query. The header `x-ms-continuation` of the answer asks for the next page; the last page has none."""
    context, query = context_of(request), parse_query(body.query)
    # A query could find a personal tag's value by trying one value after the other.
    context.vault.personal.check_query(body.query)
    position = context.continuations.open(continuation)
    page = context.query_engine.page(
        query, size=min(size, PAGE_MAX), continuation=position, scope=caller_of(request).limit
    )
    is_of_jobs = query.source is tree.QuerySource.JOBS
    headers = {"x-ms-item-type": "DeviceJob" if is_of_jobs else "Raw" if query.select else "Twin"}
    if page.continuation is not None:
        headers["x-ms-continuation"] = context.continuations.seal(page.continuation)
    return JsonAnswer(page.rows, headers=headers)


@router.get("/twins/{device_id}")
def get_twin(request: Request, device_id: DeviceId) -> DeviceTwin:
    """A device's twin."""
    return existing(device_id, context_of(request).twins.device(device_id))


@router.patch("/twins/{device_id}")
async def patch_twin(
    request: Request, device_id: DeviceId, body: TwinBody, if_match: IfMatch = None
) -> JsonAnswer[DeviceTwin]:
    """Merge-patch a device's tags and desired properties. The answer is the whole twin."""
    return await _write_twin(request, patch_of(device_id, None, body, if_match))


@router.put("/twins/{device_id}")
async def put_twin(
    request: Request, device_id: DeviceId, body: TwinBody, if_match: IfMatch = None
) -> JsonAnswer[DeviceTwin]:
    """Replace a device's tags and desired properties with those of the body."""
    return await _write_twin(request, replacement_of(device_id, None, body, if_match))


async def _write_twin(request: Request, command: PatchTwin | ReplaceTwin) -> JsonAnswer[DeviceTwin]:
    stored = await writer_of(request).do(command, author_of(request))
    document, context = registered(command.device_id, stored), context_of(request)
    # The twin of a plain device follows from its document alone: without a thread and without a read of projections, a
    # fleet without configurations of own twins pays nothing for them (decision 0019).
    if context.fleet_projection.had_no_own_recently(command.device_id):
        return JsonAnswer(device_twin(command.device_id, document))
    return JsonAnswer(await run_in_threadpool(context.twins.of, command.device_id, document))


@router.get("/twins/{device_id}/modules/{module_id}")
def get_module_twin(request: Request, device_id: DeviceId, module_id: ModuleId) -> ModuleTwin:
    """A module's twin."""
    return existing(f"{device_id}/{module_id}", context_of(request).twins.module(device_id, module_id))


@router.put("/twins/{device_id}/modules/{module_id}")
def put_module_twin(
    request: Request, device_id: DeviceId, module_id: ModuleId, body: TwinBody, if_match: IfMatch = None
) -> ModuleTwin:
    """Replace a module's tags and the desired properties that were written by hand with those of the body."""
    return _write_module_twin(request, device_id, module_id, replacement_of(device_id, module_id, body, if_match))


@router.patch("/twins/{device_id}/modules/{module_id}")
def patch_module_twin(
    request: Request, device_id: DeviceId, module_id: ModuleId, body: TwinBody, if_match: IfMatch = None
) -> ModuleTwin:
    """Merge-patch a module's tags and desired properties."""
    return _write_module_twin(request, device_id, module_id, patch_of(device_id, module_id, body, if_match))


def _write_module_twin(
    request: Request, device_id: str, module_id: str, command: PatchTwin | ReplaceTwin
) -> ModuleTwin:
    # A module that only a configuration names has no document: projections decide whether it exists.
    get_module_twin(request, device_id, module_id)
    write(request, command)
    return get_module_twin(request, device_id, module_id)


# -- direct methods: no device can be connected, so every call gets the hub's 404 for an offline device


# The 200 is for the description of the API alone: no handler here gives that answer.
@methods.post("/twins/{device_id}/methods", responses={200: {"type": MethodResult}})
def call_method(request: Request, device_id: DeviceId, body: MethodBody) -> NoReturn:
    """Call a direct method of a device. An offline device gets 404 `DeviceNotOnline`."""
    existing(device_id, context_of(request).twins.device(device_id))
    raise DeviceNotOnline(device_id, body.method_name)


@methods.post("/twins/{device_id}/modules/{module_id}/methods", responses={200: {"type": MethodResult}})
def call_module_method(request: Request, device_id: DeviceId, module_id: ModuleId, body: MethodBody) -> NoReturn:
    """Call a direct method of a module. A module of an offline device gets 404 `DeviceNotOnline`."""
    twins = context_of(request).twins
    existing(device_id, twins.device(device_id))
    if module_id not in twins.module_ids(device_id):
        raise ModuleNotFound(device_id, module_id)
    raise DeviceNotOnline(f"{device_id}/{module_id}", body.method_name)
