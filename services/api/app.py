"""The API as an ASGI application: routes, one answer per error, health, metrics, and a line per request."""

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import structlog
from anyio import to_thread
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends as DependsOn
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from events import logs
from events.audit.log_time import ahead_ms
from events.audit.seal_store import Seals
from events.canonical import JsonObject
from events.log.checks import why_not_writable
from events.log.errors import LogError, LogUnavailable
from events.log.keys import FLEET, name
from events.member_names import in_body_names
from services.api.auth.authentication import Authenticator
from services.api.auth.secret_reads import SecretReads
from services.api.context.api_context import ApiContext
from services.api.context.batch_writer import BatchWriter
from services.api.context.callers import NOBODY, Caller, PreviewRequest
from services.api.context.dry_run import DryRunDone
from services.api.context.followers import Streams
from services.api.context.idempotency import note_key, settle_key
from services.api.context.long_poll import WaitingDevices
from services.api.context.point_in_time import AS_OF, PastContexts, look
from services.api.context.request import BETWEEN_HEADER
from services.api.description import REQUEST_ID, describe
from services.api.device_update import routes as device_update
from services.api.device_update.lists import PREFIX
from services.api.http import reference
from services.api.http.access import REGISTRY_READ, Access, Open, access_of, is_write
from services.api.http.errors import (
    BAD_REQUEST,
    BUSY,
    DAMAGE,
    EXPECTED,
    INTERNAL,
    METHOD_NOT_ALLOWED,
    RETRY_AFTER_SECONDS,
    BodyInvalid,
    Error,
    ErrorAnswer,
    HttpError,
    HubErrorAnswer,
    NotInThePast,
    answer_of,
    answer_of_status,
    hub_error,
    text_of,
)
from services.api.http.json_answer import JsonAnswer
from services.api.http.limits import RequestLimits
from services.api.http.method_override import method_asked
from services.api.http.request_costs import LONG, NO_WORK
from services.api.http.route_index import RouteIndex, RouteMatch
from services.api.http.turns import THREADS
from services.api.http.unknown_members import refuse_members
from services.api.hub import configurations, device_scopes, identities, methods, query, twins
from services.api.metrics import ApiMetrics
from services.api.v1 import (
    audit,
    blocked,
    deployments,
    desired,
    devices,
    diff,
    events,
    explain,
    groups,
    me,
    preview,
    readiness,
    rollout_devices,
    rollouts,
    updates,
    webhooks,
)
from services.api.v1 import event_stream as stream
from services.api.v1.history_entries import AuditReader
from services.api.v1.preview import answer_to

LINES = {"/v1/events", "/v1/preview"}
"""Paths whose bodies are lines of commands."""

_METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
_UNREADABLE = re.compile("[\x00-\x1f\x7f]")

_ABOUT = """Every write takes `?preview=true`: it answers 200 with what it would do, in the form of `POST /v1/preview`, and does
nothing. The `token` of that answer, sent with the same write in the header `Twinfold-Preview`, has it done only if it still does
what was shown, and refused with 412 if not; `Twinfold-Preview-Between` in the answer says where events came in since.

    curl -X DELETE 'https://HOST/configurations/camera-1?preview=true&api-version=2021-04-12'
"""

logger = structlog.get_logger()


def create_app(context: ApiContext) -> FastAPI:
    """The application over an open room.

    Raises:
        RoutesUndeclared: a route does not declare who may use it.
    """
    waiting, streams, reads = WaitingDevices(context), Streams(context), SecretReads(context)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        tasks = [asyncio.create_task(one.run()) for one in (waiting, streams, reads)]
        yield
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    app = FastAPI(
        title="twinfold",
        version="1",
        description=_ABOUT,
        lifespan=lifespan,
        openapi_url=None,  # services/api/http/reference.py
        default_response_class=JsonAnswer,
    )
    asked = context.settings.log_requests
    app.state.logs_requests = not logs.are_for_people() if asked is None else asked
    app.state.writer, app.state.authenticator = BatchWriter(context), Authenticator(context)
    app.state.context, app.state.waiting, app.state.streams = context, waiting, streams
    app.state.acknowledgements = desired.WrittenAcknowledgements()
    app.state.secret_reads, app.state.audit_reader = reads, AuditReader(context)
    app.state.past = PastContexts(context)
    app.state.metrics = ApiMetrics(context, waiting, streams)
    app.state.routes = add_routes(app)
    app.state.description = reference.encoded(describe(app))
    for kind in EXPECTED:
        app.add_exception_handler(kind, _refused)
    app.add_exception_handler(DryRunDone, _shown)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    settings = context.settings
    app.add_middleware(RequestLimits, bytes_max=settings.request_bytes_max, seconds_max=settings.request_seconds_max)
    # Added last, so the first that a request meets: nothing of a body is read before authentication.
    app.middleware("http")(_around)
    return app


def add_routes(app: FastAPI) -> RouteIndex:
    """Add all routes of the API, and index them.

    Raises:
        RoutesUndeclared: a route does not declare who may use it.
    """
    for router in (
        device_scopes.router,
        identities.router,
        query.router,
        twins.router,
        configurations.router,
        methods.router,
        devices.router,
        deployments.router,
        events.router,
        desired.router,
        explain.router,
        preview.router,
        diff.router,
        readiness.router,
        rollouts.router,
        rollout_devices.router,
        updates.router,
        groups.router,
        device_update.router,
        stream.router,
        webhooks.router,
        audit.router,
        blocked.router,
        me.router,
        reference.router,
    ):
        _include(app, router)
    app.add_api_route("/healthz", _healthy, include_in_schema=False)
    app.add_api_route("/readyz", _ready, include_in_schema=False)
    app.add_api_route("/metrics", _metrics, include_in_schema=False)
    return RouteIndex(app.routes)


def _include(app: FastAPI, router: APIRouter) -> None:
    """Take a router's routes over, in their order, each with what all of its kind do first."""
    for route in router.routes:
        one = APIRouter()
        one.routes.append(route)
        app.include_router(one, dependencies=_first_of(route) if isinstance(route, APIRoute) else [])


def _first_of(route: APIRoute) -> list[DependsOn]:
    """What the routes of a kind do first.

    A read that there is a past of looks at it when it is asked to. A write notes its key, and one of ours that takes no body
    refuses members of one; lines are read, and noted, batch by batch.
    """
    access = access_of(route)
    looks = access is not None and access.at is True
    if not is_write(route.methods or ()):
        return [Depends(look)] if looks else []
    has_lines = "requestBody" in (route.openapi_extra or {})
    refuses = route.path.startswith("/v1/") and route.body_field is None and not has_lines
    first = ((look, looks), (refuse_members, refuses), (note_key, not has_lines))
    return [Depends(each) for each, applies in first if applies]


@Access(Open.ANYBODY, at=False, cost=NO_WORK)
async def _healthy() -> PlainTextResponse:
    return PlainTextResponse("ok\n")


@Access(Open.ANYBODY, at=False)
def _ready(request: Request) -> JSONResponse:
    """Whether requests can be answered: Redis takes writes, and no partition is stopped. How far projections are behind is told."""
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
    # Events and seals go on under a clock that went back, so that it is no reason to send nobody here.
    clock = (
        f"{ahead / 1000:.0f} s behind the newest event or seal (docs/guides/operating.md, Clocks)" if ahead else "ok"
    )
    details = {"redis": refusal or "ok", "clock": clock, "fleet": heads[FLEET], "lag": lag, "blocked": blocked}
    return JSONResponse({"ready": ready, **details}, 200 if ready else BUSY.status)


@Access(REGISTRY_READ, at=False, cost=LONG)
def _metrics(request: Request) -> PlainTextResponse:
    metrics: ApiMetrics = request.app.state.metrics
    return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _shown(request: Request, shown: Exception) -> Response:
    assert isinstance(shown, DryRunDone)
    return await run_in_threadpool(answer_to, request, shown.preview)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    caller: Caller = request.state.caller
    if isinstance(error, DAMAGE):
        logger.error("history is stopped", id=request.state.request_id, path=request.scope["path"], why=str(error))
    is_limited = caller.scope is not None or caller.device_id is not None
    text = text_of(error, is_limited=is_limited)
    _let_frames_go(error)
    # Lines of commands have the commands' own names.
    return _answer(request, answer_of(error), text if request.scope["path"] in LINES else in_body_names(text))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # Without the values: a body can hold passwords.
    said = "; ".join(f"{_location(one)}: {one['msg']}" for one in error.errors())
    _let_frames_go(error)
    return await _refused(request, BodyInvalid(said))


def _let_frames_go(error: BaseException | None) -> None:
    """Take the frames off an error that is answered, and off those behind it.

    They hold the body of the request, and lead back to the error: such a circle stays until the collector of garbage comes by,
    which counts objects, not megabytes.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _location(error: Mapping[str, Any]) -> str:
    """Where a value stands, as its sender would say: `rollout.phases[0].authenticator`, `query.top`, `the body`."""
    first, *path = error["loc"]
    if error["type"] == "json_invalid":
        return f"the body, character {path[0]}" if path else "the body"
    names = path if first == "body" else [first, *path]
    text = "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in names)
    return text.removeprefix(".") or "the body"


async def _http(request: Request, error: Exception) -> JSONResponse:
    """What the framework refuses by itself: a path or a method that is not there, bytes that are not text."""
    assert isinstance(error, HTTPException)
    _let_frames_go(error)
    answer = answer_of_status(error.status_code)
    allowed = {} if answer.status != METHOD_NOT_ALLOWED else {"Allow": ", ".join(_methods(request))}
    return _answer(request, answer, str(error.detail), allowed)


def _methods(request: Request) -> list[str]:
    """The methods of a path, all routes taken together; of two paths that fit, the one with fewer variables."""
    paths = sorted(request.app.openapi()["paths"].items(), key=lambda item: item[0].count("{"))
    fitting = (item for path, item in paths if compile_path(path)[0].match(request.scope["path"]))
    return sorted(map(str.upper, next(fitting, {})))


def _failed(request: Request, error: Exception) -> JSONResponse:
    """A fault of ours: the log has the whole of it, the answer has the id under which it is there."""
    logger.error("request failed", id=request.state.request_id, path=request.scope["path"], exc_info=error)
    return _answer(request, INTERNAL, "something failed here; the log has it under this id")


def _answer(request: Request, answer: HttpError, message: str, more: dict[str, str] | None = None) -> JSONResponse:
    request_id = request.state.request_id
    headers = {"iothub-errorcode": answer.code, **(more or {})}
    if answer.temporary:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if request.scope["path"].startswith("/v1/"):
        body: ErrorAnswer | HubErrorAnswer | JsonObject = ErrorAnswer(Error(answer.code, message, request_id))
    elif request.scope["path"].startswith(f"{PREFIX}/"):
        body = {"error": {"code": answer.code, "message": message}}
    else:
        context: ApiContext = request.app.state.context
        body = hub_error(answer, message, request_id=request_id, at=context.clock())
    return JsonAnswer(body, answer.status, headers)


def _path(request: Request) -> str:
    """The path as routes read it. `request.url` is put together from headers, too, and read by other rules."""
    path: str = request.scope["path"]
    if _UNREADABLE.search(path):
        raise BodyInvalid("a path has no control characters")
    return path


def _insist_on_a_past(request: Request, route: RouteMatch) -> None:
    # Of a path or a method that is not there, that is to be told; of two paths that fit, the one with fewer variables counts.
    if route.exists and isinstance(route.access.at, str) and route.method in _methods(request):
        changes = "the past is looked at, and not changed"
        raise NotInThePast(route.access.at or ("this path has no past" if route.method == "GET" else changes))


async def _around(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    request.state.request_id = secrets.token_hex(8)
    start = time.perf_counter()
    request.state.caller = NOBODY
    if len(request.scope["path"]) > 1:
        # Some clients write /configurations/?top=… (contract/hub.md §1.1).
        request.scope["path"] = request.scope["path"].rstrip("/") or "/"
    try:
        request.scope["method"] = method_asked(request.method, request.headers)
        authenticator: Authenticator = request.app.state.authenticator
        address = "" if request.client is None else request.client.host
        routes: RouteIndex = request.app.state.routes
        route = request.state.route = routes.match(request.method, _path(request))
        request.state.caller = await authenticator.admit(route, request.headers, address=address)
        if b"at=" in request.scope["query_string"] and "at" in request.query_params:
            _insist_on_a_past(request, route)
        response = await call_next(request)
    except EXPECTED as error:
        response = await _refused(request, error)
    except HTTPException as error:
        response = await _http(request, error)
    except Exception as error:  # noqa: BLE001 - the last place where one can be answered and told
        response = _failed(request, error)
    # What could not be settled is: the ids of its commands are in the log.
    with contextlib.suppress(LogUnavailable):
        await settle_key(request, response.status_code)
    seconds = time.perf_counter() - start
    past_read = getattr(request.state, "past_read", None)
    if past_read is not None and response.status_code < BAD_REQUEST.status:
        response.headers[AS_OF] = past_read.said
    response.headers[REQUEST_ID] = request.state.request_id
    asked: PreviewRequest | None = getattr(request.state, "asked", None)
    if asked is not None and asked.between is not None:
        response.headers[BETWEEN_HEADER] = asked.between
    method = request.method if request.method in _METHODS else "other"
    request.app.state.metrics.note(method, response.status_code, seconds)
    if request.app.state.logs_requests:
        logger.info(
            "request",
            id=request.state.request_id,
            principal=str(request.state.caller.principal),
            method=request.method,
            path=request.scope["path"],
            status=response.status_code,
            milliseconds=round(1000 * seconds, 1),
        )
    return response
