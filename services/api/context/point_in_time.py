"""Requests that look at the past: what they ask for, and the room that answers them."""

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
from events.history.partition_at import PastReplay
from events.history.point_in_time import PointInTime, now_of, point_in_time_of
from events.history.projections_at import PastPartitions, ProjectionsAt
from events.history.snapshots import Snapshots
from events.log.errors import ObjectStoreUnavailable
from events.log.fleet_events import FleetEventReader
from events.log.keys import FLEET, partition_of
from events.log.object_store import ObjectStore
from events.log.raw import RawStreams
from services.api.context.api_context import ApiContext
from services.api.context.callers import Caller
from services.api.http.errors import BodyInvalid

AS_OF = "Twinfold-As-Of"
"""The header that names the moment an answer is of."""

Mode = Literal["in-effect", "implied"]


class PastRead(msgspec.Struct, frozen=True):
    """A request's look at the past."""

    context: ApiContext
    point_in_time: PointInTime
    streams: tuple[int, ...]

    @property
    def said(self) -> str:
        """The moment as the answer names it: of the streams that matter to it."""
        return self.point_in_time.text(self.streams)


class PastContexts:
    """Contexts of the past, over what one process has replayed of it."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._lock = threading.Lock()

    def context_at(self, point_in_time: PointInTime, mode: Mode = "in-effect") -> ApiContext:
        """The room as it was at a moment. Cheap: what is asked of it is replayed when it is asked.

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
        """The moment that a text asks for.

        Raises:
            PointInTimeInvalid, PointInTimeAhead, PointInTimeTooEarly, LogUnavailable: as `point_in_time_of`.
        """
        return point_in_time_of(text, self._context.log, now=self._context.clock())

    def now(self) -> PointInTime:
        """The moment that is now.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        return now_of(self._context.log, now=self._context.clock())

    def fleet_events(self, after: int, upto: int) -> Sequence[Envelope[Any]]:
        """The fleet's events at positions after + 1 to `upto`, without those that an operator decided to leave out.

        Raises:
            UnreadableEvent, LogLostItsTail, LogUnavailable: as `FleetEventReader.upto`.
        """
        fleet = self._fleet_events()
        skipped = fleet.skipped(FLEET)
        return [one for one in fleet.upto(upto, after=after) if one.position not in skipped]

    def skipped(self, stream: int) -> Collection[int]:
        """The positions of a stream that an operator decided to leave out.

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
            return Snapshots(object_store, self._streams, epoch=self._context.log.epoch)
        except ObjectStoreUnavailable:
            return None

    @cached_property
    def _partitions(self) -> PastPartitions:
        replay = PastReplay(self._context.log, self._context.projections, self._snapshots)
        return PastPartitions(replay, bytes_max=self._context.settings.history_memory_mib << 20)

    @cached_property
    def _documents(self) -> PastDocuments:
        return PastDocuments(self._context.log, self._streams, self._snapshots)

    @cached_property
    def _streams(self) -> RawStreams:
        return RawStreams(self._context.client)


AT_CHARACTERS_MAX = 16_384
AT_FORM = r"^[0-9A-Za-z:.,+\- ]*$"
"""As long as the vector of a thousand partitions, and a line of a request takes it."""

At = Annotated[
    str | None,
    Query(
        max_length=AT_CHARACTERS_MAX,
        pattern=AT_FORM,
        description="Answers as of then: a time (RFC 3339, or milliseconds since 1970), a position (`fleet:17`, `p03:120`),"
        " several with commas, or what `Twinfold-As-Of` of an answer says.",
    ),
]
AtMode = Annotated[
    Mode,
    Query(
        description="With `at`: what was in effect (as workers had decided by then), or what the events implied, decided or not."
    ),
]


def look(request: Request, at: At = None, mode: AtMode = "in-effect") -> None:
    """Have a request answered from the past, if it asks for that.

    Raises:
        PointInTimeInvalid, PointInTimeAhead, PointInTimeTooEarly: there is no such moment.
        BodyInvalid: it waits for what is to come as well.
        DeviceNotFound: whoever is limited did not reach the device then.
        LogUnavailable: Redis does not answer.
    """
    if at is None:
        return
    if "wait" in request.query_params:
        raise BodyInvalid("`wait` is for what comes, and `at` for what was; they do not go together")
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
    """Keep whoever is limited to the devices that they reach now (which authentication sees to), and reached then.

    A device reaches itself as long as it is registered: what had its id before is another one.

    Raises:
        DeviceNotFound: it was outside of their scope, or was registered again since.
    """
    if caller.scope is None and caller.device_id is None:
        return
    then, now = (one.log.load([device_id])[0].head.generation for one in (context, live))
    if then != now or (caller.scope is not None and not context.reaches(caller.scope, device_id)):
        raise DeviceNotFound(device_id)
