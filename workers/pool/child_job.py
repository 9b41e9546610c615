"""Work in a process of its own: what it holds in memory is gone when it is done, and workers go on at their pace."""

import subprocess
import sys
from collections.abc import Callable

from events.log.lease import LEASE_MS, Lease
from events.processes.child import Child
from events.settings import Settings, environment_of

_RENEW_SECONDS = LEASE_MS / 3000


class ChildJob:
    """A module that is run as a process of its own when it is due, by one pool at a time, under a lease."""

    def __init__(self, module: str, settings: Settings, lease: Lease, *, is_due: Callable[[], bool]) -> None:
        self._module, self._settings, self._lease, self._is_due = module, settings, lease, is_due

    def once(self, *, go_on: Callable[[], bool]) -> int | None:
        """Run it if it is due, as long as the lease holds and `go_on` says so.

        Answers its exit code; `None` where it is not due, it is another pool's turn, or it was ended.

        Raises:
            LogUnavailable, ObjectStoreUnavailable: not now.
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
            # It can be killed at any step.
            child.end(0)
