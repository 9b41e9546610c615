"""The job `deliver`: sends a webhook's receiver what it does not have yet."""

import time
from functools import cache

import msgspec
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from events.clock import now_ms
from events.envelope import Principal
from events.log.opening import open_log
from events.log.wake import FAILURE_TTL_SECONDS, JOB_TIMEOUT_SECONDS, Waker
from events.notification.deliveries import Deliveries
from events.notification.feed import Feed
from events.producer.producer import Producer
from events.producer.secrecy import LazyVault
from events.secrets.redis import RedisSecretStore
from events.settings import Settings, read_settings
from events.view_store.redis import RedisViewStore
from workers.deliverer import Deliverer

QUEUE = "twinfold-deliver"
JOB = "workers.delivery_job.deliver"
"""A queue of its own: a receiver that takes its time holds up no views, and a worker listens to one queue (decisions/0005)."""

_AUTHOR = Principal.parse("system:webhooks")


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


class _Context(msgspec.Struct, frozen=True):
    settings: Settings
    deliverer: Deliverer
    hints: Hints


@cache
def _context() -> _Context:
    settings = read_settings()
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    queue = Redis.from_url(settings.effective_queue_url)
    views = RedisViewStore(log.client)
    deliverer = Deliverer(
        settings,
        log=log,
        views=views,
        feed=Feed(log, views),
        deliveries=Deliveries(log.client),
        vault=LazyVault(RedisSecretStore(log.client), settings.effective_key_file),
        producer=Producer(log, by=_AUTHOR, waker=Waker(queue, partitions=log.partitions)),
        clock=now_ms,
    )
    return _Context(settings, deliverer, Hints(queue))


def deliver(webhook_id: str) -> None:
    """Deliver for a webhook. The job is a hint: it carries no state, and running it twice or late does no harm."""
    here = _context()
    # Who has more to do goes behind the others.
    until = time.monotonic() + here.settings.work_seconds_max
    if not here.deliverer.drain(webhook_id, go_on=lambda: time.monotonic() < until):
        here.hints.give(webhook_id)
