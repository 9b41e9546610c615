"""The configurations of the hub, and content that is set on a single device (contract/hub.md §1.3)."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, assert_never

from fastapi import Request, Response
from msgspec import UNSET
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from events.canonical import JsonObject
from events.deployment.commands import CreateDeployment, DeleteDeployment, UpdateDeployment, Validation
from events.deployment.decider import check_any_condition
from events.deployment.state import DeploymentDocument, etag_of
from events.device.commands import SetConfiguration
from events.device.identifiers import AGENT
from events.device.times import time_text
from events.fleet.deployments import CONTENT_KEY
from events.log.device_documents import registered
from events.manifest.document import ContentKind, in_modern_form
from events.manifest.merge import contributes
from events.query.errors import ConditionInvalid, QueryInvalid
from events.query.parse import parse as parse_query
from events.query.system_metric import module_applied_query, module_targeted_query, targeted_query
from services.api.context.deployments import deployment_seen, deployments_seen
from services.api.context.request import author_of, caller_of, context_of, reach_of, write, writer_of
from services.api.http.access import REGISTRY_READ, REGISTRY_WRITE, Access
from services.api.http.body_examples import CONTENT as EXAMPLE
from services.api.http.body_examples import example
from services.api.http.errors import ContentMissing
from services.api.http.json_answer import AnswerBody
from services.api.http.openapi import ETAG
from services.api.http.path_names import DeploymentId, DeviceId
from services.api.http.request_costs import CONTENT, LONG, QUERY
from services.api.hub.bodies import HubBody
from services.api.hub.router import IfMatch, IfMatchToDelete, hub_router

COUNTING_SECONDS = 1.0
"""How long a list of configurations runs the queries of metrics that workers do not count (decision 0020)."""

# At most 2 seconds: `az` lists the modules of the device right after this call, and expects those of the content.
_WAITS, _WAIT_SECONDS = 100, 0.02
_APPLIED = (
    "select deviceId from devices.modules where moduleId = '$edgeAgent' and configurations.[[{}]].status = 'Applied'"
)
_OWN_APPLIED = "select deviceId from devices where configurations.[[{}]].status = 'Applied'"
_ANSWERED = " and properties.desired.$version = properties.reported.lastDesiredVersion"
_CODE = " and properties.reported.lastDesiredStatus.code {} 200"


class MetricsBody(HubBody):
    """Custom metrics: a query by name."""

    queries: dict[str, str] = Field(default={})


class ConfigurationBody(HubBody):
    """A deployment to write."""

    model_config = example(
        {
            "id": "north",
            "content": EXAMPLE,
            "targetCondition": "tags.site = 'north'",
            "priority": 10,
            "labels": {"team": "x"},
        }
    )

    schema_version: str = "1.0"
    content: dict[str, Any] | None = None
    target_condition: str | None = None
    priority: int = 0
    labels: dict[str, str] | None = None
    metrics: MetricsBody | None = None


class ContentBody(HubBody):
    """Content to set on a single device."""

    model_config = example(EXAMPLE)

    modules_content: dict[str, Any] | None = None
    device_content: dict[str, Any] | None = None
    module_content: dict[str, Any] | None = None


class TestQueriesBody(HubBody):
    """A target condition and queries to check."""

    model_config = example({"targetCondition": "tags.site = 'north'", "customMetricQueries": {}})

    target_condition: str | None = None
    custom_metric_queries: dict[str, str] | None = None


class QueryResults(AnswerBody):
    """Queries by name, and the number of rows of each."""

    results: dict[str, int]
    queries: dict[str, str]


class ConfigurationAnswer(AnswerBody):
    """A deployment in the hub's shape (contract/hub.md §1.5). Secrets in the content appear as references."""

    id: str
    schema_version: str
    labels: dict[str, str] | None
    content: dict[str, dict[str, Any]]
    content_type: str
    target_condition: str
    created_time_utc: str
    last_updated_time_utc: str
    priority: int
    system_metrics: QueryResults
    metrics: QueryResults
    etag: str


class QueryErrors(AnswerBody):
    """The error of a target condition, `null` if it is valid, and the errors of the invalid queries by name."""

    target_condition_error: str | None
    custom_metric_query_errors: dict[str, str]


router = hub_router(
    read=Access(REGISTRY_READ, scope="handler", at=True), write=Access(REGISTRY_WRITE, scope="handler", cost=CONTENT)
)


@router.post("/devices/{device_id}/applyConfigurationContent", status_code=204)
@Access(REGISTRY_WRITE, scope="device", cost=CONTENT)
async def set_configuration(request: Request, device_id: DeviceId, body: ContentBody) -> None:
    """Set a configuration on a single edge device. The answer comes when it is in effect, or after 2 seconds."""
    context = context_of(request)
    content: JsonObject = in_modern_form(body.model_dump(by_alias=True, exclude_none=True))
    written = await writer_of(request).do(SetConfiguration(device_id, content), author_of(request))
    version = registered(device_id, written.document).version
    for _ in range(_WAITS):
        if await run_in_threadpool(context.fleet_projection.applied_version, device_id) >= version:
            return
        await asyncio.sleep(_WAIT_SECONDS)


@router.get("/configurations")
@Access(REGISTRY_READ, scope="handler", at=True, cost=LONG)
def list_configurations(request: Request) -> list[ConfigurationAnswer]:
    """Every deployment that the caller can see. `top` has no effect, as on the hub."""
    seen = {name: (document, counts) for name, document, counts in deployments_seen(request)}
    return _answers(request, seen, until=time.monotonic() + COUNTING_SECONDS)


@router.get("/configurations/{name}", responses=ETAG)
def get_configuration(request: Request, response: Response, name: DeploymentId) -> ConfigurationAnswer:
    """A deployment, with the number of rows of each of its custom metrics."""
    return _configuration(request, response, name)


@router.put("/configurations/{name}", responses=ETAG)
def put_configuration(
    request: Request, response: Response, name: DeploymentId, body: ConfigurationBody, if_match: IfMatch = None
) -> ConfigurationAnswer:
    """Create a deployment, or with `If-Match` change everything but its content, which is then ignored."""
    if body.content is None:
        raise ContentMissing
    metrics = {} if body.metrics is None else body.metrics.queries
    common = (body.target_condition or "", body.priority, body.labels or {}, metrics)
    if if_match is None:
        version = body.schema_version
        write(request, CreateDeployment(name, body.content, *common, version, validation=Validation.CONTENT))
    else:
        # Live hubs ignore another content in an update instead of refusing it (contract/hub.md §8.7).
        write(request, UpdateDeployment(name, *common, if_match))
    # A write does not run the queries that workers do not count: each of them can be a scan of the fleet.
    return _configuration(request, response, name, until=-math.inf)


@router.delete("/configurations/{name}", status_code=204)
def delete_configuration(request: Request, name: DeploymentId, if_match: IfMatchToDelete = None) -> None:
    """Delete a deployment."""
    write(request, DeleteDeployment(name, if_match))


@router.post("/configurations/testQueries")
@Access(REGISTRY_READ, scope="handler", cost=QUERY)
def try_queries(request: Request, body: TestQueriesBody) -> QueryErrors:
    """Check a target condition and queries. The answer has their errors."""
    personal, answer, condition = context_of(request).vault.personal, QueryErrors(None, {}), body.target_condition or ""
    for name, text in (body.custom_metric_queries or {}).items():
        try:
            parse_query(text)
            personal.check_query(text)
        except QueryInvalid as refused:
            answer.custom_metric_query_errors[name] = str(refused)
    # A configuration may have this condition, and yet the hub refuses to check it (contract/hub.md §1.3).
    if condition.strip() == "*":
        answer.target_condition_error = "the condition * cannot be checked; it targets every device"
    try:
        check_any_condition(condition)
        personal.check_condition(condition)
    except ConditionInvalid as refused:
        answer.target_condition_error = str(refused)
    return answer


def _configuration(request: Request, response: Response, name: str, *, until: float = math.inf) -> ConfigurationAnswer:
    (configuration,) = _answers(request, {name: deployment_seen(request, name)}, until=until)
    response.headers["ETag"] = f'"{configuration.etag}"'
    return configuration


def _answers(
    request: Request, seen: Mapping[str, tuple[DeploymentDocument, Counter[str] | None]], *, until: float
) -> list[ConfigurationAnswer]:
    context, caller = context_of(request), caller_of(request)
    # The hub counts twins, and a device can have several modules that a configuration of modules targets (decision 0019).
    of_modules = [
        name for name, (document, counts) in seen.items() if document.kind is ContentKind.MODULE and counts is not None
    ]
    in_twins = context.fleet_projection.twins(*of_modules, within=reach_of(request)) if of_modules else {}
    # Workers count metrics over the whole fleet. A caller with a scope must not learn how many devices are outside.
    metrics_of = {name: document.metrics for name, (document, _) in seen.items()}
    counted = context.fleet_projection.metrics(metrics_of) if caller.scope is None else {}
    answers = []
    for name, (document, counts) in seen.items():
        queries, counts_of_twins = _queries(name, document), in_twins.get(name, counts)
        # A result is the number of rows of the query beside it, and three queries ask for the status in the `$edgeAgent` twin.
        # A layer that sets nothing there has no such status, so its applied count is 0 (decision 0020).
        of_agent = document.kind is not ContentKind.EDGE or contributes(document.content.get(CONTENT_KEY, {}), AGENT)
        results = {}  # Empty until the workers know the deployment.
        if counts_of_twins is not None:
            results = {
                query: counts_of_twins[status] if of_agent or query == "targetedCount" else 0
                for query, status in _RESULTS.items()
                if query in queries
            }
        metrics = context.metric_results.results(document, counted.get(name, {}), until=until, scope=caller.scope)
        answers.append(
            ConfigurationAnswer.filled(
                document,
                id=name,
                labels=document.labels or None,
                content_type="assignment",
                created_time_utc=time_text(document.created_at),
                last_updated_time_utc=time_text(document.updated_at),
                system_metrics=QueryResults(results, queries),
                metrics=QueryResults(dict(metrics), document.metrics),
                etag=etag_of(document),
            )
        )
    return answers


_RESULTS = {
    "targetedCount": "target",
    "appliedCount": "actual",
    "reportedSuccessfulCount": "reportedSuccessful",
    "reportedFailedCount": "reportedFailed",
}


def _queries(name: str, document: DeploymentDocument) -> dict[str, str]:
    condition, scope = document.target_condition, "*" if document.scope is UNSET else document.scope
    match document.kind:
        case ContentKind.EDGE:
            applied, targeted = _APPLIED.format(name), targeted_query(condition, scope)
        case ContentKind.DEVICE:
            applied, targeted = _OWN_APPLIED.format(name), targeted_query(condition, scope, own=True)
        # The query is the condition itself. A scope is a condition on devices and cannot be part of it (decision 0019).
        case ContentKind.MODULE:
            applied, targeted = module_applied_query(condition, name), module_targeted_query(condition)
        case _:
            assert_never(document.kind)
    queries = {"appliedCount": applied}
    # Nothing reports success or failure for a device's own twin or a module: two counts (contract/hub.md §1.3).
    if document.kind is ContentKind.EDGE:
        queries["reportedSuccessfulCount"] = applied + _ANSWERED + _CODE.format("=")
        queries["reportedFailedCount"] = applied + _ANSWERED + _CODE.format("!=")
    return {**queries, "targetedCount": targeted}
