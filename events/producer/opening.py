"""A producer from a URL."""

from pathlib import Path

from redis import Redis

from events.device.personal import personal_paths
from events.envelope import Principal
from events.log.opening import open_log
from events.log.wake import Waker
from events.producer.producer import Producer
from events.producer.secrecy import LazyVault
from events.secrets.personal import Personal
from events.secrets.redis import RedisSecretStore
from events.settings import is_cluster, read_settings


def open_producer(
    url: str,
    *,
    by: str = "producer:script",
    queue_url: str | None = None,
    key_file: Path | None = None,
    allow_volatile: bool = False,
) -> Producer:
    """Open the log at a URL for writing. `by` is who the facts are by, as in `producer:csv-import` or `user:ada`.

    `queue_url` is where the workers' queue is, if it is not the same server. `key_file` wraps the keys of secrets that
    deployments bring along; if it is not given, the settings say where it is. It is made when the first secret comes.

    Raises:
        LogNotInitialised, UnsafeRedis, LogUnavailable: as `open_log`.
        ValueError: `by` is not kind:id, or the queue would be on a cluster.
    """
    author = Principal.parse(by)
    if is_cluster(queue_url or url):
        raise ValueError("RQ cannot use a Redis Cluster; give queue_url, a single server for the queue")
    log = open_log(url, allow_volatile=allow_volatile)
    waker = Waker(Redis.from_url(queue_url or url), partitions=log.partitions)
    settings = read_settings()
    vault = LazyVault(
        RedisSecretStore(log.client),
        key_file or settings.effective_key_file,
        personal=Personal(personal_paths(settings.personal_tags)),
    )
    return Producer(log, by=author, waker=waker, take_secrets=vault.take_out)
