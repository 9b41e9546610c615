"""Sealing beside scheduling: a thread of its own, as a long catch-up must not keep deployments from starting in time."""

import contextlib
import threading

import structlog
from typing_extensions import override

from events.audit.errors import AuditError
from events.audit.sealer import SEALS_MAX, open_sealer
from events.clock import now_ms
from events.log.errors import Fenced, LogError, LogUnavailable
from events.log.failpoints import FailPoint, reached
from events.log.lease import Lease
from events.log.redis import RedisLog
from events.processes.postponed import Postponed
from events.settings import Settings

POLL_SECONDS = 1.0
LEASE_MS = 5000
"""Longer than a round usually takes: another process begins with reading everything."""

logger = structlog.get_logger()


class Sealing(threading.Thread):
    """Seals until told to stop, whenever it is this process's turn."""

    def __init__(self, settings: Settings, log: RedisLog, stopping: threading.Event) -> None:
        """Read the key, or make it.

        Raises:
            KeyFileError, ObjectStoreUnavailable: this process cannot seal.
        """
        super().__init__(name="sealing")
        self._stopping, self._every_seconds = stopping, min(POLL_SECONDS, settings.seal_every_seconds)
        self._sealer = open_sealer(settings, log, clock=now_ms)
        self._lease = Lease(log.client, "sealer", milliseconds=LEASE_MS, used_in="sealing")
        self._fence: int | None = None
        self._said = ""
        self._postponed = Postponed(LogUnavailable)

    @override
    def run(self) -> None:
        """Look every second, and seal what is due."""
        try:
            while not self._stopping.wait(self._every_seconds):
                self._round()
            with contextlib.suppress(LogUnavailable):
                self._lease.leave()
        finally:
            # However this ended, the process does not go on without it.
            self._stopping.set()

    def _round(self) -> None:
        try:
            while self._look() == SEALS_MAX and not self._stopping.is_set():
                pass
            self._said = ""
            self._postponed.worked("sealing")
        except LogUnavailable as error:
            self._postponed.failed("sealing", error)
        except (LogError, AuditError) as error:
            # It is looked at again every second, and said once.
            if str(error) != self._said:
                self._said = str(error)
                logger.error("nothing can be sealed", error=self._said)  # noqa: TRY400 - expected

    def _look(self) -> int:
        fence = self._lease.take()
        if fence is None:
            return 0
        if fence != self._fence:
            # Others may have sealed meanwhile.
            self._fence = fence
            self._sealer.forget()
            logger.info("sealing", fence=fence)
        reached(FailPoint.SEAL_LEASED)
        try:
            made = self._sealer.round(fence)
        except Fenced as error:
            self._fence = None
            logger.warning("another process has taken over sealing", error=str(error))
            return 0
        if made:
            logger.debug("sealed", seals=made)
        return made
