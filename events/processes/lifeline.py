"""The line between a process and its parent: its end tells the child that the parent is gone, its last bytes why the child ended."""

import contextlib
import os
import select
import signal
import socket
import sys
import threading
from types import TracebackType

VARIABLE = "TWINFOLD_LIFELINE"
"""In a supervised child: the descriptor of its end of the line."""

GRACE_SECONDS = 20.0
"""How long a child whose parent is gone may take to end in order."""

LAST_OUTPUT_BYTES_MAX = 2000


class Lifeline:
    """The child's end."""

    def __init__(self, line: socket.socket | None) -> None:
        self._line = line

    def last_output(self, text: str) -> None:
        """Tell the parent why this process is about to end; nothing where no parent listens."""
        if self._line is not None:
            with contextlib.suppress(OSError):
                self._line.send(text.encode(errors="replace")[:LAST_OUTPUT_BYTES_MAX], socket.MSG_DONTWAIT)


def hold() -> Lifeline:
    """Take up the child's end: SIGTERM when the parent ends, SIGKILL if that is not heeded within `GRACE_SECONDS`.

    The kernel closes the parent's end whatever the parent dies of, on every Unix; a signal on the parent's death
    (prctl) is Linux's alone, and comes already when the thread ends that started the child. A process that nobody
    supervises goes on as it is. What nobody catches becomes the process's last words.
    """
    descriptor = os.environ.pop(VARIABLE, "")
    if not descriptor:
        return Lifeline(None)
    line = socket.socket(fileno=int(descriptor))
    line.set_inheritable(False)
    threading.Thread(target=_end_with, args=(line,), name="lifeline", daemon=True).start()
    lifeline = Lifeline(line)
    _tell_of_crashes(lifeline)
    return lifeline


def _end_with(line: socket.socket) -> None:
    _wait_for_the_end(line)
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _wait_for_the_end(line: socket.socket) -> None:
    # The parent never writes: whatever can be read is the end.
    select.select([line], [], [])


def _tell_of_crashes(lifeline: Lifeline) -> None:
    previous_hook = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        lifeline.last_output(f"{kind.__name__}: {error}")
        previous_hook(kind, error, traceback)

    sys.excepthook = hook
