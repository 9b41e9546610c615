"""`/v1/blocked`: the events that partitions are stopped at, and the decisions on them."""

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
    # To skip an event changes what devices run, in every replay from then on (decision 0009).
    write=Access(ADMIN),
)


class StopAnswer(AnswerBody):
    """A position that partitions are stopped at since `since` (milliseconds). `waiting` has the events behind it by partition.

    A stop that is not `decidable` waits for missing events, and continues without a decision when they are back.
    """

    location: str
    error: str
    since: int
    decidable: bool
    waiting: dict[str, int]


class StopDetailsAnswer(StopAnswer):
    """A stop with its entry, the first subjects with events behind it, and the number of devices that get no decisions."""

    entry: StoppedEntry | None
    subjects: tuple[str, ...]
    subjects_total: int
    devices: int
    choices: tuple[StopChoice, ...]


@router.get("/blocked")
def list_blocked(request: Request) -> list[StopAnswer]:
    """The positions that partitions are stopped at; empty if no partition is stopped."""
    context = context_of(request)
    return [StopAnswer.filled(stop) for stop in stops(context.log, context.projections)]


@router.get("/blocked/{location}")
def show_blocked(request: Request, location: StopName) -> StopDetailsAnswer:
    """The entry without secrets, its author and time, the subjects that wait behind it, and the effect of each decision."""
    context = context_of(request)
    stop_details = details(context.client, context.projections, _at(context, location))
    stop = StopAnswer.filled(stop_details.stop)
    return StopDetailsAnswer.filled(stop_details, **msgspec.structs.asdict(stop))


@router.post("/blocked/{location}", status_code=202)
def decide(request: Request, location: StopName, body: DecisionBody) -> StopAnswer:
    """Record a decision: `skip` leaves the event out for good, `retry` applies it again, for example after an upgrade."""
    context = context_of(request)
    stop = _at(context, location)
    with context.producer(author_of(request)) as producer:
        record = producer.skip if body.decision == "skip" else producer.retry
        record(stop.stream, stop.position, reason=body.reason)
    return StopAnswer.filled(stop)


def _at(context: ApiContext, location: str) -> Stop:
    for stop in stops(context.log, context.projections):
        if stop.location == location:
            return stop
    raise NotFound(f"no partition is stopped at {location[:40]!r}; GET /v1/blocked lists the stops")
