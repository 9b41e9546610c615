"""`/v1/blocked`: where partitions are stopped, what stands there, and the decision to go on."""

import msgspec
from fastapi import Request

from events.projection_store.stopped import Stop, StopChoice, StoppedEntry, details, stops
from services.api.context.api_context import ApiContext
from services.api.context.request import author_of, context_of
from services.api.http.access import ADMIN, REGISTRY_READ, Access
from services.api.http.errors import NotFound
from services.api.http.json_answer import AnswerBody
from services.api.http.path_names import StopName
from services.api.v1.bodies import DecisionBody
from services.api.v1.router import v1_router

router = v1_router(
    read=Access(REGISTRY_READ, at="where workers are stopped is not part of the log"),
    # Going on without an event changes what history means.
    write=Access(ADMIN),
)


class StopAnswer(AnswerBody):
    """A place that partitions are stopped at, since a time in milliseconds, and how many events each has behind it.

    One that is not `decidable` waits for events that are missing, and goes on by itself when they are back.
    """

    location: str
    error: str
    since: int
    decidable: bool
    waiting: dict[str, int]


class StopDetailsAnswer(StopAnswer):
    """A stop with its entry, the first devices with events behind it, and how many devices get no new decisions."""

    entry: StoppedEntry | None
    subjects: tuple[str, ...]
    subjects_total: int
    devices: int
    choices: tuple[StopChoice, ...]


@router.get("/blocked")
def list_blocked(request: Request) -> list[StopAnswer]:
    """The places that partitions are stopped at; none where all is well."""
    context = context_of(request)
    return [_answer(stop) for stop in stops(context.log, context.projections)]


@router.get("/blocked/{location}")
def show_blocked(request: Request, location: StopName) -> StopDetailsAnswer:
    """What stands there, without secrets; who wrote it and when; who waits behind it; what each decision leads to."""
    context = context_of(request)
    found = details(context.client, context.projections, _at(context, location))
    return StopDetailsAnswer(
        **msgspec.structs.asdict(_answer(found.stop)),
        entry=found.entry,
        subjects=found.subjects,
        subjects_total=found.subjects_total,
        devices=found.devices,
        choices=found.choices,
    )


@router.post("/blocked/{location}", status_code=202)
def decide(request: Request, location: StopName, body: DecisionBody) -> StopAnswer:
    """Record a decision: `skip` goes on without the event for good, `retry` tries it again, as after an upgrade."""
    context = context_of(request)
    stop = _at(context, location)
    with context.producer(author_of(request)) as producer:
        record = producer.skip if body.decision == "skip" else producer.retry
        record(stop.stream, stop.position, reason=body.reason)
    return _answer(stop)


def _at(context: ApiContext, location: str) -> Stop:
    for one in stops(context.log, context.projections):
        if one.location == location:
            return one
    raise NotFound(f"nobody is stopped at {location[:40]!r}")


def _answer(stop: Stop) -> StopAnswer:
    return msgspec.convert(stop, StopAnswer, from_attributes=True)
