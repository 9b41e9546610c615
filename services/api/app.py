"""The API as an ASGI application: routes, health and metrics."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator

import msgspec
from anyio import to_thread
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.params import Depends as DependsOn
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from events import logs
from events.audit.seal_store import Seals, ahead_ms
from events.log.connect import why_not_writable
from events.log.errors import LogError
from events.log.keys import FLEET, name
from services.api.auth.authentication import Authenticator
from services.api.auth.secret_reads import SecretReads
from services.api.context.api_context import ApiContext
from services.api.context.batch_writer import BatchWriter
from services.api.context.device_reader import DeviceReader
from services.api.context.followers import Followers
from services.api.context.idempotency import note_key
from services.api.context.long_poll import WaitingDevices
from services.api.context.point_in_time import PastContexts, answer_as_of
from services.api.description import describe
from services.api.device_update import routes as device_update
from services.api.http import reference
from services.api.http.access import REGISTRY_READ, Access, Open, access_of, is_write
from services.api.http.errors import BUSY
from services.api.http.json_answer import JsonAnswer
from services.api.http.request_costs import LONG, NO_WORK
from services.api.http.route_index import RouteIndex
from services.api.http.turns import THREADS
from services.api.http.unknown_members import refuse_members
from services.api.hub import configurations, device_scopes, identities, methods, query, twins
from services.api.metrics import ApiMetrics
from services.api.request_pipeline import RequestPipeline
from services.api.v1 import (
    audit,
    blocked,
    deployments,
    desired,
    devices,
    diff,
    events,
    explain,
    me,
    preview,
    readiness,
    rollouts,
    updates,
    webhooks,
)
from services.api.v1 import event_stream as stream

_ABOUT = """Every write takes `?preview=true`: it answers 200 with what the write would do, in the form of `POST /v1/preview`, and
changes nothing. Send the `token` of that answer with the same write in the header `Twinfold-Preview`: the write is done only if
its result is still the same, and rejected with 412 if not. `Twinfold-Preview-Between` in the answer has the positions of the
events since the preview.

    curl -X DELETE 'https://HOST/configurations/camera-1?preview=true&api-version=2021-04-12'
"""


class ApiApp(FastAPI):
    """The framework's application, which declares and describes routes, with a pipeline of our own for requests."""

    pipeline: RequestPipeline

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.pipeline if scope["type"] == "http" else super().__call__)(scope, receive, send)


def create_app(context: ApiContext) -> ApiApp:
    """The application over a context.

    Raises:
        RoutesUndeclared: as `add_routes`.
    """
    waiting, followers, reads = WaitingDevices(context), Followers(context), SecretReads(context)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        tasks = [asyncio.create_task(background.run()) for background in (waiting, followers, reads)]
        yield
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    app = ApiApp(
        title="twinfold",
        version="1",
        description=_ABOUT,
        lifespan=lifespan,
        openapi_url=None,  # services/api/http/reference.py
        default_response_class=JsonAnswer,
    )
    log_requests = context.settings.log_requests
    wants_requests = not logs.are_for_people() if log_requests is None else log_requests
    logs_requests = wants_requests and context.settings.log_level in {"debug", "info"}
    app.state.reader, app.state.writer = DeviceReader(context), BatchWriter(context)
    app.state.authenticator = Authenticator(context)
    app.state.context, app.state.waiting, app.state.followers = context, waiting, followers
    app.state.acknowledgements = OrderedDict[str, int]()  # services/api/v1/desired.py
    app.state.secret_reads, app.state.audit_reader = reads, audit.AuditReader(context)
    app.state.past = PastContexts(context)
    app.state.metrics = ApiMetrics(context, waiting, followers)
    app.state.routes = add_routes(app)
    # Encoded once: it is large, and never changes.
    app.state.description = msgspec.json.encode(describe(app))
    app.pipeline = RequestPipeline(
        app, app.state.routes, app.state.authenticator, app.state.metrics, logs_requests=logs_requests
    )
    return app


def add_routes(app: FastAPI) -> RouteIndex:
    """Add all routes of the API, and index them.

    Raises:
        RoutesUndeclared: one does not declare who may use it.
    """
    of_hub = (device_scopes, identities, query, twins, configurations, methods)
    of_fleet = (devices, deployments, events, desired, explain, preview, diff, readiness, rollouts, updates)
    of_process = (device_update, stream, webhooks, audit, blocked, me, reference)
    for module in (*of_hub, *of_fleet, *of_process):
        for route in module.router.routes:
            # One router per route: FastAPI takes dependencies for a whole router.
            single = APIRouter()
            single.routes.append(route)
            app.include_router(single, dependencies=_dependencies_of(route) if isinstance(route, APIRoute) else [])
    # Without the framework's dependencies, which it has none of: load balancers ask it all day.
    app.add_route("/healthz", _healthy, methods=["GET"])
    app.add_api_route("/readyz", _ready, include_in_schema=False)
    app.add_api_route("/metrics", _metrics, include_in_schema=False)
    return RouteIndex(app.routes)


def _dependencies_of(route: APIRoute) -> list[DependsOn]:
    """What runs before a route: `at` is read, members of a body that it does not take are rejected, a write's key is stored."""
    access = access_of(route)
    has_past = access is not None and access.at is True
    dependencies: list[DependsOn] = [Depends(answer_as_of)] if has_past else []
    if is_write(route.methods or ()):
        # Lines are read, checked and noted batch by batch, by their handlers.
        has_lines = "requestBody" in (route.openapi_extra or {})
        if route.path.startswith("/v1/") and route.body_field is None and not has_lines:
            dependencies.append(Depends(refuse_members))
        if not has_lines:
            dependencies.append(Depends(note_key))
    return dependencies


@Access(Open.ANYBODY, at=False, cost=NO_WORK)
async def _healthy(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok\n")


@Access(Open.ANYBODY, at=False)
def _ready(request: Request) -> JSONResponse:
    """Whether requests can be answered: Redis accepts writes and no partition is blocked. `lag` has the events not projected."""
    context: ApiContext = request.app.state.context
    try:
        refusal = why_not_writable(context.client)
        heads = context.log.heads()
        behind = {
            name(number): heads[number] - context.projections.checkpoint(number).vector.partition
            for number in range(context.log.partitions)
        }
        blocked = [name(number) for number in context.fleet_projection.blocked()]
        ahead = ahead_ms(context.log, Seals(context.client), clock=context.clock())
    except LogError as error:
        return JSONResponse({"ready": False, "redis": str(error)}, BUSY.status)
    ready = refusal is None and not blocked
    lag = {partition: events for partition, events in behind.items() if events}
    # Events and seals go on under a clock that went back: a load balancer need not take the process out.
    clock = (
        f"{ahead / 1000:.0f} s behind the newest event or seal (docs/guides/operating.md, Clocks)" if ahead else "ok"
    )
    details = {"redis": refusal or "ok", "clock": clock, "fleet": heads[FLEET], "lag": lag, "blocked": blocked}
    return JSONResponse({"ready": ready, **details}, 200 if ready else BUSY.status)


@Access(REGISTRY_READ, at=False, cost=LONG)
def _metrics(request: Request) -> PlainTextResponse:
    metrics: ApiMetrics = request.app.state.metrics
    return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
