"""`GET /v1/stream`: what happens, as it happens."""

import functools
from typing import Annotated, Literal

from fastapi import Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from events.access.permissions import Permission
from events.canonical import JsonObject
from events.device.errors import DeviceNotFound
from events.log.kinds import KINDS, RESTRICTED_KINDS
from events.notification.event_filter import EventFilter
from events.notification.positions import Positions, decode
from services.api.auth.authentication import Authenticator
from services.api.auth.permissions import lacking
from services.api.context.callers import Caller
from services.api.context.followers import Followers
from services.api.context.request import caller_of, context_of, in_turn
from services.api.http.access import REGISTRY_READ, SERVICE_CONNECT, Access
from services.api.http.errors import BodyInvalid, Forbidden, Unauthorized
from services.api.http.request_costs import NO_WORK
from services.api.v1.router import v1_router

NAMES_MAX = 100

router = v1_router()

Names = Annotated[list[str] | None, Query(max_length=NAMES_MAX)]
_RESTRICTED = frozenset({Permission.ADMIN})
_ANSWER: JsonObject = {
    "description": "Server-sent events without an end, or to the heads.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


class EventStream(StreamingResponse):
    """Server-sent events; nobody on the way should keep them or hold them back."""

    media_type = "text/event-stream"


@router.get("/stream", response_class=Response, responses={200: _ANSWER})
@Access(REGISTRY_READ | SERVICE_CONNECT, at="a stream tells what comes; `after` begins it in the past", cost=NO_WORK)
async def stream(
    request: Request,
    *,
    kind: Names = None,
    deployment: Names = None,
    device: Names = None,
    after: Annotated[str | None, Query(description="The id of the last event that you have.")] = None,
    start: Annotated[Literal["now", "start"], Query(alias="from", description="Where to begin without an id.")] = "now",
    follow: Annotated[bool, Query(description="Go on at the end.", examples=[False])] = True,
    last_event_id: Annotated[str | None, Header(description="As `after`, and before it.")] = None,
) -> EventStream:
    """Events and assignment changes as server-sent events, each a CloudEvent: those of a kind, about a deployment or a device.

    Each stream comes in its order. The id of an event says how far one has come in all of them.
    """
    context, streams = context_of(request), _streams(request)
    kinds = _kinds(kind or [], caller_of(request))
    heads = await in_turn(request, streams.heads)
    positions = _begin(last_event_id or after, start, heads, epoch=context.log.epoch)
    wanted = EventFilter(streams.ordinals, kinds=kinds, deployments=deployment or [], devices=device or [])

    async def still_allowed() -> bool:
        authenticator: Authenticator = request.app.state.authenticator
        try:
            caller = await authenticator.admit_still(request.state.route, request.headers)
        except (Unauthorized, Forbidden, DeviceNotFound):
            return False
        return caller.may(_RESTRICTED) or kinds.isdisjoint(RESTRICTED_KINDS)

    parts = streams.follow(
        positions,
        heads,
        wanted.includes,
        still_allowed=still_allowed,
        in_turn=functools.partial(in_turn, request),
        for_ever=follow,
    )
    return EventStream(parts, headers={"cache-control": "no-store", "x-accel-buffering": "no"})


def _streams(request: Request) -> Followers:
    streams: Followers = request.app.state.followers
    return streams


def _kinds(asked: list[str], caller: Caller) -> frozenset[str]:
    """The kinds that a caller is told of: those asked for, or all that are theirs."""
    unknown = sorted(set(asked) - KINDS)
    if unknown:
        raise BodyInvalid(f"kind: there is no {unknown[0][:80]!r}; there are {', '.join(sorted(KINDS))}")
    if caller.may(_RESTRICTED):
        return frozenset(asked) or KINDS
    if not RESTRICTED_KINDS.isdisjoint(asked):
        raise Forbidden(lacking(_RESTRICTED, caller.permissions))
    return frozenset(asked) or KINDS - RESTRICTED_KINDS


def _begin(given: str | None, start: str, heads: Positions, *, epoch: str) -> Positions:
    if given:
        return decode(given, epoch=epoch, heads=heads)
    return (0,) * len(heads) if start == "start" else heads
