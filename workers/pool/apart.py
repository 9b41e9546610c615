"""Work in a process of its own: what it holds in memory is gone when it is done, and workers go on at their pace."""

import os
import subprocess
import sys
from collections.abc import Callable

from events.settings import Settings, environment_of
from workers.lifeline import SUPERVISED
from workers.pool.lease import LEASE_MS, Lease

_RENEW_SECONDS = LEASE_MS / 3000


def run_apart(module: str, settings: Settings, lease: Lease, *, go_on: Callable[[], bool]) -> int | None:
    """Run a module as long as the lease holds and `go_on` says so; answers its exit code, `None` where it was ended.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    with subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", module],
        env={**os.environ, **environment_of(settings), SUPERVISED: "1"},
        start_new_session=True,
    ) as process:
        try:
            while True:
                try:
                    return process.wait(_RENEW_SECONDS)
                except subprocess.TimeoutExpired:
                    if not go_on() or not lease.renew():
                        return None
        finally:
            # It can be killed at any step.
            if process.poll() is None:
                process.kill()
