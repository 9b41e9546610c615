"""Documents of devices and modules as they were at a position of their stream."""

from collections.abc import Collection, Iterator, Sequence

from events.envelope import Envelope, Vector
from events.history.snapshots import Snapshots
from events.log.documents import DeviceDocuments
from events.log.fleet_events import FleetEventReader
from events.log.keys import device_of
from events.log.port import Event, Log, read_all
from events.log.raw import RawStreams
from events.log.scan import events_of

_BATCH_EVENTS = 4096
_ANY_FLEET = 2**53


class PastDocuments:
    """Replays documents from the newest snapshot that lies before a position, or from the first event on."""

    def __init__(self, log: Log, streams: RawStreams, snapshots: Snapshots | None) -> None:
        self._log, self._streams, self._snapshots = log, streams, snapshots

    def at(
        self,
        number: int,
        position: int,
        subjects: Collection[str] | None = None,
        *,
        fleet: FleetEventReader | None = None,
    ) -> DeviceDocuments:
        """The documents of some subjects of a partition at a position, or of all of them.

        Raises:
            LogUnavailable, ObjectStoreUnavailable, LogLostItsTail, UnreadableEvent: as reading does.
            CannotApply: an event does not follow.
        """
        if fleet is None:
            fleet = FleetEventReader(self._log)
            fleet.read_on()
        found = None if self._snapshots is None else self._snapshots.newest(number, Vector(position, _ANY_FLEET))
        after = 0 if found is None else found.vector.partition
        kept = {} if found is None else found.documents()
        # What a module's document begins with, and whether it ends, is said of its device.
        wanted = None if subjects is None else sorted({*subjects, *map(device_of, subjects)})
        documents = DeviceDocuments(kept if wanted is None else {one: kept[one] for one in wanted if one in kept})
        skipped = fleet.skipped(number)
        while after < position:
            if after + 1 in skipped:
                after += 1
                continue
            end = min([position, *(bad - 1 for bad in skipped if bad > after)])
            documents.apply_all(self._events(number, wanted, after, end))
            after = end
        return documents

    def _events(self, number: int, wanted: Sequence[str] | None, after: int, upto: int) -> Iterator[Envelope[Event]]:
        if wanted is None:
            return read_all(self._log, number, batch=_BATCH_EVENTS, after=after, upto=upto)
        if not wanted:
            return iter(())
        return events_of(self._streams, wanted, partitions=self._log.partitions, after=after, upto=upto)
