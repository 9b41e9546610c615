"""The mover of a log, with all readers that may still need something of it."""

from collections.abc import Mapping

from events.log.archive.holding import Unsealed
from events.log.archive.moving import Mover
from events.log.archive.notes import Made
from events.log.depot import Depot
from events.log.fleet_documents import webhooks
from events.log.port import Log
from events.log.redis import RedisLog
from events.notification.deliveries import Deliveries, begun
from events.notification.positions import named
from events.settings import Settings
from events.view_store.archived_outcomes import OutcomesKeeper, ViewsHold
from events.view_store.redis import RedisViewStore


def open_mover(log: RedisLog, settings: Settings) -> Mover:
    """Moves a log's older entries to the place that the settings name.

    Raises:
        DepotUnavailable: nobody knows such a place.
    """
    views = RedisViewStore(log.client)
    return Mover(
        log.client,
        Depot(settings.effective_archive_url),
        made=Made(log.epoch, log.partitions),
        holdings=(
            ViewsHold(views, partitions=log.partitions),
            WebhooksHold(log, Deliveries(log.client)),
            Unsealed(log.client),
        ),
        keepers=(OutcomesKeeper(log.client, views),),
        segment_entries=settings.archive_segment_facts,
    )


class WebhooksHold:
    """Each webhook, a paused one too, needs what it was not told of yet."""

    def __init__(self, log: Log, deliveries: Deliveries) -> None:
        self._log, self._deliveries = log, deliveries

    def positions(self, stream: str) -> Mapping[str, int]:
        """See `events.log.archive.holding.Holding`; holders are called `webhook ID`.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        partitions = self._log.partitions
        known = self._deliveries.all()
        # Notifications name the stream of outcomes as in p03/outcomes.
        name = stream.replace(":", "/")
        return {
            f"webhook {webhook_id}": named(begun(document, known.get(webhook_id), partitions).positions, partitions)[
                name
            ]
            for webhook_id, document in webhooks(self._log)
        }
