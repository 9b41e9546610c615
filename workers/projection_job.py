"""The job `project`, a turn of a worker, and what a worker process opens for it."""

import os
from functools import cache
from pathlib import Path

import msgspec
from redis import Redis

from events.clock import now_ms
from events.log.claims import Claims
from events.log.errors import LogUnavailable
from events.log.log_factory import open_log
from events.log.redis import RedisLog
from events.log.wake import Waker
from events.processes.postponed import Postponed
from events.projection_store.redis import RedisProjectionStore
from events.settings import Settings, read_settings
from workers.projector import Projector
from workers.turn import WorkerTurn
from workers.worker import stopping

# RQ would log a traceback for each turn while Redis, or a master of a cluster, is away.
_postponed = Postponed(LogUnavailable)


class WorkerContext(msgspec.Struct, frozen=True):
    """The open connections of a worker process."""

    settings: Settings
    log: RedisLog
    projections: RedisProjectionStore
    projector: Projector
    waker: Waker
    claims: Claims


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
    waker = Waker(Redis.from_url(settings.effective_queue_url))
    claims = Claims(log.client, partitions=log.partitions)
    return WorkerContext(settings, log, projections, projector, waker, claims)


def project() -> None:
    """Take a turn. The job carries no state, so it can run twice or late (decisions/0057)."""
    with _postponed.attempt("projecting"):
        here = context()
        WorkerTurn(
            here.log,
            here.projections,
            here.projector,
            here.waker,
            here.claims,
            seconds=here.settings.work_seconds_max,
            is_stopped=stopping.is_set,
        ).run()


def resident_bytes() -> int:
    """The resident memory of this process; 0 on systems without /proc."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
