"""Everything on one machine, until Ctrl-C or SIGTERM."""

import contextlib
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

from events.log.opening import initialise
from events.settings import Settings, environment_of, hide_password
from services.embedded_redis import EmbeddedRedis
from services.up.directory import held
from services.up.roles import Role

_TEND_SECONDS = 0.1
_READY_SECONDS = 0.2


def run(settings: Settings, *, own_redis: bool, say: Callable[[str], None]) -> None:
    """Run all roles until a signal; `own_redis` embeds a server in the data directory.

    Raises:
        DirectoryHeld, LayoutTooNew, DirectoryUnusable: the data directory cannot be worked on.
        NoRedisServer, RedisDidNotStart, LogError: there is no Redis to work on.
    """
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _signum, _frame: stopping.set())
    with held(settings.data_dir), _redis(settings, own_redis=own_redis) as url:
        log = initialise(url, allow_volatile=settings.allow_volatile_redis)
        log.client.close()
        queue_url = settings.queue_url or url
        changed = settings.model_copy(update={"redis_url": url, "queue_url": queue_url})
        environment = environment_of(changed)
        say(f"data   {settings.data_dir}")
        say(f"redis  {hide_password(url)} ({log.partitions} partitions)")
        roles = [
            Role("workers", "workers.pool", environment, say=say),
            Role("api", "services.api", environment, say=say),
        ]
        try:
            _wait_until_ready(settings, stopping, roles)
            if not stopping.is_set():
                say(f"api    http://{settings.host}:{settings.port}")
                say(f"workers {settings.workers}; Ctrl-C ends everything")
            while not stopping.wait(_TEND_SECONDS):
                for role in roles:
                    role.tend()
        finally:
            # The API first, so that nobody is answered who would not be worked for.
            for role in reversed(roles):
                role.stop()
    say("stopped")


@contextlib.contextmanager
def _redis(settings: Settings, *, own_redis: bool) -> Iterator[str]:
    if not own_redis:
        yield settings.redis_url
        return
    with EmbeddedRedis(settings.data_dir / "redis", server=settings.redis_server) as redis:
        yield redis.url


def _wait_until_ready(settings: Settings, stopping: threading.Event, roles: list[Role]) -> None:
    while not stopping.wait(_READY_SECONDS):
        for role in roles:
            role.tend()
        with contextlib.suppress(OSError, urllib.error.URLError):
            url = f"http://{settings.host}:{settings.port}/healthz"
            with urllib.request.urlopen(url, timeout=1):
                return
