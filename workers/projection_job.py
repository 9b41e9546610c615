"""The job `project`, which brings the projection of a partition up to the log, and what a worker process opens for it."""

import contextlib
import os
import time
from functools import cache
from pathlib import Path

import msgspec
from redis import Redis

from events.clock import now_ms
from events.log.errors import LogUnavailable
from events.log.failpoints import FailPoint, reached
from events.log.log_factory import open_log
from events.log.wake import Waker
from events.projection_store.redis import RedisProjectionStore
from events.projection_store.work import WorkCounts
from events.settings import Settings, read_settings
from workers.projector import Projector


class WorkerContext(msgspec.Struct, frozen=True):
    """The open ends of a worker process."""

    settings: Settings
    projector: Projector
    waker: Waker
    work_counts: WorkCounts


@cache
def context() -> WorkerContext:
    """Open everything, at the first job of the process.

    Raises:
        LogNotInitialised, LogUnavailable, UnsafeRedis: as `open_log`.
    """
    settings = read_settings()
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    projector = Projector(
        log,
        RedisProjectionStore(log.client),
        clock=now_ms,
        over_budget=lambda: resident_bytes() > settings.memory_budget_mib << 20,
    )
    waker = Waker(Redis.from_url(settings.effective_queue_url), partitions=log.partitions)
    return WorkerContext(settings, projector, waker, WorkCounts(log.client))


def project(partition: int) -> None:
    """Drain a partition. The job is a hint: it carries no state, and running it twice or late does no harm."""
    here = context()
    # Who has more to do goes behind the others.
    until = time.monotonic() + here.settings.work_seconds_max
    finished = here.projector.drain(partition, go_on=lambda: time.monotonic() < until)
    with contextlib.suppress(LogUnavailable):
        here.work_counts.add(partition, here.projector.work.take())
    if not finished:
        here.waker.wake([partition])
        reached(FailPoint.PROJECT_REQUEUED)


def resident_bytes() -> int:
    """Memory of this process that is in RAM; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
