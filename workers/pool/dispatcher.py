"""Gives a delivery job to every webhook that is behind the log and due."""

from redis import Redis

from events.clock import now_ms
from events.log.fleet_documents import webhooks
from events.log.keys import FLEET
from events.log.lease import Lease
from events.log.redis import RedisLog
from events.notification.deliveries import Deliveries, current_progress, is_due
from events.notification.feed import Feed
from events.webhook.state import WebhookDocument
from workers.delivery_queue import enqueue

DISPATCH_SECONDS = 0.2
IDLE_SECONDS = 1.0
"""Between two checks while there is no webhook."""


class Dispatcher:
    """Checks every webhook; one process at a time does, under a lease."""

    def __init__(self, log: RedisLog, feed: Feed, deliveries: Deliveries, queue: Redis) -> None:
        self._log, self._feed, self._deliveries, self._queue = log, feed, deliveries, queue
        self._lease = Lease(log.client, "webhooks")
        self._webhooks: dict[str, WebhookDocument] = {}
        self._seen = self._cleared = -1

    def once(self) -> bool:
        """Enqueue due deliveries if this process has the lease; returns whether there are any webhooks.

        Raises:
            LogUnavailable, RedisError: Redis or the queue did not answer.
        """
        # Webhooks are events of the fleet's stream: while its head stays, the definitions stay.
        head = self._log.head(FLEET)
        if head != self._seen:
            self._webhooks = dict(webhooks(self._log))
            self._seen = head
        # Without webhooks there is one act left: the progress of deleted ones is removed, once.
        if (self._webhooks or self._cleared != head) and self._lease.take() is not None:
            self._enqueue_due()
            self._cleared = head
        return bool(self._webhooks)

    def _enqueue_due(self) -> None:
        progress_by_webhook = self._deliveries.all()
        for deleted in progress_by_webhook.keys() - self._webhooks.keys():
            self._deliveries.forget(deleted)
        if not self._webhooks:
            return
        heads = self._feed.heads()
        for webhook_id, document in self._webhooks.items():
            progress = current_progress(document, progress_by_webhook.get(webhook_id), self._log.partitions)
            is_behind = not document.paused and progress.positions != heads
            if is_behind and is_due(progress, now_ms()) and self._deliveries.claim(webhook_id):
                enqueue(self._queue, webhook_id)
