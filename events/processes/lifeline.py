"""A socket between a process and its parent: it closes when the parent ends, and carries the reason why the child ended."""

import contextlib
import os
import select
import signal
import socket
import sys
import threading
from types import TracebackType

VARIABLE = "TWINFOLD_LIFELINE"
"""The environment variable with the descriptor of the child's end."""

GRACE_SECONDS = 20.0
"""How long a child may take to end in order after its parent ended."""

LAST_OUTPUT_BYTES_MAX = 2000


class Lifeline:
    """The child's end of the line."""

    def __init__(self, line: socket.socket | None) -> None:
        self._line = line

    def last_output(self, text: str) -> None:
        """Send the parent the reason why this process is about to end; without a parent this does nothing."""
        if self._line is not None:
            with contextlib.suppress(OSError):
                self._line.send(text.encode(errors="replace")[:LAST_OUTPUT_BYTES_MAX], socket.MSG_DONTWAIT)


def hold() -> Lifeline:
    """Watch the parent: when it ends, this process gets SIGTERM, and SIGKILL after `GRACE_SECONDS`.

    The text of an uncaught exception is sent to the parent. A process without a supervisor is not changed.
    """
    # A socket, because the kernel closes the parent's end whatever the parent dies of, on every Unix. The alternative, a
    # signal on the parent's death (prctl), exists on Linux alone and comes already when the thread that started the child ends.
    descriptor = os.environ.pop(VARIABLE, "")
    if not descriptor:
        return Lifeline(None)
    line = socket.socket(fileno=int(descriptor))
    line.set_inheritable(False)
    threading.Thread(target=_end_with, args=(line,), name="lifeline", daemon=True).start()
    lifeline, previous_hook = Lifeline(line), sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        lifeline.last_output(f"{kind.__name__}: {error}")
        previous_hook(kind, error, traceback)

    sys.excepthook = hook
    return lifeline


def _end_with(line: socket.socket) -> None:
    # The parent never writes, so the line becomes readable only when it is closed.
    select.select([line], [], [])
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
