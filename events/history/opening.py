"""What a process needs to take snapshots, from its settings."""

from events.history.documents import PastDocuments
from events.history.snapshots import Snapshots
from events.history.taking import Taking
from events.log.depot import Depot
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.settings import Settings
from events.view_store.redis import RedisViewStore


def open_taking(log: RedisLog, settings: Settings) -> Taking:
    """Who takes snapshots of a log's views into the place of its archive.

    Raises:
        DepotUnavailable: there is no such place.
    """
    streams = RawStreams(log.client)
    snapshots = Snapshots(Depot(settings.effective_archive_url), streams, epoch=log.epoch)
    documents = PastDocuments(log, streams, snapshots)
    return Taking(log, RedisViewStore(log.client), snapshots, documents, every_facts=settings.history_snapshot_facts)
