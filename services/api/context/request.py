"""What handlers want to know of their request."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from services.api.context.api_context import ApiContext
from services.api.context.batch_writer import BatchWriter
from services.api.context.callers import Author, Caller, ListPage, PreviewRequest
from services.api.context.pages import PAGE_MAX
from services.api.context.point_in_time import PastRead
from services.api.http.errors import BodyInvalid
from services.api.http.turns import Fairness, RequestKind

P = ParamSpec("P")
R = TypeVar("R")

PREVIEW_HEADER = "Twinfold-Preview"
BETWEEN_HEADER = "Twinfold-Preview-Between"
"""Where events came in since the token was given that a write came with, as in `fleet:18-19 p03:12-40`, or `none`."""

_YES, _NO = frozenset({"true", "1"}), frozenset({"false", "0"})


def context_of(request: Request) -> ApiContext:
    """The process's open ends; for a request that looks at the past, as they were then."""
    past_read: PastRead | None = getattr(request.state, "past_read", None)
    if past_read is not None:
        return past_read.context
    context: ApiContext = request.app.state.context
    return context


def writer_of(request: Request) -> BatchWriter:
    """The process's writer."""
    writer: BatchWriter = request.app.state.writer
    return writer


def caller_of(request: Request) -> Caller:
    """Whoever authentication let in."""
    caller: Caller = request.state.caller
    return caller


def author_of(request: Request) -> Author:
    """Whoever is behind the events that follow, whether they look first, and the key that the request came with."""
    caller = caller_of(request)
    return Author(caller.principal, caller.scope, asked_of(request), getattr(request.state, "command_key", None))


def asked_of(request: Request) -> PreviewRequest | None:
    """What a request says of previews.

    Raises:
        BodyInvalid: it cannot be told.
    """
    text, token = request.query_params.get("preview", "false"), request.headers.get(PREVIEW_HEADER, "")
    if text not in _YES | _NO:
        raise BodyInvalid(f"preview is true or false, not {text[:40]!r}")
    if text not in _YES and not token:
        return None
    asked = PreviewRequest(looks=text in _YES, token=token, page=page_of(request))
    request.state.asked = asked
    return asked


async def in_turn(request: Request, read: Callable[P, R], *args: P.args, **named: P.kwargs) -> R:
    """Read in a thread, in one of the caller's turns; for handlers that wait without one."""
    fairness: Fairness = request.state.fairness
    async with fairness.turn(str(caller_of(request).principal), RequestKind.READ):
        return await run_in_threadpool(read, *args, **named)


def page_of(request: Request) -> ListPage | None:
    """The page of a preview's list that a request asks for; `None` for the preview itself.

    Raises:
        BodyInvalid: `top` is no number from 1 to 1000.
    """
    query = request.query_params
    if "list" not in query:
        return None
    top = query.get("top", "100")
    if not (top.isascii() and top.isdigit() and 1 <= int(top[:9]) <= PAGE_MAX):
        raise BodyInvalid(f"top is a number from 1 to {PAGE_MAX}")
    return ListPage(query["list"], int(top), query.get("continuation"))
