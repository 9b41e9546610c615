"""Takes snapshots of the partitions that applied many events since their last snapshot."""

from collections.abc import Iterator

from events.history.log_at import PastDocuments
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
    """Takes a snapshot of a partition every `every_events` events, less often for a partition with many devices."""

    def __init__(
        self, log: Log, projections: ProjectionStore, snapshots: Snapshots, past: PastDocuments, *, every_events: int
    ) -> None:
        self._log, self._projections, self._snapshots, self._past = log, projections, snapshots, past
        self._every_events = every_events
        self._last: dict[int, int] = {}

    def due(self) -> Iterator[int]:
        """The partitions that need a snapshot; none if `every_events` is 0.

        Raises:
            LogUnavailable, ObjectStoreUnavailable: Redis or the object store did not answer.
        """
        states = self._projections.states(range(self._log.partitions)) if self._every_events else {}
        for number, (checkpoint, _) in states.items():
            position = checkpoint.vector.partition
            # A snapshot has the documents of all devices. For many devices it is worth its size only after more events.
            enough = max(self._every_events, checkpoint.ordinals // _ORDINALS_PER_EVENT)
            if position - self._last.get(number, 0) < enough:
                continue
            # A snapshot after the checkpoint has events that the log lost.
            positions = (vector.partition for vector in self._snapshots.listed(number) if vector.partition <= position)
            self._last[number] = max(positions, default=0)
            if position - self._last[number] >= enough:
                yield number

    def take(self, number: int) -> str | None:
        """Take a snapshot of a partition at its checkpoint, and delete older ones that are not needed; returns the file name.

        `None` if there is an undamaged snapshot of that vector (a damaged one is replaced), or if an entry whose digest it
        needs is missing.

        Raises:
            LogUnavailable, ObjectStoreUnavailable, SegmentMissing, SegmentDamaged: not now; nothing is written.
            LogLostItsTail, UnreadableEvent: the log has lost or damaged events.
        """
        stored = self._projections.load(number)
        vector = stored.checkpoint.vector
        if self._snapshots.has(number, vector):
            return None
        documents = encoded(self._past.at(number, vector.partition))
        try:
            file_name = self._snapshots.put(number, stored, documents)
        except LogLostItsTail:
            # An operator skipped the last entry after it was deleted; the next event makes a snapshot possible again.
            return None
        self._snapshots.thin(number)
        return file_name


def open_snapshot_taker(log: RedisLog, settings: Settings) -> SnapshotTaker:
    """A taker that writes snapshots of a log's projections into the object store of its archive.

    Raises:
        ObjectStoreUnavailable: the object store cannot be opened.
    """
    streams = RawStreams(log.client)
    snapshots = Snapshots(ObjectStore(settings.effective_archive_url), streams, epoch=log.epoch)
    documents = PastDocuments(log, streams, snapshots)
    projections = RedisProjectionStore(log.client)
    return SnapshotTaker(log, projections, snapshots, documents, every_events=settings.history_snapshot_events)
