"""The documents of devices and modules as they were at a position of their stream."""

from collections.abc import Collection, Mapping

from events.envelope import Vector
from events.history.snapshots import Snapshots
from events.log.documents import DeviceDocuments, apply_all
from events.log.fleet_events import FleetEventReader
from events.log.keys import device_of
from events.log.port import Log, read_all
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
        after = 0 if snapshot is None else snapshot.stored_partition.checkpoint.vector.partition
        before: Mapping[str, bytes] = {} if snapshot is None else snapshot.documents
        if subjects is not None:
            # A module's document begins and ends with a registration of its device, so the device's events are read too.
            subjects = sorted({*subjects, *map(device_of, subjects)})
            before = {subject: before[subject] for subject in subjects if subject in before}
        documents, skipped = DeviceDocuments(before), fleet.skipped(number)
        while after < position:
            if after + 1 in skipped:
                after += 1
                continue
            end = min([position, *(bad - 1 for bad in skipped if bad > after)])
            if subjects is None:
                apply_all(documents, read_all(self._log, number, batch=_BATCH_EVENTS, after=after, upto=end))
            elif subjects:
                partitions = self._log.partitions
                apply_all(documents, events_of(self._streams, subjects, partitions=partitions, after=after, upto=end))
            after = end
        return documents
