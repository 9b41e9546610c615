"""The path of every HTTP request: authentication, limits, its handler, and what is noted of its answer."""

import contextlib
import os
import re
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from events.log.errors import LogUnavailable
from services.api.auth.authentication import Authenticator
from services.api.context.callers import NO_CALLER, PreviewRequest
from services.api.context.dry_run import DryRunDone
from services.api.context.idempotency import settle_key
from services.api.context.point_in_time import AS_OF
from services.api.context.request import BETWEEN_HEADER
from services.api.description import REQUEST_ID
from services.api.error_answers import failed, invalid, rejected, rejected_by_framework
from services.api.http.errors import BAD_REQUEST, EXPECTED, METHOD_NOT_ALLOWED, NOT_FOUND, BodyInvalid, NotInThePast
from services.api.http.limits import RequestLimits
from services.api.http.route_index import RouteIndex, RouteMatch
from services.api.metrics import ApiMetrics
from services.api.v1.preview import answer_to

_METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
_UNREADABLE = re.compile("[\x00-\x1f\x7f]")
_OVERRIDE, _OVERRIDES = "X-HTTP-Method-Override", ("PATCH", "PUT", "DELETE")
_OVERRIDE_HEADER = _OVERRIDE.lower()
"""The Java service client cannot send PATCH, and sends POST with this header instead."""

_REQUEST_ID, _AS_OF, _BETWEEN = (name.lower().encode() for name in (REQUEST_ID, AS_OF, BETWEEN_HEADER))
_REQUEST_IDS_AT_ONCE = 256

_NO_FILES = AsyncExitStack()
"""FastAPI closes the files of forms by it. No route takes a form."""

logger = structlog.get_logger()


class RequestPipeline:
    """Serves the HTTP requests of an application by its route index, with each step once.

    In place of the framework's middleware and router: its middleware starts a task and two queues for each request, and its
    router asks one route after the other, which was two thirds of the time of a request.
    """

    def __init__(
        self,
        app: FastAPI,
        routes: RouteIndex,
        authenticator: Authenticator,
        metrics: ApiMetrics,
        *,
        logs_requests: bool,
    ) -> None:
        self._app, self._routes, self._authenticator, self._metrics = app, routes, authenticator, metrics
        settings = app.state.context.settings
        self._limits = RequestLimits(
            self._handle, bytes_max=settings.request_bytes_max, seconds_max=settings.request_seconds_max
        )
        self._logs_requests = logs_requests
        self._request_ids: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; an error after the beginning of its answer ends the connection."""
        start = time.perf_counter()
        scope["app"] = self._app
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"], state["caller"] = self._request_id(), NO_CALLER
        request, is_started = Request(scope, receive), False

        async def send_noted(message: Message) -> None:
            nonlocal is_started
            if not is_started:
                is_started = True
                await self._note(request, message, start)
            await send(message)

        try:
            await self._serve(request, receive, send_noted)
        except Exception as error:
            if is_started:
                raise
            response = await _error_answer(request, error)
            await response(scope, receive, send_noted)

    async def _serve(self, request: Request, receive: Receive, send: Send) -> None:
        scope = request.scope
        path: str = scope["path"]
        if len(path) > 1 and path.endswith("/"):
            # Some clients write /configurations/?top=… (contract/hub.md §1.1).
            scope["path"] = path.rstrip("/") or "/"
        # Once for all lookups: the framework decodes all headers for each. Of a header sent twice, the first counts, as there.
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}
        route = scope["state"]["route"] = self._route_of(scope, headers)
        # Authentication comes first: nothing of a body is read before it.
        address = scope["client"][0] if scope.get("client") else ""
        scope["state"]["caller"] = await self._authenticator.admit(route, headers, address=address)
        # Parsing the query of every request costs more than this test of its bytes.
        if b"at=" in scope["query_string"] and "at" in request.query_params:
            self._check_point_in_time(route)
        await self._limits(scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the handler of a request, within a turn of its caller."""
        route: RouteMatch = scope["state"]["route"]
        if route.handler is None:
            raise HTTPException(METHOD_NOT_ALLOWED if route.path_exists else NOT_FOUND)
        scope["path_params"], scope["route"] = route.path_params, route.handler.route
        scope["fastapi_middleware_astack"] = _NO_FILES
        try:
            await route.handler.app(scope, receive, send)
        except DryRunDone as done:
            request = Request(scope, receive)
            response = await run_in_threadpool(answer_to, request, done.preview)
            await response(scope, receive, send)

    def _request_id(self) -> str:
        if not self._request_ids:
            # Each system call lets another thread compute, for which the event loop would wait with every request.
            random = os.urandom(8 * _REQUEST_IDS_AT_ONCE)
            self._request_ids = [random[start : start + 8].hex() for start in range(0, len(random), 8)]
        return self._request_ids.pop()

    def _route_of(self, scope: Scope, headers: Mapping[str, str]) -> RouteMatch:
        """The route of a request, whose method is that of the header for a POST."""
        override = headers.get(_OVERRIDE_HEADER)
        if override is not None and override.upper() != scope["method"]:
            if scope["method"] != "POST" or override.upper() not in _OVERRIDES:
                allowed = f"{', '.join(_OVERRIDES)} and goes with POST alone"
                raise BodyInvalid(f"{_OVERRIDE} takes {allowed}, not {override[:20]!r} with {scope['method']}")
            scope["method"] = override.upper()
        # Not `request.url`: that is made from the header Host, too, and parsed by other rules.
        path: str = scope["path"]
        if _UNREADABLE.search(path):
            raise BodyInvalid("a path has no control characters")
        return self._routes.match(scope["method"], path)

    def _check_point_in_time(self, route: RouteMatch) -> None:
        """Reject `at` where a route cannot answer as of then."""
        # An unknown path or method is a 404 or 405 with `at`, too. A device can have the name of a path, as `query`.
        is_known = route.device_id is not None or route.method in self._routes.methods(route.path)
        if route.exists and isinstance(route.access.at, str) and is_known:
            default = "this path has no past" if route.method == "GET" else "the past is read, and not changed"
            raise NotInThePast(route.access.at or default)

    async def _note(self, request: Request, message: Message, start: float) -> None:
        """Count and log a request whose answer begins, and settle its key; its headers are added to the message."""
        state, status = request.scope["state"], message["status"]
        # A key that cannot be settled is recognised by the ids of its commands, which are in the log.
        with contextlib.suppress(LogUnavailable):
            await settle_key(request, status)
        seconds = time.perf_counter() - start
        headers = [*message.get("headers", ()), (_REQUEST_ID, state["request_id"].encode())]
        as_of: str | None = state.get("as_of")
        if as_of is not None and status < BAD_REQUEST.status:
            headers.append((_AS_OF, as_of.encode("latin-1")))
        preview_request: PreviewRequest | None = state.get("preview_request")
        if preview_request is not None and preview_request.between is not None:
            headers.append((_BETWEEN, preview_request.between.encode("latin-1")))
        message["headers"] = headers
        method = request.scope["method"]
        self._metrics.note(method if method in _METHODS else "other", status, seconds)
        if self._logs_requests:
            logger.info(
                "request",
                id=state["request_id"],
                principal=str(state["caller"].principal),
                method=method,
                path=request.scope["path"],
                status=status,
                milliseconds=round(1000 * seconds, 1),
            )


async def _error_answer(request: Request, error: Exception) -> Response:
    if isinstance(error, EXPECTED):
        return await rejected(request, error)
    if isinstance(error, RequestValidationError):
        return await invalid(request, error)
    if isinstance(error, HTTPException):
        return await rejected_by_framework(request, error)
    return failed(request, error)
