"""The mover of a log, with everybody who may still need something of it."""

from events.log.archive.holding import Unsealed
from events.log.archive.moving import Mover
from events.log.archive.notes import Made
from events.log.depot import Depot
from events.log.redis import RedisLog
from events.notification.deliveries import Deliveries
from events.notification.holding import WebhooksHold
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
