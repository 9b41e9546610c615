"""Takes the snapshots that are due: `python -m workers.pool.snapshot_job`. Settings come from TWINFOLD_* variables."""

import sys
from functools import cache

import structlog

from events import logs
from events.history.snapshot_taker import open_snapshot_taker
from events.log.errors import LogError
from events.log.lease import Lease
from events.log.log_factory import open_log
from events.log.redis import RedisLog
from events.processes import lifeline
from events.settings import Settings, SettingsInvalid, read_settings
from workers.pool.child_job import ChildJob

INTERVAL_SECONDS = 5.0

logger = structlog.get_logger()


def snapshot_job(log: RedisLog, settings: Settings) -> ChildJob:
    """The job of the pool; it is due when a partition has applied enough events since its last snapshot."""
    # Open the object store at the first check: it may not answer yet when the pool starts.
    taker = cache(lambda: open_snapshot_taker(log, settings))
    return ChildJob(
        "workers.pool.snapshot_job",
        settings,
        Lease(log.client, "snapshots"),
        is_due=lambda: any(True for _ in taker().due()),
    )


def main() -> int:
    """Take the snapshots; returns 0, or 1 if one failed. The next run retries it."""
    lifeline.hold()
    try:
        settings = read_settings()
        logs.configure(settings.log_level)
        log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
        taker = open_snapshot_taker(log, settings)
        for number in taker.due():
            logger.info("snapshot taken", snapshot=taker.take(number))
    except (LogError, SettingsInvalid) as error:
        logger.error("no snapshot is taken", why=str(error))  # noqa: TRY400 - expected
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
