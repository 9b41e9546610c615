"""Opens a producer by the URL of a log."""

from pathlib import Path

from redis import Redis

from events.device.tags import personal_paths
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
    """Open the log at a URL for writing. `by` is the author of the events, as in `producer:csv-import` or `user:ada`.

    New devices and modules without an authentication get keys, which are sealed and stored in Redis; register with
    `authentication=KEYS_DECLINED` to have none.

    `queue_url` is the server of the workers' queue (default: `TWINFOLD_QUEUE_URL`, else `url`). `key_file` wraps the keys of
    secrets in commands (default: from the settings); it is created with the first secret if it does not exist.

    Raises:
        LogNotInitialised, UnsafeRedis, LogUnavailable: as `open_log`.
        SettingsInvalid: a TWINFOLD_* variable is invalid.
        ValueError: `by` is not kind:id, or the queue would be on a cluster.
    """
    author = Principal.parse(by)
    settings = read_settings()
    queue = queue_url or settings.queue_url or url
    if is_cluster(queue):
        raise ValueError(
            f"RQ cannot use a Redis Cluster; set queue_url or {ENV_PREFIX}QUEUE_URL to a single server for the queue"
        )
    log = open_log(url, allow_volatile=allow_volatile)
    waker = Waker(Redis.from_url(queue))
    vault = LazyVault(
        RedisSecretStore(log.client),
        key_file or settings.effective_key_file,
        personal=Personal(personal_paths(settings.personal_tags)),
    )
    return Producer(log, by=author, waker=waker, take_secrets=vault.take_out, new_keys=vault.new_keys)
