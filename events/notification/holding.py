"""How far webhooks were told, as holders of what is still to be told."""

from collections.abc import Mapping

from events.log.port import Log
from events.notification.deliveries import Deliveries, begun
from events.notification.positions import named
from events.notification.webhooks import webhooks


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
