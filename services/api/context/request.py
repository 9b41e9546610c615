"""What handlers read from their request, and the write of a command for its caller."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from events.deployment.advice import Advice
from events.device.errors import DeviceNotFound
from events.producer.errors import Command
from events.projection_store.fleet_projection import Within
from services.api.context.api_context import ApiContext
from services.api.context.batch_writer import BatchWriter
from services.api.context.callers import Author, Caller, ListPage, PreviewRequest, within_scope
from services.api.context.device_reader import DeviceReader
from services.api.context.pages import PAGE_MAX
from services.api.http.errors import BodyInvalid
from services.api.http.turns import Fairness, RequestKind

P = ParamSpec("P")
R = TypeVar("R")

PREVIEW_HEADER = "Twinfold-Preview"
BETWEEN_HEADER = "Twinfold-Preview-Between"
"""The positions of the events since the preview whose token a write carries, as in `fleet:18-19 p03:12-40`, or `none`."""

_YES, _NO = frozenset({"true", "1"}), frozenset({"false", "0"})


def context_of(request: Request) -> ApiContext:
    """The process's context; for a request with `at`, that of the point in time."""
    past: ApiContext | None = getattr(request.state, "past_context", None)
    present: ApiContext = request.app.state.context
    return present if past is None else past


def writer_of(request: Request) -> BatchWriter:
    """The process's writer."""
    writer: BatchWriter = request.app.state.writer
    return writer


def reader_of(request: Request) -> DeviceReader:
    """The process's reader of devices."""
    reader: DeviceReader = request.app.state.reader
    return reader


def caller_of(request: Request) -> Caller:
    """The caller that authentication admitted."""
    caller: Caller = request.state.caller
    return caller


def reach_of(request: Request) -> Within | None:
    """The ordinals that the caller reaches, by partition; `None` for all devices."""
    return within_scope(context_of(request).query_engine, caller_of(request).scope)


def author_of(request: Request) -> Author:
    """The caller as the author of events."""
    caller = caller_of(request)
    return Author(
        caller.principal, caller.scope, preview_request_of(request), getattr(request.state, "command_key", None)
    )


def write(request: Request, command: Command) -> tuple[Advice, ...]:
    """Write a command for the caller, and return advice on it.

    Raises:
        As `ApiContext.do`.
    """
    return context_of(request).do(command, author_of(request))


def existing(device_id: str, value: R | None) -> R:
    """A value that was read of a device.

    Raises:
        DeviceNotFound: it is `None`, because the device does not exist, or not yet in the projections.
    """
    if value is None:
        raise DeviceNotFound(device_id)
    return value


def preview_request_of(request: Request) -> PreviewRequest | None:
    """What a request asks of previews, `None` for a plain write; BodyInvalid if `preview` or `top` is invalid."""
    text, token = request.query_params.get("preview", "false"), request.headers.get(PREVIEW_HEADER, "")
    if text not in _YES | _NO:
        raise BodyInvalid(f"preview is true or false, not {text[:40]!r}")
    if text not in _YES and not token:
        return None
    preview_request = PreviewRequest(is_dry_run=text in _YES, token=token, page=page_of(request))
    request.state.preview_request = preview_request
    return preview_request


async def in_turn(request: Request, read: Callable[P, R], *args: P.args, **named: P.kwargs) -> R:
    """Read in a thread, in one of the caller's turns; for handlers that wait without a turn."""
    fairness: Fairness = request.state.fairness
    async with fairness.turn(str(caller_of(request).principal), RequestKind.READ):
        return await run_in_threadpool(read, *args, **named)


def page_of(request: Request) -> ListPage | None:
    """The page of a preview's list that is asked for, `None` for the preview; BodyInvalid if `top` is not 1 to 1000."""
    query = request.query_params
    if "list" not in query:
        return None
    top = query.get("top", "100")
    if not (top.isascii() and top.isdigit() and 1 <= int(top[:9]) <= PAGE_MAX):
        raise BodyInvalid(f"top is a number from 1 to {PAGE_MAX}, not {top[:40]!r}")
    return ListPage(query["list"], int(top), query.get("continuation"))
