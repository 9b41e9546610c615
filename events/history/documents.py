"""The documents of devices and modules as they were at a position of their stream."""

from collections.abc import Collection, Iterator, Sequence

from events.envelope import Envelope, Vector
from events.history.snapshots import Snapshots
from events.log.documents import DeviceDocuments, apply_all
from events.log.fleet_events import FleetEventReader
from events.log.keys import device_of
from events.log.port import Event, Log, read_all
from events.log.raw import RawStreams
from events.log.scan import events_of

_BATCH_EVENTS = 4096
_ANY_FLEET = 2**53


class PastDocuments:
    """Replays documents from the newest snapshot before a position, or from the first event."""

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
        """The documents of a partition at a position; of `subjects` only, if given.

        Raises:
            LogUnavailable, ObjectStoreUnavailable, LogLostItsTail, UnreadableEvent: events cannot be read.
            CannotApply: an event does not follow from the ones before it.
        """
        if fleet is None:
            fleet = FleetEventReader(self._log)
            fleet.read_on()
        snapshot = None if self._snapshots is None else self._snapshots.newest(number, Vector(position, _ANY_FLEET))
        after = 0 if snapshot is None else snapshot.vector.partition
        snapshot_documents = {} if snapshot is None else snapshot.documents()
        # A module's document begins and ends with a registration of its device, so the device's events are read too.
        read_subjects = None if subjects is None else sorted({*subjects, *map(device_of, subjects)})
        documents = DeviceDocuments(
            snapshot_documents
            if read_subjects is None
            else {subject: snapshot_documents[subject] for subject in read_subjects if subject in snapshot_documents}
        )
        skipped = fleet.skipped(number)
        while after < position:
            if after + 1 in skipped:
                after += 1
                continue
            end = min([position, *(bad - 1 for bad in skipped if bad > after)])
            apply_all(documents, self._events(number, read_subjects, after, end))
            after = end
        return documents

    def _events(self, number: int, subjects: Sequence[str] | None, after: int, upto: int) -> Iterator[Envelope[Event]]:
        if subjects is None:
            return read_all(self._log, number, batch=_BATCH_EVENTS, after=after, upto=upto)
        if not subjects:
            return iter(())
        return events_of(self._streams, subjects, partitions=self._log.partitions, after=after, upto=upto)
