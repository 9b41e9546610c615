"""`/v1/blocked`: where partitions are stopped, what stands there, and the decision to go on."""

import msgspec
from fastapi import Request

from events.canonical import JsonObject
from events.view_store.stopped import Details, Stop, details, stops
from services.api.context.api_context import Room
from services.api.context.request import author_of, room_of
from services.api.http.access import ADMIN, REGISTRY_READ, Access
from services.api.http.errors import NotFound
from services.api.http.openapi import answers
from services.api.http.path_names import StopName
from services.api.v1 import described
from services.api.v1.bodies import DecisionBody
from services.api.v1.router import v1_router

router = v1_router(
    read=Access(REGISTRY_READ, at="where workers are stopped is not part of the log"),
    # Going on without a fact changes what history means.
    write=Access(ADMIN),
)


@router.get("/blocked", response_model=None, responses=answers(list[described.Stopped]))
def list_blocked(request: Request) -> list[JsonObject]:
    """The places that partitions are stopped at; none where all is well."""
    room = room_of(request)
    return [_line(one) for one in stops(room.log, room.views)]


@router.get("/blocked/{place}", response_model=None, responses=answers(described.StoppedDetails))
def show_blocked(request: Request, place: StopName) -> JsonObject:
    """What stands there, without secrets; who wrote it and when; who waits behind it; what each decision leads to."""
    room = room_of(request)
    return _details(details(room.client, room.views, _at(room, place)))


@router.post("/blocked/{place}", status_code=202, response_model=None, responses=answers(described.Stopped, 202))
def decide(request: Request, place: StopName, body: DecisionBody) -> JsonObject:
    """Record a decision: `leaveOut` goes on without the fact for good, `retry` tries it again, as after an upgrade."""
    room = room_of(request)
    stop = _at(room, place)
    with room.producer(author_of(request)) as producer:
        record = producer.leave_out if body.decision == "leaveOut" else producer.look_again
        record(stop.stream, stop.position, reason=body.reason)
    return _line(stop)


def _at(room: Room, place: str) -> Stop:
    for one in stops(room.log, room.views):
        if one.place == place:
            return one
    raise NotFound(f"nobody is stopped at {place[:40]!r}")


def _line(stop: Stop) -> JsonObject:
    return {
        "place": stop.place,
        "error": stop.error,
        "since": stop.since,
        "decidable": stop.decidable,
        "waiting": stop.waiting,
    }


def _details(found: Details) -> JsonObject:
    return {
        **_line(found.stop),
        "entry": None if found.entry is None else msgspec.to_builtins(found.entry),
        "subjects": list(found.subjects),
        "subjectsTotal": found.subjects_total,
        "devices": found.devices,
        "choices": [msgspec.to_builtins(choice) for choice in found.choices],
    }
