"""Requests with `at`: the point in time that they name, and the context that answers as of then."""

import threading
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Query, Request

from events.device.errors import DeviceNotFound
from events.envelope import Envelope
from events.history.documents import PastDocuments
from events.history.log_at import LogAt
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


class PastRead(msgspec.Struct, frozen=True):
    """The context and point in time of a request with `at`, and the streams that its answer depends on."""

    context: ApiContext
    point_in_time: PointInTime
    streams: tuple[int, ...]

    @property
    def text(self) -> str:
        """The value of the header `Twinfold-As-Of`."""
        return self.point_in_time.text(self.streams)


class PastContexts:
    """Contexts of the past, over what the process replayed of it."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._lock = threading.Lock()

    def context_at(self, point_in_time: PointInTime, mode: Mode = "in-effect") -> ApiContext:
        """The context as of a point in time. Cheap: partitions are replayed when something is read from them.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        context = self._context
        with self._lock:
            partitions, documents = self._partitions, self._documents
        fleet = partitions.replay.fleet_events()
        log = LogAt(context.log, point_in_time, documents, fleet)
        return context.as_of(
            point_in_time, log, ProjectionsAt(context.projections, point_in_time, partitions, implied=mode == "implied")
        )

    def point_in_time(self, text: str) -> PointInTime:
        """The point in time that a text names.

        Raises:
            PointInTimeInvalid, PointInTimeAhead, PointInTimeTooEarly, LogUnavailable: as `point_in_time_of`.
        """
        return point_in_time_of(text, self._context.log, now=self._context.clock())

    def now(self) -> PointInTime:
        """The current point in time.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        now = self._context.clock()
        return PointInTime(now, dict(self._context.log.heads()), now)

    def fleet_events(self, after: int, upto: int) -> Sequence[Envelope[Any]]:
        """The fleet's events at positions after + 1 to `upto`, without those that an operator skipped.

        Raises:
            UnreadableEvent, LogLostItsTail, LogUnavailable: as `FleetEventReader.upto`.
        """
        fleet = self._fleet_events()
        skipped = fleet.skipped(FLEET)
        return [envelope for envelope in fleet.upto(upto, after=after) if envelope.position not in skipped]

    def skipped(self, stream: int) -> Collection[int]:
        """The positions of a stream that an operator skipped.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        return self._fleet_events().skipped(stream)

    def _fleet_events(self) -> FleetEventReader:
        with self._lock:
            partitions = self._partitions
        return partitions.replay.fleet_events()

    @cached_property
    def _snapshots(self) -> Snapshots | None:
        try:
            object_store = ObjectStore(self._context.settings.effective_archive_url)
            return Snapshots(object_store, self._context.streams, epoch=self._context.log.epoch)
        except ObjectStoreUnavailable:
            # Snapshots only shorten a replay; the log has everything that the archive does not.
            return None

    @cached_property
    def _partitions(self) -> PastPartitions:
        replay = PastReplay(self._context.log, self._context.projections, self._snapshots)
        return PastPartitions(replay, bytes_max=self._context.settings.history_memory_mib << 20)

    @cached_property
    def _documents(self) -> PastDocuments:
        return PastDocuments(self._context.log, self._context.streams, self._snapshots)


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


def answer_as_of(request: Request, at: At = None, mode: AtMode = "in-effect") -> None:
    """Give a request with `at` the context of that point in time.

    Raises:
        PointInTimeInvalid, PointInTimeAhead, PointInTimeTooEarly: `at` names no point in time that can be answered.
        BodyInvalid: it has `wait` as well.
        DeviceNotFound: the caller is limited to some devices, and did not reach this one then.
        LogUnavailable: Redis does not answer.
    """
    if at is None:
        return
    if "wait" in request.query_params:
        raise BodyInvalid(
            "`wait` and `at` exclude each other: `wait` is for the next change, `at` for a time in the past"
        )
    past: PastContexts = request.app.state.past
    caller: Caller = request.state.caller
    point_in_time = past.point_in_time(at)
    context = past.context_at(point_in_time, mode)
    device_id = request.path_params.get("device_id")
    streams = tuple(point_in_time.positions)
    if device_id is not None:
        streams = (FLEET, partition_of(device_id, context.log.partitions))
        keep_within(request.app.state.context, context, caller, device_id)
    request.state.past_read = PastRead(context, point_in_time, streams)


def keep_within(live: ApiContext, context: ApiContext, caller: Caller, device_id: str) -> None:
    """Reject a device that a limited caller did not reach in `context`. Authentication checked that they reach it now.

    Raises:
        DeviceNotFound: it was outside their scope, or was registered again since.
    """
    if caller.scope is None and caller.device_id is None:
        return
    # A device that was registered again under an id is another device, whose past is not the caller's.
    then, now = (each.log.load([device_id])[0].head.generation for each in (context, live))
    if then != now or (caller.scope is not None and not context.reaches(caller.scope, device_id)):
        raise DeviceNotFound(device_id)
