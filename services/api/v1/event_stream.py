"""`GET /v1/stream`: events and assignment changes as server-sent events, as soon as they are written."""

import functools
from typing import Annotated, Literal

from fastapi import Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from events.access.permissions import Permission
from events.canonical import JsonObject
from events.device.errors import DeviceNotFound
from events.log.port import KINDS, RESTRICTED_KINDS
from events.notification.event_filter import EventFilter
from events.notification.positions import decode
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
    "description": "Server-sent events, without an end or up to the newest event.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


@router.get("/stream", response_class=Response, responses={200: _ANSWER})
@Access(REGISTRY_READ | SERVICE_CONNECT, at="a stream has events to come; `after` begins it in the past", cost=NO_WORK)
async def stream(
    request: Request,
    *,
    kind: Names = None,
    deployment: Names = None,
    device: Names = None,
    after: Annotated[str | None, Query(description="The id of the last event that you have.")] = None,
    start: Annotated[Literal["now", "start"], Query(alias="from", description="Where to begin without an id.")] = "now",
    follow: Annotated[bool, Query(description="Wait for new events at the end.", examples=[False])] = True,
    last_event_id: Annotated[str | None, Header(description="As `after`, which it overrides.")] = None,
) -> StreamingResponse:
    """Events and assignment changes as server-sent events, filtered by kind, deployment and device. Each is a CloudEvent.

    The events of each stream are in order. The id of an event has the positions in all streams.
    """
    followers: Followers = request.app.state.followers
    kinds = _kinds(kind or [], caller_of(request))
    heads = await in_turn(request, followers.heads)
    positions = (0,) * len(heads) if start == "start" else heads
    if event_id := last_event_id or after:
        positions = decode(event_id, epoch=context_of(request).log.epoch, heads=heads)
    event_filter = EventFilter(followers.ordinals, kinds=kinds, deployments=deployment or [], devices=device or [])

    # Asked again before each part: a stream can last for days, and a revoked token must not follow on (decision 0022).
    async def still_allowed() -> bool:
        authenticator: Authenticator = request.app.state.authenticator
        try:
            caller = await authenticator.admit_still(request.state.route, request.headers)
        except (Unauthorized, Forbidden, DeviceNotFound):
            return False
        return caller.may(_RESTRICTED) or kinds.isdisjoint(RESTRICTED_KINDS)

    turns = functools.partial(in_turn, request)
    includes = event_filter.includes
    parts = followers.follow(positions, heads, includes, still_allowed=still_allowed, in_turn=turns, for_ever=follow)
    # Without the second header nginx would hold events back until a buffer is full.
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(parts, media_type="text/event-stream", headers=headers)


def _kinds(requested: list[str], caller: Caller) -> frozenset[str]:
    """The requested kinds, or all kinds that the caller may read."""
    unknown = sorted(set(requested) - KINDS)
    if unknown:
        raise BodyInvalid(f"kind: there is no {unknown[0][:80]!r}; there are {', '.join(sorted(KINDS))}")
    if caller.may(_RESTRICTED):
        return frozenset(requested) or KINDS
    if not RESTRICTED_KINDS.isdisjoint(requested):
        raise Forbidden(lacking(_RESTRICTED, caller.permissions))
    return frozenset(requested) or KINDS - RESTRICTED_KINDS
