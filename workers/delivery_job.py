"""The job `deliver`: delivers the log to a webhook, in order; a failed delivery is retried before anything later is sent."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import cache

import msgspec
import structlog
from redis import Redis

from events.clock import now_ms
from events.envelope import Principal
from events.log.errors import LogLostItsTail
from events.log.failpoints import FailPoint, reached
from events.log.fleet_documents import webhook_of
from events.log.log_factory import open_log
from events.log.redis import RedisLog
from events.log.wake import Waker
from events.notification.cloud_event import Notification
from events.notification.deliveries import (
    RETRY_SECONDS_MAX,
    Deliveries,
    Delivery,
    DeliveryProgress,
    current_progress,
    is_due,
)
from events.notification.event_filter import DeviceOrdinals, EventFilter
from events.notification.feed import Feed
from events.notification.http_delivery import GONE, DeliveryResult, WebhookSender, revealed_target
from events.notification.positions import moved
from events.producer.producer import Producer
from events.producer.secrecy import LazyVault
from events.projection_store.redis import RedisProjectionStore
from events.secrets.errors import SecretsError, SecretsUnavailable
from events.secrets.redis import RedisSecretStore
from events.settings import Settings, read_settings
from events.webhook.commands import PauseWebhook
from events.webhook.errors import WebhookNotFound
from events.webhook.state import WebhookDocument
from workers.delivery_queue import enqueue

_AUTHOR = Principal.parse("system:webhooks")

BATCH = 256

logger = structlog.get_logger()


def deliver(webhook_id: str) -> None:
    """Deliver to a webhook. The job carries no state, so it can run twice or late (decisions/0005)."""
    deliverer = _deliverer()
    # A webhook with more to deliver queues behind the others, so that it does not starve them.
    until = time.monotonic() + deliverer.settings.work_seconds_max
    if not deliverer.drain(webhook_id, go_on=lambda: time.monotonic() < until):
        enqueue(deliverer.queue, webhook_id)


@cache
def _deliverer() -> "Deliverer":
    settings = read_settings()
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    return Deliverer(settings, log, Redis.from_url(settings.effective_queue_url))


class LeaseLost(Exception):
    """Another process delivers to the webhook now; it may repeat what was delivered here."""


class _Leased(msgspec.Struct, frozen=True):
    """A webhook's document, and the token of the lease on it."""

    webhook_id: str
    document: WebhookDocument
    token: str


class Deliverer:
    """Delivers the log to webhooks."""

    def __init__(self, settings: Settings, log: RedisLog, queue: Redis) -> None:
        projections = RedisProjectionStore(log.client)
        self.settings, self.queue, self._log = settings, queue, log
        self._feed, self._deliveries = Feed(log, projections), Deliveries(log.client)
        self._vault = LazyVault(RedisSecretStore(log.client), settings.effective_key_file)
        self._producer = Producer(log, by=_AUTHOR, waker=Waker(queue))
        self._ordinals = DeviceOrdinals(projections, partitions=log.partitions)
        # The lease is renewed after each delivery, so it must last longer than one.
        self._lease_ms = round(1000 * (2 * settings.webhook_timeout_seconds + 1))

    def drain(self, webhook_id: str, *, go_on: Callable[[], bool]) -> bool:
        """Deliver up to the heads, or until `go_on` is false; returns whether nothing is left to do for now.

        A failed delivery ends the call: nothing later is sent before the receiver has it.

        Raises:
            LogUnavailable, SecretsUnavailable: Redis did not answer. Nothing is lost; call again.
        """
        try:
            document = webhook_of(self._log, webhook_id)
        except WebhookNotFound:
            return True
        token = None if document.paused else self._deliveries.lease(webhook_id, lease_ms=self._lease_ms)
        if token is None:
            return True
        leased = _Leased(webhook_id, document, token)
        try:
            progress = self._progress(leased)
            return not is_due(progress, now_ms()) or asyncio.run(self._deliver(leased, progress, go_on))
        except LeaseLost:
            logger.warning("another process delivers by now", webhook=webhook_id)
            return True
        finally:
            self._deliveries.release(webhook_id, token)

    def _progress(self, leased: _Leased) -> DeliveryProgress:
        progress = self._deliveries.progress(leased.webhook_id)
        # A webhook that was deleted and created again begins anew.
        if progress is not None and progress.born != leased.document.born:
            self._deliveries.forget(leased.webhook_id)
        return current_progress(leased.document, progress, self._log.partitions)

    async def _deliver(self, leased: _Leased, progress: DeliveryProgress, go_on: Callable[[], bool]) -> bool:
        document = leased.document
        event_filter = EventFilter(
            self._ordinals, kinds=document.kinds, deployments=document.deployments, devices=document.devices
        )
        try:
            url, secret = revealed_target(self._vault.opened, document)
            async with WebhookSender(self.settings) as posting:
                while batch := self._feed.read(progress.positions, self._feed.heads(), limit=BATCH):
                    for notification in batch:
                        if event_filter.includes(notification):
                            at = now_ms()
                            answer = await posting.post(url, notification, secret=secret, at=at)
                            reached(FailPoint.DELIVERY_POSTED)
                            progress = self._after(leased, progress, notification, answer, at)
                            if progress.failures:
                                return True
                        else:
                            progress = _past(progress, notification)
                        if not go_on() or not self._is_current(leased):
                            self._note(leased, progress, None)
                            return False
                    self._note(leased, progress, None)
        except SecretsUnavailable:
            raise
        except (SecretsError, LogLostItsTail) as error:
            logger.error("nothing can be delivered", webhook=leased.webhook_id, why=str(error))  # noqa: TRY400 - expected
            why = "log" if isinstance(error, LogLostItsTail) else "secret"
            self._note(leased, self._failed(self._progress(leased), why), None)
        return True

    def _is_current(self, leased: _Leased) -> bool:
        """Whether the webhook is unchanged. A pause, change or deletion takes effect before the next event."""
        try:
            return webhook_of(self._log, leased.webhook_id).version == leased.document.version
        except WebhookNotFound:
            return False

    def _after(
        self, leased: _Leased, before: DeliveryProgress, notification: Notification, answer: DeliveryResult, at: int
    ) -> DeliveryProgress:
        """Store the result of a delivery. Pause the webhook if no later delivery can succeed, or if all failed for too long."""
        attempt = Delivery(
            notification.location.event_id, at, answer.result, answer.status, before.failures + 1, answer.milliseconds
        )
        if answer.delivered:
            progress = _past(DeliveryProgress(before.born, before.version, before.positions), notification)
        else:
            progress = self._failed(before, answer.result)
        self._note(leased, progress, attempt)
        reached(FailPoint.DELIVERY_NOTED)
        hours, why = self.settings.webhook_failing_hours_max, ""
        if answer.status == GONE:
            why = f"the receiver answered {GONE} (Gone)"
        elif progress.failures and at - progress.failing_since >= 3_600_000 * hours:
            why = f"every delivery failed for {hours:g} hours, the last one with {answer.result}"
        # The webhook may have been deleted meanwhile.
        with contextlib.suppress(WebhookNotFound):
            if why:
                self._producer.do(PauseWebhook(leased.webhook_id, why))
                logger.error("webhook paused", webhook=leased.webhook_id, why=why)
        return progress

    def _failed(self, before: DeliveryProgress, error: str) -> DeliveryProgress:
        now, failures = now_ms(), before.failures + 1
        seconds = min(self.settings.webhook_retry_seconds * 2 ** min(failures - 1, 32), RETRY_SECONDS_MAX)
        since, due_at = before.failing_since or now, now + round(1000 * seconds)
        return msgspec.structs.replace(before, failures=failures, failing_since=since, due_at=due_at, error=error)

    def _note(self, leased: _Leased, progress: DeliveryProgress, delivery: Delivery | None) -> None:
        if not self._deliveries.note(
            leased.webhook_id, progress, delivery, token=leased.token, lease_ms=self._lease_ms
        ):
            raise LeaseLost


def _past(progress: DeliveryProgress, notification: Notification) -> DeliveryProgress:
    positions = moved(progress.positions, notification.location.index, notification.location.position)
    return msgspec.structs.replace(progress, positions=positions)
