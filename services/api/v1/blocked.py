"""`/v1/blocked`: where partitions are stopped, what stands there, and the decision to go on."""

import msgspec
from fastapi import Request

from events.view_store.stopped import Choice, Entry, Stop, details, stops
from services.api.context.api_context import Room
from services.api.context.request import author_of, room_of
from services.api.http.access import ADMIN, REGISTRY_READ, Access
from services.api.http.errors import NotFound
from services.api.http.json_answer import AnswerBody
from services.api.http.path_names import StopName
from services.api.v1.bodies import DecisionBody
from services.api.v1.router import v1_router

router = v1_router(
    read=Access(REGISTRY_READ, at="where workers are stopped is not part of the log"),
    # Going on without a fact changes what history means.
    write=Access(ADMIN),
)


class StopAnswer(AnswerBody):
    """A place that partitions are stopped at, since a time in milliseconds, and how many facts each has behind it.

    One that is not `decidable` waits for facts that are missing, and goes on by itself when they are back.
    """

    place: str
    error: str
    since: int
    decidable: bool
    waiting: dict[str, int]


class StopDetailsAnswer(StopAnswer):
    """A stop with its entry, the first devices with facts behind it, and how many devices get no new decisions."""

    entry: Entry | None
    subjects: tuple[str, ...]
    subjects_total: int
    devices: int
    choices: tuple[Choice, ...]


@router.get("/blocked")
def list_blocked(request: Request) -> list[StopAnswer]:
    """The places that partitions are stopped at; none where all is well."""
    room = room_of(request)
    return [_answer(stop) for stop in stops(room.log, room.views)]


@router.get("/blocked/{place}")
def show_blocked(request: Request, place: StopName) -> StopDetailsAnswer:
    """What stands there, without secrets; who wrote it and when; who waits behind it; what each decision leads to."""
    room = room_of(request)
    found = details(room.client, room.views, _at(room, place))
    return StopDetailsAnswer(
        **msgspec.structs.asdict(_answer(found.stop)),
        entry=found.entry,
        subjects=found.subjects,
        subjects_total=found.subjects_total,
        devices=found.devices,
        choices=found.choices,
    )


@router.post("/blocked/{place}", status_code=202)
def decide(request: Request, place: StopName, body: DecisionBody) -> StopAnswer:
    """Record a decision: `leaveOut` goes on without the fact for good, `retry` tries it again, as after an upgrade."""
    room = room_of(request)
    stop = _at(room, place)
    with room.producer(author_of(request)) as producer:
        record = producer.leave_out if body.decision == "leaveOut" else producer.look_again
        record(stop.stream, stop.position, reason=body.reason)
    return _answer(stop)


def _at(room: Room, place: str) -> Stop:
    for one in stops(room.log, room.views):
        if one.place == place:
            return one
    raise NotFound(f"nobody is stopped at {place[:40]!r}")


def _answer(stop: Stop) -> StopAnswer:
    return msgspec.convert(stop, StopAnswer, from_attributes=True)
