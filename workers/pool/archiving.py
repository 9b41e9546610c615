"""Sees to it that older facts are archived: one process at a time, under a lease, has them moved by a process of its own."""

from collections.abc import Callable

from events.log.archive.moving import is_due
from events.log.lease import Lease
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.settings import Settings
from workers.pool.apart import run_apart

JOB = "workers.archive"
_DAY_MS = 86_400_000


def before_at(settings: Settings, now: int) -> int | None:
    """The time that facts have to be older than, to leave Redis; `None` where they stay."""
    days = settings.archive_keep_days
    return None if days is None else now - round(_DAY_MS * days)


class Archiving:
    """Has the log's older entries moved, when it is this process's turn."""

    def __init__(self, log: RedisLog, settings: Settings, *, clock: Callable[[], int]) -> None:
        self._log, self._settings, self._clock = log, settings, clock
        self._streams = RawStreams(log.client)
        self._lease = Lease(log.client, "archive")

    def once(self, *, go_on: Callable[[], bool]) -> int | None:
        """Move what there is to move, as long as the lease holds and `go_on` says so.

        Answers the exit code of who moved; `None` where there is nothing to move, it is another process's turn, or it was ended.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        if self._lease.take() is None or not self._is_due():
            return None
        return run_apart(JOB, self._settings, self._lease, go_on=go_on)

    def _is_due(self) -> bool:
        return is_due(
            self._log.client,
            partitions=self._log.partitions,
            segment_entries=self._settings.archive_segment_facts,
            before_at=before_at(self._settings, self._clock()),
            head_of=self._streams.head,
        )
