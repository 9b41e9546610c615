"""A producer from a URL."""

from redis import Redis

from events.envelope import Principal
from events.log.opening import open_log
from events.log.wake import Waker
from events.producer.producer import Producer


def open_producer(
    url: str, *, by: str = "producer:script", queue_url: str | None = None, allow_volatile: bool = False
) -> Producer:
    """Open the log at a URL for writing. `by` is who the facts are by, as in `producer:csv-import` or `user:ada`.

    `queue_url` is where the workers' queue is, if it is not the same server.

    Raises:
        LogNotInitialised, UnsafeRedis, LogUnavailable: as `open_log`.
        ValueError: `by` is not kind:id.
    """
    author = Principal.parse(by)
    log = open_log(url, allow_volatile=allow_volatile)
    waker = Waker(Redis.from_url(queue_url or url), partitions=log.partitions)
    return Producer(log, by=author, waker=waker)
