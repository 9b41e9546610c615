"""What every request shares: the log, the views, and producers for one request each."""

import time
from collections.abc import Callable

import msgspec
from redis import Redis

from events.deployment.advice import Advice
from events.envelope import Principal
from events.log.opening import open_log
from events.log.redis import RedisLog
from events.log.wake import Waker
from events.producer.errors import Command
from events.producer.producer import Producer
from events.producer.secrecy import into_vault
from events.secrets.redis import RedisSecretStore
from events.settings import Settings
from events.view_store.fleet_view import FleetView
from events.view_store.redis import RedisViewStore
from events.view_store.twins import TwinView
from services.api.recent import Recent
from services.api.waking import BackgroundWaker

TIMEOUT_SECONDS = 2.0
"""A caller over HTTP is told of a Redis that is away, instead of waiting for it."""

_ATTEMPTS = 2
_AUTHOR = Principal.parse("user:api")


class Room(msgspec.Struct, frozen=True):
    """The open ends of an API process."""

    settings: Settings
    log: RedisLog
    views: RedisViewStore
    view: FleetView
    twins: TwinView
    waker: BackgroundWaker
    take_secrets: Callable[[Command], Command]
    recent: Recent
    clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000

    def producer(self) -> Producer:
        """A producer for one request; it belongs to the request's thread."""
        return Producer(
            self.log,
            by=_AUTHOR,
            waker=self.waker,
            take_secrets=self.take_secrets,
            attempts=_ATTEMPTS,
        )

    def do(self, command: Command) -> tuple[Advice, ...]:
        """Write one command.

        Raises:
            Exception: the error that refuses it, or LogUnavailable.
        """
        return self.producer().do(command)


def open_room(settings: Settings) -> Room:
    """Open everything an API process needs.

    Raises:
        LogNotInitialised, UnsafeRedis, LogUnavailable, SettingsInvalid: as `open_log`.
    """
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis, timeout_seconds=TIMEOUT_SECONDS)
    views = RedisViewStore(log.client)
    view = FleetView(views, partitions=log.partitions)
    queue = Redis.from_url(
        settings.effective_queue_url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
    )
    waker = BackgroundWaker(Waker(queue, partitions=log.partitions))
    take_secrets = into_vault(RedisSecretStore(log.client), settings.effective_key_file)
    return Room(settings, log, views, view, TwinView(log, view), waker, take_secrets, Recent(view))
