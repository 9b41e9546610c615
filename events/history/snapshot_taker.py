"""Takes snapshots of the partitions that applied so much since their last one that it would take long to go on from it."""

from collections.abc import Iterator

from events.history.documents import PastDocuments
from events.history.snapshots import Snapshots
from events.log.documents import encoded
from events.log.errors import LogLostItsTail
from events.log.object_store import ObjectStore
from events.log.port import Log
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.projection_store.port import ProjectionStore
from events.projection_store.redis import RedisProjectionStore
from events.settings import Settings

_ORDINALS_PER_EVENT = 2


class SnapshotTaker:
    """Takes snapshots of a log's projections, every so many events of a partition, and of one with many devices more seldom."""

    def __init__(
        self,
        log: Log,
        projections: ProjectionStore,
        snapshots: Snapshots,
        documents: PastDocuments,
        *,
        every_events: int,
    ) -> None:
        self._log, self._projections, self._snapshots, self._every_events = log, projections, snapshots, every_events
        self._documents = documents
        self._last: dict[int, int] = {}

    def due(self) -> Iterator[int]:
        """The partitions of which it is time to take one; none where `every_events` is 0.

        Raises:
            LogUnavailable, ObjectStoreUnavailable: it cannot be told now.
        """
        for number in range(self._log.partitions if self._every_events else 0):
            checkpoint = self._projections.checkpoint(number)
            position = checkpoint.vector.partition
            # A snapshot has the documents of all devices: of many it is worth its size only after more events.
            enough = max(self._every_events, checkpoint.ordinals // _ORDINALS_PER_EVENT)
            if position - self._last.get(number, 0) < enough:
                continue
            # One that lies ahead is of events that were lost.
            known = (one.partition for one in self._snapshots.vectors(number) if one.partition <= position)
            self._last[number] = max(known, default=0)
            if position - self._last[number] >= enough:
                yield number

    def take(self, number: int) -> str | None:
        """Take a snapshot of a partition as its projections stand; answers the file's name.

        `None` where there is a good one of that vector (a damaged one is replaced), or where the entry that it would stand
        on was left out and is gone. Older ones that are not needed any more go, once it is there.

        Raises:
            LogUnavailable, ObjectStoreUnavailable, SegmentMissing, SegmentDamaged: not now; nothing of it is to be seen.
            LogLostItsTail, UnreadableEvent: the log is not what it was.
        """
        kept = self._projections.load(number)
        vector = kept.checkpoint.vector
        if self._snapshots.has(number, vector):
            return None
        documents = encoded(self._documents.at(number, vector.partition))
        try:
            where = self._snapshots.put(number, kept, documents)
        except LogLostItsTail:
            return None
        self._snapshots.thin(number)
        return where


def open_snapshot_taker(log: RedisLog, settings: Settings) -> SnapshotTaker:
    """Takes snapshots of a log's projections into the place of its archive.

    Raises:
        ObjectStoreUnavailable: there is no such place.
    """
    streams = RawStreams(log.client)
    snapshots = Snapshots(ObjectStore(settings.effective_archive_url), streams, epoch=log.epoch)
    documents = PastDocuments(log, streams, snapshots)
    projections = RedisProjectionStore(log.client)
    return SnapshotTaker(log, projections, snapshots, documents, every_events=settings.history_snapshot_events)
