"""Takes the snapshots that are due, once: `python -m workers.snapshot`. Settings come from TWINFOLD_* variables."""

import sys

import structlog

from events import logs
from events.history.snapshot_taker import open_snapshot_taker
from events.log.errors import LogError
from events.log.opening import open_log
from events.processes import lifeline
from events.settings import SettingsInvalid, read_settings

logger = structlog.get_logger()


def main() -> int:
    """Take them; answers 0, or 1 where one could not be taken, which the next run tries again."""
    lifeline.hold()
    try:
        settings = read_settings()
        logs.configure(settings.log_level)
        log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
        taking = open_snapshot_taker(log, settings)
        for number in taking.due():
            logger.info("snapshot taken", snapshot=taking.take(number))
    except (LogError, SettingsInvalid) as error:
        logger.error("no snapshot is taken", why=str(error))  # noqa: TRY400 - expected
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
