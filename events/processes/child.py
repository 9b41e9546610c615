"""A child process on a lifeline."""

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
"""A child that was stopped (SIGSTOP) for so long is continued."""


class Child:
    """A process that ends when this one does, however this one ends."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, keeps: Sequence[int] = (), **how: Any
    ) -> None:
        """Start a command with more variables than this process's own; `keeps` are descriptors that it inherits.

        Raises:
            OSError: it cannot be started.
        """
        self._line, theirs = socket.socketpair()
        with theirs:
            descriptor = theirs.fileno()
            self.process = subprocess.Popen(  # noqa: S603 - our own modules and the server found by `find_server`
                command,
                env={**os.environ, **environment, VARIABLE: str(descriptor)},
                pass_fds=(descriptor, *keeps),
                # Ctrl-C at the terminal is for the parent alone, which ends its children in order. In the parent's own
                # session still: when the parent dies, the kernel continues a stopped child, and that ends then, too.
                process_group=0,
                # What it makes is for its owner alone, such as the files of Redis, which has no setting for that.
                umask=0o077,
                **how,
            )
        self._stopped_at: float | None = None

    def continue_if_stopped(self) -> bool:
        """Continue a process that was stopped a while ago; answers whether it was."""
        if self._is_stopped() and self._stopped_at is None:
            self._stopped_at = time.monotonic()
        if self._stopped_at is None or time.monotonic() - self._stopped_at < STOPPED_SECONDS_MAX:
            return False
        self._stopped_at = None
        self.process.send_signal(signal.SIGCONT)
        return True

    def _is_stopped(self) -> bool:
        # macOS has it from Python 3.13 on; before, a stopped child there stays as it is.
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
        """Why it ended, as far as it told; empty where it did not."""
        with contextlib.suppress(OSError):
            return self._line.recv(LAST_OUTPUT_BYTES_MAX, socket.MSG_DONTWAIT).decode(errors="replace").strip()
        return ""

    def terminate(self) -> None:
        """Ask it to end."""
        if self.process.poll() is None:
            # Who is stopped hears of it only when continued.
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGCONT)

    def end(self, seconds_max: float) -> int:
        """Wait until it has ended, and insist after a while; answers its exit code."""
        try:
            self.process.wait(max(0.0, seconds_max))
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._line.close()
        return self.process.wait()
