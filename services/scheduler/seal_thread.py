"""The thread that seals the log, beside the scheduler's."""

import contextlib
import threading

import structlog
from typing_extensions import override

from events.audit.errors import AuditError
from events.audit.sealer import SEALS_MAX, Sealer
from events.clock import now_ms
from events.log.errors import Fenced, LogError, LogUnavailable
from events.log.failpoints import FailPoint, reached
from events.log.lease import Lease
from events.log.redis import RedisLog
from events.processes.postponed import Postponed
from events.settings import Settings

POLL_SECONDS = 2.0
LEASE_MS = 5000
"""Longer than a round usually takes, because a process that takes over reads everything anew."""

logger = structlog.get_logger()


# A thread of its own, because sealing a long backlog must not delay the start of a deployment.
class SealThread(threading.Thread):
    """Seals what is due while this process holds the lease, until `stopping` is set."""

    def __init__(self, settings: Settings, log: RedisLog, stopping: threading.Event) -> None:
        """Read the signing key, or create it; KeyFileError or ObjectStoreUnavailable if this process cannot seal."""
        super().__init__(name="sealing")
        self._stopping, self._every_seconds = stopping, min(POLL_SECONDS, settings.seal_every_seconds)
        self._sealer = Sealer(settings, log, clock=now_ms)
        self._lease = Lease(log.client, "sealer", milliseconds=LEASE_MS, used_in="sealing")
        self._fence: int | None = None
        self._last_error = ""
        self._postponed = Postponed(LogUnavailable)

    @override
    def run(self) -> None:
        """Seal what is due, every `POLL_SECONDS`."""
        try:
            while not self._stopping.wait(self._every_seconds):
                self._round()
            with contextlib.suppress(LogUnavailable):
                self._lease.leave()
        finally:
            # A scheduler that runs on without sealing would look healthy. Stopping it lets the supervisor start both again.
            self._stopping.set()

    def _round(self) -> None:
        try:
            with self._postponed.attempt("sealing"):
                while self._seal() == SEALS_MAX and not self._stopping.is_set():
                    pass
                self._last_error = ""
        except (LogError, AuditError) as error:
            # The round is retried; the same error is logged once.
            if str(error) != self._last_error:
                self._last_error = str(error)
                logger.error("nothing can be sealed", error=self._last_error)  # noqa: TRY400 - expected

    def _seal(self) -> int:
        fence = self._lease.take()
        if fence is None:
            return 0
        if fence != self._fence:
            # Another process may have sealed since; the sealer's state in memory is then out of date.
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
