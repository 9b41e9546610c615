"""Work in a process of its own: what it holds in memory is gone when it is done, and workers go on at their pace."""

import subprocess
import sys
from collections.abc import Callable

from events.log.lease import LEASE_MS, Lease
from events.processes.child import Child
from events.settings import Settings, environment_of

_RENEW_SECONDS = LEASE_MS / 3000


def run_apart(module: str, settings: Settings, lease: Lease, *, go_on: Callable[[], bool]) -> int | None:
    """Run a module as long as the lease holds and `go_on` says so; answers its exit code, `None` where it was ended.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    child = Child([sys.executable, "-m", module], environment_of(settings))
    try:
        while True:
            try:
                return child.process.wait(_RENEW_SECONDS)
            except subprocess.TimeoutExpired:
                child.continue_if_stopped()
                if not go_on() or lease.take() is None:
                    return None
    finally:
        # It can be killed at any step.
        child.end(0)
