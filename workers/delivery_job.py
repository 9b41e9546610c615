"""The job `deliver`: brings a webhook up to the log, in order, again until the receiver has it, never past what it does not have."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import cache

import msgspec
import structlog
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from events.clock import now_ms
from events.envelope import Principal
from events.log.errors import LogLostItsTail
from events.log.failpoints import FailPoint, reached
from events.log.fleet_documents import webhook_of
from events.log.log_factory import open_log
from events.log.redis import RedisLog
from events.log.wake import FAILURE_TTL_SECONDS, JOB_TIMEOUT_SECONDS, Waker
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

QUEUE = "twinfold-deliver"
JOB = "workers.delivery_job.deliver"
"""A queue of its own: a receiver that takes its time holds up no projections, and a worker listens to one queue (decisions/0005)."""

_AUTHOR = Principal.parse("system:webhooks")

BATCH = 256

_NO_SECRET, _NO_TAIL = "secret", "log"

logger = structlog.get_logger()


def deliver(webhook_id: str) -> None:
    """Deliver for a webhook. The job is a hint: it carries no state, and running it twice or late does no harm."""
    here = _context()
    # Who has more to do goes behind the others.
    until = time.monotonic() + here.settings.work_seconds_max
    if not here.deliverer.drain(webhook_id, go_on=lambda: time.monotonic() < until):
        here.hints.give(webhook_id)


class _DeliveryContext(msgspec.Struct, frozen=True):
    settings: Settings
    deliverer: "Deliverer"
    hints: "Hints"


@cache
def _context() -> _DeliveryContext:
    settings = read_settings()
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    queue = Redis.from_url(settings.effective_queue_url)
    return _DeliveryContext(settings, Deliverer(settings, log, queue), Hints(queue))


class Hints:
    """Gives jobs to the processes that deliver."""

    def __init__(self, queue: Redis) -> None:
        self._queue = Queue(QUEUE, connection=queue, serializer=JSONSerializer)

    def give(self, webhook_id: str) -> None:
        """Have somebody look at a webhook.

        Raises:
            RedisError: the queue did not take it.
        """
        how = {"job_timeout": JOB_TIMEOUT_SECONDS, "result_ttl": 0, "failure_ttl": FAILURE_TTL_SECONDS}
        self._queue.enqueue(JOB, webhook_id, **how)


class LeaseLost(Exception):
    """Somebody else delivers for the webhook by now; what was done here may be done again there."""


class _Turn(msgspec.Struct, frozen=True):
    """A webhook as it stands, where it leads, and the lease on it."""

    webhook_id: str
    document: WebhookDocument
    token: str


class Deliverer:
    """Brings webhooks up to the log."""

    def __init__(self, settings: Settings, log: RedisLog, queue: Redis) -> None:
        projections = RedisProjectionStore(log.client)
        self._settings, self._log = settings, log
        self._feed, self._deliveries = Feed(log, projections), Deliveries(log.client)
        self._vault = LazyVault(RedisSecretStore(log.client), settings.effective_key_file)
        self._producer = Producer(log, by=_AUTHOR, waker=Waker(queue, partitions=log.partitions))
        self._ordinals = DeviceOrdinals(projections, partitions=log.partitions)
        # Longer than a delivery takes, as it is renewed after each.
        self._lease_ms = round(1000 * (2 * settings.webhook_timeout_seconds + 1))

    def drain(self, webhook_id: str, *, go_on: Callable[[], bool]) -> bool:
        """Deliver to the heads, or until `go_on` says no; answers whether nothing is left to do for now.

        A failed delivery ends it: nothing overtakes what the receiver does not have.

        Raises:
            LogUnavailable, SecretsUnavailable: Redis did not answer; nothing is lost, call again.
        """
        try:
            document = webhook_of(self._log, webhook_id)
        except WebhookNotFound:
            return True
        token = None if document.paused else self._deliveries.lease(webhook_id, lease_ms=self._lease_ms)
        if token is None:
            return True
        try:
            return asyncio.run(self._drain(_Turn(webhook_id, document, token), go_on))
        except LeaseLost:
            logger.warning("another process delivers by now", webhook=webhook_id)
            return True
        finally:
            self._deliveries.release(webhook_id, token)

    async def _drain(self, turn: _Turn, go_on: Callable[[], bool]) -> bool:
        progress = self._progress(turn)
        if not is_due(progress, now_ms()):
            return True
        try:
            return await self._deliver(turn, progress, go_on)
        except SecretsUnavailable:
            raise
        except (SecretsError, LogLostItsTail) as error:
            logger.error("nothing can be delivered", webhook=turn.webhook_id, why=str(error))  # noqa: TRY400 - expected
            name = _NO_TAIL if isinstance(error, LogLostItsTail) else _NO_SECRET
            self._note(turn, self._failed(self._progress(turn), name), None)
            return True

    def _progress(self, turn: _Turn) -> DeliveryProgress:
        known = self._deliveries.progress(turn.webhook_id)
        if known is not None and known.born != turn.document.born:
            self._deliveries.forget(turn.webhook_id)
        return current_progress(turn.document, known, self._log.partitions)

    async def _deliver(self, turn: _Turn, progress: DeliveryProgress, go_on: Callable[[], bool]) -> bool:
        document = turn.document
        wanted = EventFilter(
            self._ordinals, kinds=document.kinds, deployments=document.deployments, devices=document.devices
        )
        url, secret = revealed_target(self._vault.opened, document)
        async with WebhookSender(self._settings) as posting:
            while batch := self._feed.read(progress.positions, self._feed.heads(), limit=BATCH):
                for one in batch:
                    if wanted.includes(one):
                        at = now_ms()
                        answer = await posting.post(url, one, secret=secret, at=at)
                        reached(FailPoint.DELIVERY_POSTED)
                        progress = self._after(turn, progress, one, answer, at)
                        if progress.failures:
                            return True
                    else:
                        progress = _past(progress, one)
                    if not go_on() or not self._stands(turn):
                        self._note(turn, progress, None)
                        return False
                self._note(turn, progress, None)
        return True

    def _stands(self, turn: _Turn) -> bool:
        """Whether the webhook is still as it was: whoever pauses, changes or deletes it is heeded before the next event."""
        try:
            return webhook_of(self._log, turn.webhook_id).version == turn.document.version
        except WebhookNotFound:
            return False

    def _after(
        self, turn: _Turn, before: DeliveryProgress, one: Notification, answer: DeliveryResult, at: int
    ) -> DeliveryProgress:
        """Keep what became of a delivery; pause where no other will go better."""
        attempt = Delivery(
            one.location.event_id, at, answer.result, answer.status, before.failures + 1, answer.milliseconds
        )
        if answer.delivered:
            progress = _past(DeliveryProgress(before.born, before.version, before.positions), one)
        else:
            progress = self._failed(before, answer.result)
        self._note(turn, progress, attempt)
        reached(FailPoint.DELIVERY_NOTED)
        hours = self._settings.webhook_failing_hours_max
        if answer.status == GONE:
            self._pause(turn, f"the receiver answered {GONE}: it is gone")
        elif progress.failures and at - progress.failing_since >= 3_600_000 * hours:
            self._pause(turn, f"every delivery failed for {hours:g} hours, the last one with {answer.result}")
        return progress

    def _failed(self, before: DeliveryProgress, error: str) -> DeliveryProgress:
        now, failures = now_ms(), before.failures + 1
        seconds = min(self._settings.webhook_retry_seconds * 2 ** min(failures - 1, 32), RETRY_SECONDS_MAX)
        return msgspec.structs.replace(
            before,
            failures=failures,
            failing_since=before.failing_since or now,
            due_at=now + round(1000 * seconds),
            error=error,
        )

    def _pause(self, turn: _Turn, why: str) -> None:
        # Somebody may have deleted it meanwhile.
        with contextlib.suppress(WebhookNotFound):
            self._producer.do(PauseWebhook(turn.webhook_id, why))
            logger.error("webhook paused", webhook=turn.webhook_id, why=why)

    def _note(self, turn: _Turn, progress: DeliveryProgress, delivery: Delivery | None) -> None:
        if not self._deliveries.note(turn.webhook_id, progress, delivery, token=turn.token, lease_ms=self._lease_ms):
            raise LeaseLost


def _past(progress: DeliveryProgress, one: Notification) -> DeliveryProgress:
    positions = moved(progress.positions, one.location.index, one.location.position)
    return msgspec.structs.replace(progress, positions=positions)
