"""The mover of a log, with all readers that may still need something of it."""

from collections.abc import Mapping

from events.log.archive.mover import Mover
from events.log.archive.retention_hold import UnsealedHold
from events.log.events import LogInitialised
from events.log.fleet_documents import webhooks
from events.log.object_store import ObjectStore
from events.log.port import Log
from events.log.redis import RedisLog
from events.notification.deliveries import Deliveries, begun
from events.notification.positions import named
from events.projection_store.archived_assignments import AssignmentChangeKeeper, ProjectionHold
from events.projection_store.redis import RedisProjectionStore
from events.settings import Settings


def open_mover(log: RedisLog, settings: Settings) -> Mover:
    """Moves a log's older entries to the place that the settings name.

    Raises:
        ObjectStoreUnavailable: nobody knows such a place.
    """
    projections = RedisProjectionStore(log.client)
    return Mover(
        log.client,
        ObjectStore(settings.effective_archive_url),
        initialisation=LogInitialised(log.epoch, log.partitions),
        holdings=(
            ProjectionHold(projections, partitions=log.partitions),
            WebhookHold(log, Deliveries(log.client)),
            UnsealedHold(log.client),
        ),
        keepers=(AssignmentChangeKeeper(log.client, projections),),
        segment_entries=settings.archive_segment_events,
    )


class WebhookHold:
    """Each webhook, a paused one too, needs what it was not told of yet."""

    def __init__(self, log: Log, deliveries: Deliveries) -> None:
        self._log, self._deliveries = log, deliveries

    def positions(self, stream: str) -> Mapping[str, int]:
        """See `events.log.archive.retention_hold.Holding`; holders are called `webhook ID`.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        partitions = self._log.partitions
        known = self._deliveries.all()
        # Notifications name the stream of assignment changes as in p03/assignments.
        name = stream.replace(":", "/")
        return {
            f"webhook {webhook_id}": named(begun(document, known.get(webhook_id), partitions).positions, partitions)[
                name
            ]
            for webhook_id, document in webhooks(self._log)
        }
