"""Sees to it that snapshots of the folded state are taken: one process at a time, under a lease, has it done by another."""

from collections.abc import Callable
from functools import cached_property

from events.history.snapshot_taker import SnapshotTaker, open_snapshot_taker
from events.log.lease import Lease
from events.log.redis import RedisLog
from events.settings import Settings
from workers.pool.apart import run_apart

JOB = "workers.snapshot"
INTERVAL_SECONDS = 5.0


class Snapshotting:
    """Has snapshots taken, when it is this process's turn and so many facts were folded since the last ones."""

    def __init__(self, log: RedisLog, settings: Settings) -> None:
        self._log, self._settings = log, settings
        self._lease = Lease(log.client, "snapshots")

    @cached_property
    def _taking(self) -> SnapshotTaker:
        return open_snapshot_taker(self._log, self._settings)

    def once(self, *, go_on: Callable[[], bool]) -> int | None:
        """Take those that are due; answers the exit code of who took them, `None` where there is nothing to do.

        Raises:
            LogUnavailable, DepotUnavailable: not now.
        """
        if self._lease.take() is None or not any(True for _ in self._taking.due()):
            return None
        return run_apart(JOB, self._settings, self._lease, go_on=go_on)
