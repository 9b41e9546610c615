"""Handlers are called with the values, and answer as, FastAPI itself would: each request is sent to both."""

import asyncio
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Body, Cookie, Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from services.api.http.handler_call import HandlerCall, RouteUnsupported
from services.api.http.json_answer import JsonAnswer


class _Tags(BaseModel):
    site: str
    floor: int = 0


def first(request: Request, limit: Annotated[int, Query(ge=1)] = 5) -> int:
    request.state.calls = [*getattr(request.state, "calls", ()), "first"]
    return limit


async def second(
    request: Request, limit: Annotated[int, Depends(first)], word: Annotated[str | None, Header()] = None
) -> str:
    request.state.calls.append("second")
    return f"{limit} {word}"


def read(
    request: Request,
    response: Response,
    name: Annotated[str, Path(max_length=5)],
    limit: Annotated[int, Depends(first)],
    both: Annotated[str, Depends(second)],
    *,
    label: Annotated[list[str] | None, Query()] = None,
    flag: bool = False,
) -> dict[str, Any]:
    response.headers["x-name"], response.status_code = name, 203 if flag else None
    return {"name": name, "limit": limit, "both": both, "label": label, "flag": flag, "calls": request.state.calls}


async def write(body: _Tags, if_match: Annotated[str | None, Header()] = None) -> JsonAnswer[Any]:
    return JsonAnswer({"body": body.model_dump(), "if_match": if_match}, 201)


def write_anything(body: Annotated[Any, Body()] = None) -> list[Any]:
    return [body.decode() if isinstance(body, bytes) else body]


def forget(name: str) -> None:
    assert name


async def text(request: Request) -> PlainTextResponse:
    return PlainTextResponse((await request.body()).decode() or "nothing")


def application() -> FastAPI:
    app = FastAPI(default_response_class=JsonAnswer)
    options: dict[str, Any] = {"response_model": None}
    app.add_api_route("/things/{name}", read, **options)
    app.add_api_route("/things/{name}", forget, methods=["DELETE"], status_code=204, **options)
    app.add_api_route("/tags", write, methods=["PATCH"], **options)
    app.add_api_route("/anything", write_anything, methods=["POST"], status_code=202, **options)
    app.add_api_route("/text", text, methods=["POST"], **options)
    return app


def called_directly(app: FastAPI) -> ASGIApp:
    calls = [
        (context.path_regex, context.methods, HandlerCall(context))
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute)
    ]

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        for pattern, methods, call in calls:
            match = pattern.match(scope["path"])
            if match is not None and scope["method"] in methods:
                await call({**scope, "path_params": match.groupdict()}, receive, send)

    # Inside the framework's own handling of errors, which our pipeline has in another form.
    app.router.middleware_stack = serve
    return app


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("GET", "/things/a", {}),
        ("GET", "/things/a?limit=7&label=x&label=y&flag=1&limit=8", {"headers": {"word": "w"}}),
        ("GET", "/things/a?limit=0", {}),
        ("GET", "/things/a?limit=x&flag=maybe", {}),
        ("GET", "/things/abcdef?limit=", {}),
        ("DELETE", "/things/a", {}),
        ("PATCH", "/tags", {"json": {"site": "north", "floor": 2}, "headers": {"if-match": '"a"'}}),
        ("PATCH", "/tags", {"json": {"floor": "x"}}),
        ("PATCH", "/tags", {"content": b'{"site": "a"}', "headers": {"content-type": "application/merge-patch+json"}}),
        ("PATCH", "/tags", {"content": b'{"site": "a"}', "headers": {"content-type": "text/plain"}}),
        ("PATCH", "/tags", {"content": b'{"site": "a"}'}),
        ("PATCH", "/tags", {"content": b'{"site": ', "headers": JSON}),
        ("PATCH", "/tags", {"content": b'{"site": "\xff"}', "headers": JSON}),
        ("PATCH", "/tags", {"content": b"null", "headers": JSON}),
        ("PATCH", "/tags", {}),
        ("POST", "/anything", {}),
        ("POST", "/anything", {"content": b"null", "headers": JSON}),
        ("POST", "/anything", {"content": b'["\\ud800"]', "headers": JSON}),
        ("POST", "/anything", {"content": b"plain"}),
        ("POST", "/text", {"content": b"plain"}),
    ],
)
def test_a_direct_call_answers_as_the_framework_does(method: str, path: str, options: dict[str, Any]) -> None:
    async def answers() -> list[tuple[int, bytes, list[tuple[str, str]]]]:
        both = []
        for app in (application(), called_directly(application())):
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                answer = await client.request(method, path, **options)
                both.append((answer.status_code, answer.content, answer.headers.multi_items()))
        return both

    of_framework, of_call = asyncio.run(answers())
    assert of_call == of_framework


def with_cookie(session: Annotated[str, Cookie()] = "") -> None: ...
def with_two_bodies(site: Annotated[int, Body()], floor: Annotated[int, Body()]) -> None: ...
def with_cleanup(cleaned: Annotated[None, Depends(lambda: (yield))]) -> None: ...
def with_connection(connection: HTTPConnection) -> None: ...
def without_cache(limit: Annotated[int, Depends(first, use_cache=False)]) -> None: ...


@pytest.mark.parametrize("handler", [with_cookie, with_two_bodies, with_cleanup, with_connection, without_cache])
def test_what_only_the_framework_can_serve_is_refused_at_the_start(handler: Any) -> None:
    app = FastAPI()
    app.add_api_route("/", handler, methods=["POST"], response_model=None)
    (context,) = [route for route in iter_route_contexts(app.routes) if route.endpoint is handler]
    with pytest.raises(RouteUnsupported):
        HandlerCall(context)
