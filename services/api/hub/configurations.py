"""Configurations, and content that is set on one device by hand (contract/hub.md §1.3)."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Mapping

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from events.canonical import JsonObject
from events.deployment.commands import CreateDeployment, DeleteDeployment, UpdateDeployment, Validation
from events.deployment.condition import check_any_condition
from events.deployment.state import DeploymentDocument, etag_of
from events.device.commands import (
    SetConfiguration,
)
from events.manifest.document import Kind, in_modern_form
from events.query.errors import ConditionInvalid, QueryInvalid
from events.query.parse import parse as parse_query
from events.secrets.personal import Personal
from services.api.context.deployments import deployment_seen, deployments_seen
from services.api.context.devices import registered
from services.api.context.request import author_of, caller_of, room_of, writer_of
from services.api.http.access import REGISTRY_READ, REGISTRY_WRITE, Access
from services.api.http.errors import ContentMissing
from services.api.http.openapi import ETAG, answers
from services.api.http.path_names import DeploymentId, DeviceId
from services.api.http.request_costs import CONTENT, LONG, QUERY
from services.api.hub import described, shapes
from services.api.hub.bodies import ConfigurationBody, ContentBody, TestQueriesBody
from services.api.hub.router import IfMatch, IfMatchToDelete, hub_router

COUNTING_SECONDS = 1.0
"""So long a list of configurations runs queries of metrics that are not kept."""

_WAITS, _WAIT_SECONDS = 100, 0.02


router = hub_router(
    read=Access(REGISTRY_READ, scope="handler", at=True), write=Access(REGISTRY_WRITE, scope="handler", cost=CONTENT)
)


@router.post("/devices/{device_id}/applyConfigurationContent", status_code=204)
@Access(REGISTRY_WRITE, scope="device", cost=CONTENT)
async def set_configuration(request: Request, device_id: DeviceId, body: ContentBody) -> None:
    """Set a configuration on one edge device by hand; answered when it is in force, or after some seconds."""
    room = room_of(request)
    content: JsonObject = in_modern_form(body.model_dump(by_alias=True, exclude_none=True))
    stored = await writer_of(request).do(SetConfiguration(device_id, content), author_of(request))
    version = registered(device_id, stored).version
    for _ in range(_WAITS):
        if await run_in_threadpool(room.view.folded_version, device_id) >= version:
            return
        await asyncio.sleep(_WAIT_SECONDS)


@router.get("/configurations", response_model=None, responses=answers(list[described.Configuration]))
@Access(REGISTRY_READ, scope="handler", at=True, cost=LONG)
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
@Access(REGISTRY_READ, scope="handler", cost=QUERY)
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
