"""What every job of a worker process shares: the log, the views and the queue, opened once."""

import os
import time
from functools import cache
from pathlib import Path

import msgspec
from redis import Redis

from events.log.opening import open_log
from events.log.wake import Waker
from events.settings import Settings, read_settings
from events.view_store.redis import RedisViewStore
from events.view_store.work import WorkCounts
from workers.projector import Projector


class Context(msgspec.Struct, frozen=True):
    """The open ends of a worker process."""

    settings: Settings
    projector: Projector
    waker: Waker
    work_counts: WorkCounts


def now_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


@cache
def context() -> Context:
    """Open everything, at the first job of the process.

    Raises:
        LogNotInitialised, LogUnavailable, UnsafeRedis: as `open_log`.
    """
    settings = read_settings()
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    projector = Projector(
        log,
        RedisViewStore(log.client),
        clock=now_ms,
        over_budget=lambda: resident_bytes() > settings.memory_budget_mib << 20,
    )
    waker = Waker(Redis.from_url(settings.effective_queue_url), partitions=log.partitions)
    return Context(settings, projector, waker, WorkCounts(log.client))


def resident_bytes() -> int:
    """Memory of this process that is in RAM; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
