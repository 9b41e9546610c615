"""Processes that are kept alive: started again with back-off when they die, and stopped in order."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

BACK_OFF_SECONDS_MAX = 10.0
STOP_SECONDS_MAX = 20.0


class Role:
    """One process of ours."""

    def __init__(self, name: str, module: str, environment: Mapping[str, str], *, say: Callable[[str], None]) -> None:
        self.name = name
        self._module = module
        self._environment = environment
        self._say = say
        self._back_off_seconds = 0.2
        self._again_at = 0.0
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._started_at = time.monotonic()
        # A session of its own: Ctrl-C at the terminal is for `up` alone, which stops the roles in order.
        return subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", self._module], env={**os.environ, **self._environment}, start_new_session=True
        )

    def tend(self) -> None:
        """Start the process again if it died, later each time it dies young."""
        code = self.process.poll()
        if code is None:
            return
        now = time.monotonic()
        if not self._again_at:
            if now - self._started_at > BACK_OFF_SECONDS_MAX:
                self._back_off_seconds = 0.2
            self._again_at = now + self._back_off_seconds
            self._say(f"{self.name} ended with {code}; again in {self._back_off_seconds:.1f} s")
            self._back_off_seconds = min(2 * self._back_off_seconds, BACK_OFF_SECONDS_MAX)
        elif now >= self._again_at:
            self._again_at = 0.0
            self.process = self._start()

    def stop(self) -> None:
        """Ask the process to end and wait for it; insist after a while."""
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
