"""A producer from a URL."""

from pathlib import Path

from redis import Redis

from events.device.personal import personal_paths
from events.envelope import Principal
from events.log.log_factory import open_log
from events.log.wake import Waker
from events.producer.producer import Producer
from events.producer.secrecy import LazyVault
from events.secrets.personal import Personal
from events.secrets.redis import RedisSecretStore
from events.settings import ENV_PREFIX, is_cluster, read_settings


def open_producer(
    url: str,
    *,
    by: str = "producer:script",
    queue_url: str | None = None,
    key_file: Path | None = None,
    allow_volatile: bool = False,
) -> Producer:
    """Open the log at a URL for writing. `by` is who the events are by, as in `producer:csv-import` or `user:ada`.

    New devices and modules without an authentication get keys, which are sealed and kept beside the log; register with
    `authentication=KEYS_DECLINED` to have none.

    `queue_url` is where the workers' queue is; without it, `TWINFOLD_QUEUE_URL` says, else it is the same server. `key_file`
    wraps the keys of secrets that commands bring along; without it, the settings say where it is. It is made when the first
    secret comes.

    Raises:
        LogNotInitialised, UnsafeRedis, LogUnavailable: as `open_log`.
        SettingsInvalid: a TWINFOLD_* variable is not right.
        ValueError: `by` is not kind:id, or the queue would be on a cluster.
    """
    author = Principal.parse(by)
    settings = read_settings()
    queue = queue_url or settings.queue_url or url
    if is_cluster(queue):
        raise ValueError(
            f"RQ cannot use a Redis Cluster; give queue_url or {ENV_PREFIX}QUEUE_URL, a single server for the queue"
        )
    log = open_log(url, allow_volatile=allow_volatile)
    waker = Waker(Redis.from_url(queue), partitions=log.partitions)
    vault = LazyVault(
        RedisSecretStore(log.client),
        key_file or settings.effective_key_file,
        personal=Personal(personal_paths(settings.personal_tags)),
    )
    return Producer(log, by=author, waker=waker, take_secrets=vault.take_out, new_keys=vault.new_keys)
