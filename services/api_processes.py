"""Several API processes on one port: each is kept alive, and all accept connections from the same sockets."""

import datetime as dt
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from events.processes.child import Child
from events.processes.supervised import Continued, ProcessEnded, Supervised
from events.processes.wake import Wake
from events.settings import Settings
from events.terminal import print_lines
from services import certificates
from services.sockets import handed_over, listening

METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Where each process keeps its counters in a file, so that each can add up those of all. prometheus_client reads it at its import."""

_STOP_SECONDS_MAX = 20.0


@contextmanager
def supervised(
    settings: Settings, environment: dict[str, str], keeps: Sequence[int], wake: Wake
) -> Iterator[list[Supervised]]:
    """Start the API's processes with the variables and descriptors of its sockets; the caller tends and ends them.

    The end of a process wakes the caller. A process that ends at once every time is given up.
    """
    count = settings.api_processes
    with tempfile.TemporaryDirectory(prefix="twinfold-metrics-") as directory:
        variables = environment if count == 1 else {**environment, METRICS_VARIABLE: directory}
        names = ["api"] if count == 1 else [f"api {number}" for number in range(1, count + 1)]

        def start() -> Child:
            return Child([sys.executable, "-m", "services.api"], variables, keeps=keeps)

        yield [
            Supervised(name, start, tell=partial(print_change, name), gives_up=True, on_end=wake.wake) for name in names
        ]


def print_change(name: str, change: ProcessEnded | Continued) -> None:
    """Print what happened to a process."""
    print_lines(f"{name} {change}")


def shared_metrics() -> Path | None:
    """The directory with the counters of all API processes; `None` if this process is the only one."""
    directory = os.environ.get(METRICS_VARIABLE, "")
    return Path(directory) if directory else None


def serve_with_several(settings: Settings) -> None:
    """Serve with several processes until SIGINT or SIGTERM; running requests end first.

    Raises:
        CertificateUnusable, CannotListen: the API cannot serve.
        GivenUp: a process ends at once every time it is started.
    """
    stopping, wake = threading.Event(), Wake()

    def stop(_signum: int, _frame: object) -> None:
        stopping.set()
        wake.wake()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    # Checked once before anything starts: found by each process, a mistake would be the end of each, again and again.
    if settings.has_tls:
        certificates.of(settings, now=dt.datetime.now(dt.UTC))
    with listening(settings) as sockets:
        keeps = [listener.fileno() for listener in sockets]
        with supervised(settings, handed_over(sockets), keeps, wake) as roles:
            try:
                while not stopping.is_set():
                    for role in roles:
                        role.tend()
                    wake.wait(min(role.tend_in_seconds for role in roles))
            finally:
                for listener in sockets:
                    listener.close()
                for role in roles:
                    role.terminate()
                for role in roles:
                    role.end(_STOP_SECONDS_MAX)
