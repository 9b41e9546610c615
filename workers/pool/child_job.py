"""Runs a module in a process of its own when it is due."""

import subprocess
import sys
from collections.abc import Callable

from events.log.lease import LEASE_MS, Lease
from events.processes.child import Child
from events.settings import Settings, environment_of

_RENEW_SECONDS = LEASE_MS / 3000


class ChildJob:
    """A module that one pool at a time, under a lease, runs as a process when it is due."""

    # A process of its own gives its memory back when it ends, and does not slow down the threads of the pool.

    def __init__(self, module: str, settings: Settings, lease: Lease, *, is_due: Callable[[], bool]) -> None:
        self._module, self._settings, self._lease, self._is_due = module, settings, lease, is_due

    def once(self, *, go_on: Callable[[], bool]) -> int | None:
        """Run the job if it is due, as long as the lease holds and `go_on` is true.

        Returns its exit code; `None` if it is not due, another pool holds the lease, or it was ended.

        Raises:
            LogUnavailable, ObjectStoreUnavailable: Redis or the object store did not answer.
        """
        if self._lease.take() is None or not self._is_due():
            return None
        child = Child([sys.executable, "-m", self._module], environment_of(self._settings))
        try:
            while True:
                try:
                    return child.process.wait(_RENEW_SECONDS)
                except subprocess.TimeoutExpired:
                    child.continue_if_stopped()
                    if not go_on() or self._lease.take() is None:
                        return None
        finally:
            # No time to end: both jobs can be killed at any step and continue at the next run.
            child.end(0)
