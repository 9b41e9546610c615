"""Moves the log's older entries once, as a pool has it done: `python -m workers.archive`. Settings come from TWINFOLD_* variables."""

import sys

import structlog

from events import logs
from events.log.errors import LogError
from events.log.opening import open_log
from events.notification.archiving import open_mover
from events.processes import lifeline
from events.settings import SettingsInvalid, read_settings
from workers.context import now_ms
from workers.pool.archiving import before_at

logger = structlog.get_logger()


def main() -> int:
    """Write and trim every stream; answers 0, or 1 where one of them could not be, which the next run tries again."""
    lifeline.hold()
    try:
        settings = read_settings()
        logs.configure(settings.log_level)
        log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
        mover = open_mover(log, settings)
        mover.settle()
    except (LogError, SettingsInvalid) as error:
        logger.error("nothing is archived", why=str(error))  # noqa: TRY400 - expected
        return 1
    failed = 0
    for stream in mover.streams:
        try:
            written = mover.write(stream)
            limit = before_at(settings, now_ms())
            trimmed = 0 if limit is None else mover.trim(stream, before_at=limit).trimmed
        except LogError as error:
            # What is wrong with one stream keeps no other from being archived.
            logger.error("not archived", stream=stream, why=str(error))  # noqa: TRY400 - expected
            failed = 1
            continue
        if written.written or trimmed:
            logger.info("archived", stream=stream, written=written.written, trimmed=trimmed)
    return failed


if __name__ == "__main__":
    sys.exit(main())
