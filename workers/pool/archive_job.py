"""Moves old entries of the log to the archive, once: `python -m workers.pool.archive_job`. Settings: TWINFOLD_* variables."""

import sys

import structlog

from events import logs
from events.clock import now_ms
from events.log.archive.mover import is_due
from events.log.errors import LogError
from events.log.lease import Lease
from events.log.log_factory import open_log
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.notification.archive_mover import open_mover
from events.processes import lifeline
from events.settings import Settings, SettingsInvalid, read_settings
from workers.pool.child_job import ChildJob

logger = structlog.get_logger()


def archive_job(log: RedisLog, settings: Settings) -> ChildJob:
    """The job of the pool; it is due when there are entries to move."""
    streams = RawStreams(log.client)
    return ChildJob(
        "workers.pool.archive_job",
        settings,
        Lease(log.client, "archive"),
        is_due=lambda: is_due(
            log.client,
            partitions=log.partitions,
            segment_entries=settings.archive_segment_events,
            before_at=settings.archive_before_at(now_ms()),
            head_of=streams.head,
        ),
    )


def main() -> int:
    """Archive and trim every stream; returns 0, or 1 if a stream failed. The next run retries it."""
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
            limit = settings.archive_before_at(now_ms())
            trimmed = 0 if limit is None else mover.trim(stream, before_at=limit).trimmed
        except LogError as error:
            # One damaged stream must not keep the other streams in Redis, where memory is short.
            logger.error("not archived", stream=stream, why=str(error))  # noqa: TRY400 - expected
            failed = 1
            continue
        if written.written or trimmed:
            logger.info("archived", stream=stream, written=written.written, trimmed=trimmed)
    return failed


if __name__ == "__main__":
    sys.exit(main())
