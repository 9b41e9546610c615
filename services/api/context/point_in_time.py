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
from events.history.folding import Folding
from events.history.log_at import LogAt
from events.history.moment import Moment, moment_of, now_of
from events.history.snapshots import Snapshots
from events.history.views_at import PastPartitions, ViewsAt
from events.log.depot import Depot
from events.log.errors import DepotUnavailable
from events.log.fleet_facts import FleetFacts
from events.log.keys import FLEET, partition_of
from events.log.raw import RawStreams
from services.api.context.api_context import Room
from services.api.context.callers import Caller
from services.api.http.errors import BodyInvalid

AS_OF = "Twinfold-As-Of"
"""The header that names the moment an answer is of."""

Mode = Literal["in-effect", "implied"]


class Looking(msgspec.Struct, frozen=True):
    """A request's look at the past."""

    room: Room
    moment: Moment
    streams: tuple[int, ...]

    @property
    def said(self) -> str:
        """The moment as the answer names it: of the streams that matter to it."""
        return self.moment.text(self.streams)


class Past:
    """Rooms of the past, over what one process has folded of it."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._lock = threading.Lock()

    def room_at(self, moment: Moment, mode: Mode = "in-effect") -> Room:
        """The room as it was at a moment. Cheap: what is asked of it is folded when it is asked.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        room = self._room
        with self._lock:
            partitions, documents = self._partitions, self._documents
        fleet = partitions.folding.fleet_facts()
        log = LogAt(room.log, moment, documents, fleet)
        return room.as_of(moment, log, ViewsAt(room.views, moment, partitions, implied=mode == "implied"))

    def moment(self, text: str) -> Moment:
        """The moment that a text asks for.

        Raises:
            MomentInvalid, MomentAhead, MomentTooEarly, LogUnavailable: as `moment_of`.
        """
        return moment_of(text, self._room.log, now=self._room.clock())

    def now(self) -> Moment:
        """The moment that is now.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        return now_of(self._room.log, now=self._room.clock())

    def fleet_facts(self, after: int, upto: int) -> Sequence[Envelope[Any]]:
        """The fleet's facts at positions after + 1 to `upto`, without those that an operator decided to leave out.

        Raises:
            UnreadableFact, LogLostItsTail, LogUnavailable: as `FleetFacts.upto`.
        """
        fleet = self._fleet_facts()
        left_out = fleet.skipped(FLEET)
        return [one for one in fleet.upto(upto, after=after) if one.position not in left_out]

    def left_out(self, stream: int) -> Collection[int]:
        """The positions of a stream that an operator decided to leave out.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        return self._fleet_facts().skipped(stream)

    def _fleet_facts(self) -> FleetFacts:
        with self._lock:
            partitions = self._partitions
        return partitions.folding.fleet_facts()

    @cached_property
    def _snapshots(self) -> Snapshots | None:
        try:
            depot = Depot(self._room.settings.effective_archive_url)
            return Snapshots(depot, self._streams, epoch=self._room.log.epoch)
        except DepotUnavailable:
            return None

    @cached_property
    def _partitions(self) -> PastPartitions:
        folding = Folding(self._room.log, self._room.views, self._snapshots)
        return PastPartitions(folding, bytes_max=self._room.settings.history_memory_mib << 20)

    @cached_property
    def _documents(self) -> PastDocuments:
        return PastDocuments(self._room.log, self._streams, self._snapshots)

    @cached_property
    def _streams(self) -> RawStreams:
        return RawStreams(self._room.client)


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
        description="With `at`: what was in effect (as workers had decided by then), or what the facts implied, decided or not."
    ),
]


def look(request: Request, at: At = None, mode: AtMode = "in-effect") -> None:
    """Have a request answered from the past, if it asks for that.

    Raises:
        MomentInvalid, MomentAhead, MomentTooEarly: there is no such moment.
        BodyInvalid: it waits for what is to come as well.
        DeviceNotFound: whoever is limited did not reach the device then.
        LogUnavailable: Redis does not answer.
    """
    if at is None:
        return
    if "wait" in request.query_params:
        raise BodyInvalid("`wait` is for what comes, and `at` for what was; they do not go together")
    past: Past = request.app.state.past
    caller: Caller = request.state.caller
    moment = past.moment(at)
    room = past.room_at(moment, mode)
    device_id = request.path_params.get("device_id")
    streams = tuple(moment.positions)
    if device_id is not None:
        streams = (FLEET, partition_of(device_id, room.log.partitions))
        keep_within(request.app.state.room, room, caller, device_id)
    request.state.looking = Looking(room, moment, streams)


def keep_within(live: Room, room: Room, caller: Caller, device_id: str) -> None:
    """Keep whoever is limited to the devices that they reach now (which the gate sees to), and reached then.

    A device reaches itself as long as it is registered: what had its id before is another one.

    Raises:
        DeviceNotFound: it was outside of their scope, or was registered again since.
    """
    if caller.scope is None and caller.device_id is None:
        return
    then, now = (one.log.load([device_id])[0].head.generation for one in (room, live))
    if then != now or (caller.scope is not None and not room.reaches(caller.scope, device_id)):
        raise DeviceNotFound(device_id)
