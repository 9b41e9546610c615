"""The scheduler as a process: `python -m services.scheduler`, or `twinfold scheduler`. Settings come from TWINFOLD_* variables."""

import events.processes.without_rich  # noqa: F401  # isort: skip
import contextlib
import signal
import sys
import threading
import time

import structlog
from redis import Redis

from events import logs
from events.clock import now_ms
from events.log.errors import Fenced, LogError, LogUnavailable
from events.log.failpoints import FailPoint, reached
from events.log.lease import Lease
from events.log.log_factory import open_log
from events.log.wake import Waker
from events.processes import lifeline
from events.processes.postponed import Postponed
from events.projection_store.redis import RedisProjectionStore
from events.settings import Settings, read_settings
from events.terminal import complain_of
from services.cli import exits
from services.scheduler.clocks import ClockWatch
from services.scheduler.engine import SchedulerEngine
from services.scheduler.seal_thread import LEASE_MS, SealThread

TICK_SECONDS = 1.0

logger = structlog.get_logger()


def run(settings: Settings, stopping: threading.Event) -> None:
    """Run a round every `TICK_SECONDS` while this process holds the lease, until `stopping` is set.

    Raises:
        LogNotInitialised, UnsafeRedis, LogUnavailable: there is no log to work on.
    """
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    waker = Waker(Redis.from_url(settings.effective_queue_url))
    engine = SchedulerEngine(log, RedisProjectionStore(log.client), clock=now_ms, waker=waker, monotonic=time.monotonic)
    lease = Lease(log.client, "scheduler", milliseconds=LEASE_MS, used_in="meta")
    sealing = SealThread(settings, log, stopping)
    sealing.start()
    holds = False
    postponed = Postponed(LogUnavailable)
    watch = ClockWatch(now_ms)
    while not stopping.wait(TICK_SECONDS):
        if (step := watch.step_seconds()) != 0:
            see = "docs/guides/operating.md, Clocks"
            logger.warning("the clock stepped, or the machine slept", seconds=round(step, 1), see=see)
        try:
            with postponed.attempt("scheduling"):
                fence = lease.take()
                if (fence is not None) is not holds:
                    holds = fence is not None
                    # Only a change is logged: a second scheduler waits for days, and would otherwise log a line every second.
                    logger.info("scheduling" if holds else "another process schedules", fence=fence)
                if fence is not None:
                    reached(FailPoint.SCHEDULE_LEASED)
                    engine.tick(fence)
        except Fenced as error:
            holds = False
            logger.warning("another process has taken over", error=str(error))
        except LogError as error:
            logger.error("the fleet's events cannot be read", error=str(error))  # noqa: TRY400 - expected
        # Touched after a failed round too: the file says that the process is alive, not that Redis is.
        if settings.heartbeat_file is not None:
            with contextlib.suppress(OSError):
                settings.heartbeat_file.touch()
    with contextlib.suppress(LogUnavailable):
        lease.leave()
    sealing.join()


def main() -> int:
    """Schedule until SIGINT or SIGTERM, or until the parent ends; a round in progress is finished first."""
    line = lifeline.hold()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _signum, _frame: stopping.set())
    try:
        settings = read_settings()
        logs.configure(settings.log_level)
        run(settings, stopping)
    except Exception as error:
        if not exits.is_any(error, *exits.EXPECTED):
            raise
        line.last_output(str(error))
        complain_of(error, program="twinfold scheduler")
        return exits.code_of(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
