"""Requests with `at`: the point in time that they name, and the context that answers as of then."""

import threading
from functools import cached_property
from typing import Annotated, Literal

from fastapi import Query, Request
from starlette.concurrency import run_in_threadpool

from events.device.errors import DeviceNotFound
from events.history.log_at import LogAt, PastDocuments
from events.history.point_in_time import PointInTime, point_in_time_of
from events.history.projections_at import PastPartitions, PastReplay, ProjectionsAt
from events.history.snapshots import Snapshots
from events.log.errors import ObjectStoreUnavailable
from events.log.fleet_events import FleetEventReader
from events.log.keys import FLEET, partition_of
from events.log.object_store import ObjectStore
from services.api.context.api_context import ApiContext
from services.api.context.callers import Caller
from services.api.http.errors import BodyInvalid

AS_OF = "Twinfold-As-Of"
"""The header that names the point in time of an answer."""

Mode = Literal["in-effect", "implied"]


class PastContexts:
    """Contexts of the past, over what the process replayed of it. Methods raise LogUnavailable if Redis does not answer."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._lock = threading.Lock()

    def context_at(self, point_in_time: PointInTime, mode: Mode = "in-effect") -> ApiContext:
        """The context as of a point in time. Cheap: partitions are replayed when something is read from them."""
        context, (partitions, documents) = self._context, self._replayed()
        log = LogAt(context.log, point_in_time, documents, partitions.replay.fleet_events())
        projections = ProjectionsAt(context.projections, point_in_time, partitions, implied=mode == "implied")
        return context.as_of(point_in_time, log, projections)

    def point_in_time(self, text: str | None) -> PointInTime:
        """The point in time that a text names, `None` for now.

        Raises:
            As `point_in_time_of`.
        """
        log, now = self._context.log, self._context.clock()
        return PointInTime(now, dict(log.heads()), now) if text is None else point_in_time_of(text, log, now=now)

    def fleet_events(self) -> FleetEventReader:
        """The reader of the fleet's events, and of the positions that an operator skipped."""
        return self._replayed()[0].replay.fleet_events()

    def _replayed(self) -> tuple[PastPartitions, PastDocuments]:
        with self._lock:
            return self._opened

    @cached_property
    def _opened(self) -> tuple[PastPartitions, PastDocuments]:
        context = self._context
        try:
            object_store = ObjectStore(context.settings.effective_archive_url)
            snapshots = Snapshots(object_store, context.streams, epoch=context.log.epoch)
        except ObjectStoreUnavailable:
            # Snapshots only shorten a replay; the log has everything that the archive does not.
            snapshots = None
        replay = PastReplay(context.log, context.projections, snapshots)
        partitions = PastPartitions(replay, bytes_max=context.settings.history_memory_mib << 20)
        return partitions, PastDocuments(context.log, context.streams, snapshots)


AT_CHARACTERS_MAX = 16_384
"""Enough for the vector of a thousand partitions, and less than the 32 KiB that the request line and headers may have."""

AT_FORM = r"^[0-9A-Za-z:.,+\- ]*$"

At = Annotated[
    str | None,
    Query(
        max_length=AT_CHARACTERS_MAX,
        pattern=AT_FORM,
        description="Point in time of the answer: a time (RFC 3339, or milliseconds since 1970), positions (`fleet:17,p03:120`),"
        " or the header `Twinfold-As-Of` of an answer.",
    ),
]
AtMode = Annotated[
    Mode,
    Query(
        description="With `at`: `in-effect` is what workers had decided by then, `implied` is what the events up to then imply."
    ),
]


async def answer_as_of(request: Request, at: At = None, mode: AtMode = "in-effect") -> None:
    """Give a request with `at` the context of that point in time.

    Raises:
        PointInTimeInvalid, PointInTimeAhead, PointInTimeTooEarly: `at` names no point in time that can be answered.
        BodyInvalid: it has `wait` as well.
        DeviceNotFound: the caller is limited to some devices, and did not reach this one then.
        LogUnavailable: Redis does not answer.
    """
    # A coroutine: the framework runs a function in a thread, with or without `at`.
    if at is not None:
        await run_in_threadpool(_use_past_context, request, at, mode)


def _use_past_context(request: Request, at: str, mode: Mode) -> None:
    if "wait" in request.query_params:
        raise BodyInvalid(
            "`wait` and `at` exclude each other: `wait` is for the next change, `at` for a time in the past"
        )
    past: PastContexts = request.app.state.past
    caller: Caller = request.state.caller
    point_in_time = past.point_in_time(at)
    context = past.context_at(point_in_time, mode)
    streams = tuple(point_in_time.positions)
    device_id = request.path_params.get("device_id")
    if device_id is not None:
        streams = (FLEET, partition_of(device_id, context.log.partitions))
        # Authentication checked that a limited caller reaches the device now. A device that was registered again under an id is
        # another device, whose past is not the caller's.
        if caller.scope is not None or caller.device_id is not None:
            live: ApiContext = request.app.state.context
            then, now = (each.log.load([device_id])[0].head.generation for each in (context, live))
            if then != now or (caller.scope is not None and not context.reaches(caller.scope, device_id)):
                raise DeviceNotFound(device_id)
    request.state.past_context, request.state.as_of = context, point_in_time.text(streams)
