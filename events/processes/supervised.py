"""A process that is kept alive: it is restarted with back-off, and given up if it ends at once every time."""

import signal
import threading
import time
from collections.abc import Callable

import msgspec
from typing_extensions import override

from events.processes.child import STOPPED_SECONDS_MAX, Child

BACK_OFF_SECONDS_MIN, BACK_OFF_SECONDS_MAX = 0.2, 5.0
"""The first pause before a restart, and the longest; each pause is twice the one before."""

YOUNG_SECONDS = 10.0
"""A process that lived longer is restarted after the first pause again."""

ATTEMPTS_MAX = 5
"""A process is given up when it has ended by itself this often in a row within `YOUNG_SECONDS` of its start."""

_STOPPED_CHECK_SECONDS = 0.1
"""Between two checks of a process that is stopped."""

UNAVAILABLE = 3
"""The exit code for a missing dependency such as Redis (services/cli/exits.py)."""

# Sent by an operator or the kernel's out-of-memory killer: they say nothing about the process, so they are not counted.
_FROM_OUTSIDE = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP}


class ProcessEnded(msgspec.Struct, frozen=True):
    """A process ended and is restarted in `again_in_seconds`; `code` is negative for a signal, `reason` is its own text."""

    pid: int
    code: int
    reason: str
    again_in_seconds: float

    @override
    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        return f"ended with {self.code}{reason}; starts again in {self.again_in_seconds:.1f} s"


class Continued(msgspec.Struct, frozen=True):
    """A process had been stopped (SIGSTOP) and was continued."""

    pid: int

    @override
    def __str__(self) -> str:
        return "was stopped and is continued"


class GivenUp(Exception):
    """A process ended at once too often in a row."""

    def __init__(self, name: str, code: int, reason: str) -> None:
        super().__init__(
            f"{name} ended {ATTEMPTS_MAX} times in a row within {YOUNG_SECONDS:.0f} s of its start, the last time with"
            f" code {code}: {reason or 'it gave no reason; see its messages above'}"
        )
        self.name, self.code, self.reason = name, code, reason


class Supervised:
    """One process, kept alive by calls of `tend` until `terminate`: when it ends, and within `tend_in_seconds`."""

    def __init__(
        self,
        name: str,
        make: Callable[[], Child],
        *,
        tell: Callable[[ProcessEnded | Continued], None],
        gives_up: bool = False,
        reason: Callable[[Child], str] = Child.last_output,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """`make` starts the process. With `gives_up` it is an error that it ends at once every time; else it is restarted for ever.

        `on_end` is called in a thread of its own when the process has ended.
        """
        self.name, self._make, self._tell, self._gives_up, self._reason = name, make, tell, gives_up, reason
        self._on_end = on_end
        self._back_off_seconds, self._attempts = BACK_OFF_SECONDS_MIN, 0
        self._again_at: float | None = None
        self._start()

    def _start(self) -> None:
        self._started_at = time.monotonic()
        self.child = self._make()
        # A thread that waits costs nothing; asking the kernel often enough for a fast restart takes 0.2 % of a core.
        threading.Thread(target=self._watch, args=(self.child,), name=f"end of {self.name}", daemon=True).start()

    def _watch(self, child: Child) -> None:
        child.wait_for_end()
        self._on_end()

    @property
    def is_running(self) -> bool:
        """Whether the process runs."""
        return self.child.process.poll() is None

    @property
    def tend_in_seconds(self) -> float:
        """The time until `tend` has something to do, unless the process ends before."""
        if self._again_at is not None:
            return max(0.0, self._again_at - time.monotonic())
        return _STOPPED_CHECK_SECONDS if self.child.is_stopped else STOPPED_SECONDS_MAX

    def tend(self) -> bool:
        """Restart (returns true) or continue the process if due. GivenUp if it always ended at once."""
        code = self.child.process.poll()
        if code is None:
            if self.child.continue_if_stopped():
                self._tell(Continued(self.child.process.pid))
            return False
        now = time.monotonic()
        if self._again_at is not None:
            if now < self._again_at:
                return False
            self._again_at = None
            self._start()
            return True
        reason = self._reason(self.child)
        self.child.end(0)
        if now - self._started_at > YOUNG_SECONDS:
            self._back_off_seconds, self._attempts = BACK_OFF_SECONDS_MIN, 0
        # What is missing may come back, as Redis after its own restart: such a process is started again without limit.
        if code == UNAVAILABLE:
            self._attempts = 0
        elif code not in _FROM_OUTSIDE:
            self._attempts += 1
            if self._gives_up and self._attempts == ATTEMPTS_MAX:
                raise GivenUp(self.name, code, reason)
        self._again_at = now + self._back_off_seconds
        self._tell(ProcessEnded(self.child.process.pid, code, reason, self._back_off_seconds))
        self._back_off_seconds = min(2 * self._back_off_seconds, BACK_OFF_SECONDS_MAX)
        return False

    def terminate(self) -> None:
        """Ask the process to end."""
        self.child.terminate()

    def end(self, seconds_max: float) -> None:
        """Wait for the process to end, and kill it after `seconds_max`."""
        self.child.end(seconds_max)
