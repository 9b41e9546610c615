"""Archiving and snapshots, in a process of their own: `python -m workers.pool.child_job archive`, or `snapshots`.

Settings come from TWINFOLD_* variables.
"""

import subprocess
import sys
import threading
from collections.abc import Callable
from functools import cache, partial

import structlog

from events import logs
from events.clock import now_ms
from events.history.snapshot_taker import open_snapshot_taker
from events.log.archive.mover import is_due, overdue
from events.log.errors import LogError
from events.log.lease import LEASE_MS, Lease
from events.log.log_factory import open_log
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.notification.archive_mover import open_mover
from events.processes import lifeline
from events.processes.child import Child
from events.settings import Settings, SettingsInvalid, environment_of, read_settings

_RENEW_SECONDS = LEASE_MS / 3000

logger = structlog.get_logger()


class ChildJob:
    """A job that one pool at a time, under a lease, runs as a process when it is due."""

    # A process of its own gives its memory back when it ends, and does not slow down the threads of the pool.

    def __init__(self, job: str, settings: Settings, lease: Lease, *, is_due: Callable[[], bool]) -> None:
        self._job, self._settings, self._lease, self._is_due = job, settings, lease, is_due

    def once(self, stopping: threading.Event) -> int | None:
        """Run the job if it is due, as long as the lease holds and `stopping` is not set.

        Returns its exit code; `None` if it is not due, another pool holds the lease, or it was ended.

        Raises:
            LogUnavailable, ObjectStoreUnavailable: Redis or the object store did not answer.
        """
        # The job checks again what is due, so a lease is taken only where it is needed: each one is a write that Redis syncs.
        if not self._is_due() or self._lease.take() is None:
            return None
        child = Child([sys.executable, "-m", "workers.pool.child_job", self._job], environment_of(self._settings))
        try:
            while True:
                try:
                    return child.process.wait(_RENEW_SECONDS)
                except subprocess.TimeoutExpired:
                    child.continue_if_stopped()
                    if stopping.is_set() or self._lease.take() is None:
                        return None
        finally:
            # No time to end: both jobs can be killed at any step and continue at the next run.
            child.end(0)


def archive_job(log: RedisLog, settings: Settings) -> ChildJob:
    """The job that is due when there are entries to move to the archive."""
    entries, head_of = settings.archive_segment_events, RawStreams(log.client).head
    is_due_before = partial(is_due, log.client, partitions=log.partitions, segment_entries=entries, head_of=head_of)
    lease = Lease(log.client, "archive")
    return ChildJob(
        "archive", settings, lease, is_due=lambda: is_due_before(before_at=settings.archive_before_at(now_ms()))
    )


def snapshot_job(log: RedisLog, settings: Settings) -> ChildJob:
    """The job that is due when a partition has applied enough events since its last snapshot."""
    # Open the object store at the first check: it may not answer yet when the pool starts.
    taker = cache(lambda: open_snapshot_taker(log, settings))
    lease = Lease(log.client, "snapshots")
    return ChildJob("snapshots", settings, lease, is_due=lambda: any(True for _ in taker().due()))


def main() -> int:
    """Run a job once; returns 0, or 1 if it or a part of it failed. The next run retries that."""
    lifeline.hold()
    archives = sys.argv[1] == "archive"
    try:
        settings = read_settings()
        logs.configure(settings.log_level)
        log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
        if archives:
            return _archive(log, settings)
        taker = open_snapshot_taker(log, settings)
        for number in taker.due():
            logger.info("snapshot taken", snapshot=taker.take(number))
    except (LogError, SettingsInvalid) as error:
        logger.error("nothing is archived" if archives else "no snapshot is taken", why=str(error))  # noqa: TRY400 - expected
        return 1
    return 0


def _archive(log: RedisLog, settings: Settings) -> int:
    """Archive and trim every stream."""
    mover, failed = open_mover(log, settings), 0
    mover.settle()
    for stream in mover.streams:
        try:
            limit = settings.archive_before_at(now_ms())
            written = mover.write(stream, overdue_at=overdue(limit))
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
