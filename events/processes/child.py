"""A child process that ends with its parent."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from events.processes.lifeline import LAST_OUTPUT_BYTES_MAX, VARIABLE

STOPPED_SECONDS_MAX = 1.0
"""A child that has been stopped (SIGSTOP) for this long is continued."""


class Child:
    """A process with a lifeline to this one: it ends when this process ends, even by SIGKILL."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, keeps: Sequence[int] = (), **how: Any
    ) -> None:
        """Start a command (or OSError); `environment` adds variables, `keeps` are descriptors that it inherits."""
        self._line, theirs = socket.socketpair()
        with theirs:
            descriptor = theirs.fileno()
            self.process = subprocess.Popen(  # noqa: S603 - our own modules and the server found by `find_server`
                command,
                env={**os.environ, **environment, VARIABLE: str(descriptor)},
                pass_fds=(descriptor, *keeps),
                # A group of its own, so that Ctrl-C reaches the parent alone, which ends its children in order. Not a session
                # of its own: within the session the kernel continues a stopped child whose parent dies, so it ends too.
                process_group=0,
                # Redis has no setting for the mode of its files, which hold all data and must be the owner's alone.
                umask=0o077,
                **how,
            )
        self._stopped_at: float | None = None

    def wait_for_end(self) -> None:
        """Wait until the process has ended; another thread may wait for it at the same time, and gets its exit code."""
        if not hasattr(os, "waitid"):
            self.process.wait()
            return
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)

    @property
    def is_stopped(self) -> bool:
        """Whether the process was stopped (SIGSTOP) when `continue_if_stopped` looked last."""
        return self._stopped_at is not None

    def continue_if_stopped(self) -> bool:
        """Continue the process if it has been stopped for `STOPPED_SECONDS_MAX`; returns whether it was continued."""
        if self._is_stopped() and self._stopped_at is None:
            self._stopped_at = time.monotonic()
        if self._stopped_at is None or time.monotonic() - self._stopped_at < STOPPED_SECONDS_MAX:
            return False
        self._stopped_at = None
        self.process.send_signal(signal.SIGCONT)
        return True

    def _is_stopped(self) -> bool:
        # macOS has `waitid` from Python 3.13 on. Before, a stopped child stays stopped there (decision 0035).
        if not hasattr(os, "waitid"):
            return False
        with contextlib.suppress(ChildProcessError):
            while (
                change := os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
            ) is not None:
                if change.si_code == os.CLD_CONTINUED:
                    self._stopped_at = None
                else:
                    return True
        return False

    def last_output(self) -> str:
        """The reason that the process gave for its end; empty if it gave none."""
        with contextlib.suppress(OSError):
            return self._line.recv(LAST_OUTPUT_BYTES_MAX, socket.MSG_DONTWAIT).decode(errors="replace").strip()
        return ""

    def terminate(self) -> None:
        """Ask the process to end (SIGTERM)."""
        if self.process.poll() is None:
            # A stopped process receives SIGTERM only once it is continued.
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGCONT)

    def end(self, seconds_max: float) -> int:
        """Wait for the process to end, and kill it after `seconds_max`; returns its exit code."""
        try:
            self.process.wait(max(0.0, seconds_max))
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._line.close()
        return self.process.wait()
