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
from events.projection_store.work_counts import WorkCounts
from events.settings import Settings, read_settings
from workers.projector import Projector


class WorkerContext(msgspec.Struct, frozen=True):
    """The open connections of a worker process."""

    settings: Settings
    projector: Projector
    waker: Waker
    work_counts: WorkCounts


@cache
def context() -> WorkerContext:
    """The context of this process; opened by the first call.

    Raises:
        LogNotInitialised, LogUnavailable, UnsafeRedis: as `open_log`.
    """
    settings = read_settings()
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    projections, budget = RedisProjectionStore(log.client), settings.memory_budget_mib << 20
    projector = Projector(log, projections, clock=now_ms, over_budget=lambda: resident_bytes() > budget)
    waker = Waker(Redis.from_url(settings.effective_queue_url), partitions=log.partitions)
    return WorkerContext(settings, projector, waker, WorkCounts(log.client))


def project(partition: int) -> None:
    """Project a partition to its head. The job carries no state, so it can run twice or late (decisions/0005)."""
    here = context()
    # A partition with more to do queues behind the others, so that it does not starve them.
    until = time.monotonic() + here.settings.work_seconds_max
    finished = here.projector.drain(partition, go_on=lambda: time.monotonic() < until)
    # Counts are for metrics only; a job must not fail for them.
    with contextlib.suppress(LogUnavailable):
        here.work_counts.add(partition, here.projector.work.take())
    if not finished:
        here.waker.wake([partition])
        reached(FailPoint.PROJECT_REQUEUED)


def resident_bytes() -> int:
    """The resident memory of this process; 0 on systems without /proc."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
