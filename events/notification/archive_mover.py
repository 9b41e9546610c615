"""The mover of a log to the archive, with the holds of all readers."""

from collections.abc import Mapping
from functools import partial

from events.log.archive.mover import Mover
from events.log.archive.notes import unsealed_hold
from events.log.events import LogInitialised
from events.log.fleet_documents import webhooks
from events.log.object_store import ObjectStore
from events.log.port import Log
from events.log.redis import RedisLog
from events.notification.deliveries import Deliveries, current_progress
from events.notification.positions import names_of
from events.projection_store.archived_assignments import AssignmentChangeKeeper, ProjectionHold
from events.projection_store.redis import RedisProjectionStore
from events.settings import Settings


def open_mover(log: RedisLog, settings: Settings) -> Mover:
    """Returns the mover of a log to the settings' object store; raises ObjectStoreUnavailable if there is none."""
    projections = RedisProjectionStore(log.client)
    return Mover(
        log.client,
        ObjectStore(settings.effective_archive_url),
        initialisation=LogInitialised(log.epoch, log.partitions),
        holdings=(
            ProjectionHold(projections, partitions=log.partitions).positions,
            WebhookHold(log, Deliveries(log.client)).positions,
            partial(unsealed_hold, log.client),
        ),
        keepers=(AssignmentChangeKeeper(log.client, projections).keep,),
        segment_entries=settings.archive_segment_events,
    )


class WebhookHold:
    """Holds the entries that a webhook has not received yet, also of a paused webhook."""

    def __init__(self, log: Log, deliveries: Deliveries) -> None:
        self._log, self._deliveries = log, deliveries

    def positions(self, stream: str) -> Mapping[str, int]:
        """Returns each webhook's position in a stream, by `webhook ID`, as `events.log.archive.notes.RetentionHold`."""
        partitions, progress_by_id = self._log.partitions, self._deliveries.all()
        # Notifications name the stream of assignment changes as in p03/assignments.
        index, positions = names_of(partitions).index(stream.replace(":", "/")), {}
        for webhook_id, document in webhooks(self._log):
            progress = current_progress(document, progress_by_id.get(webhook_id), partitions)
            positions[f"webhook {webhook_id}"] = progress.positions[index]
        return positions
