"""A whole twinfold that is started again when `up` is killed, as a service manager would, and faults of all its processes."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
from redis import Redis
from redis.exceptions import RedisError

from services.local_api import require_local_api
from tests import waiting
from tests.api.serving import free_port
from tests.cli.running import client, command
from tests.process_tree import EMBEDDED_SERVER, children, is_running

WORKER = "workers twinfold-project"
ROLES = {"api": "services.api", "scheduler": "services.scheduler", "workers": "workers.pool", "redis": EMBEDDED_SERVER}
PAUSE_OF_UP_SECONDS = 3.0


class Fault(msgspec.Struct, frozen=True):
    """What is done to which process: `up`, a role of it, or `worker`, one of the pool's own children."""

    target: str
    number: signal.Signals

    def __str__(self) -> str:
        return f"{self.number.name} {self.target}"


ALL = [Fault(target, number) for target in (*ROLES, "worker", "up") for number in (signal.SIGKILL, signal.SIGSTOP)]


def faults(chance: random.Random) -> Iterator[Fault]:
    """Every fault again and again, in another order each time."""
    while True:
        yield from chance.sample(ALL, len(ALL))


class Victim:
    """`twinfold up` in a directory, on one port."""

    def __init__(self, data: Path) -> None:
        self.data, self.port = data, free_port()
        self._next_fence = 1
        self._output = (data.parent / "up.log").open("ab")
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        words = command(self.data, self.port, "--workers", "2")
        environment = {**os.environ, "TWINFOLD_LOG_LEVEL": "warning", "TWINFOLD_SEAL_EVERY_SECONDS": "1"}
        return subprocess.Popen(words, stdout=self._output, stderr=self._output, env=environment)

    def client(self) -> httpx.Client:
        """A client with the directory's token."""
        return client(self.data, self.port, trusting=None)

    def wait_until_served(self) -> None:
        """Wait for the first start: before it there is no token."""
        waiting.eventually((self.data / "admin.token").exists, what="there is a token")

    def pid(self, target: str) -> int | None:
        """The process that a fault strikes; `None` while it is not there."""
        if target == "up":
            return self.process.pid
        if target == "worker":
            pool = self.pid("workers")
            found = [] if pool is None else children(pool, "twinfold-project")
        else:
            found = children(self.process.pid, ROLES[target])
        return found[0] if found else None

    def strike(self, fault: Fault) -> int | None:
        """Do it; answers the process that was struck."""
        pid = self.pid(fault.target)
        if pid is None:
            return None
        kills_scheduler = fault.number == signal.SIGKILL and fault.target in {"scheduler", "up"}
        self._next_fence = self._fence() + 1 if kills_scheduler else 1
        os.kill(pid, fault.number)
        if fault.target == "up":
            if fault.number == signal.SIGKILL:
                self.process.wait()
                self.process = self._start()
            else:
                # Nobody supervises the supervisor but who started it.
                threading.Timer(PAUSE_OF_UP_SECONDS, os.kill, (pid, signal.SIGCONT)).start()
        return pid

    def is_back(self, fault: Fault, struck: int, http: httpx.Client) -> bool:
        """Whether the role runs and does its work: requests are answered, a scheduler has the lease, all processes are there."""
        pid = self.pid(fault.target)
        if pid is None or not is_running(pid) or (fault.number == signal.SIGKILL and pid == struck):
            return False
        if self._fence() < self._next_fence:
            return False
        with contextlib.suppress(httpx.TransportError, ValueError):
            answer = http.get("/readyz")
            return answer.is_success and all(self.pid(target) is not None for target in (*ROLES, "worker"))
        return False

    def _fence(self) -> int:
        """The fence of the scheduler that works; 0 while none does. A killed one's lease ends after five seconds."""
        with (
            contextlib.suppress(RedisError),
            contextlib.closing(Redis.from_url(self.redis_url, socket_timeout=1)) as redis,
        ):
            return int(redis.hget("{fleet}:lease:scheduler", "fence") or 0)
        return 0

    def twinfold(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of the program on this directory."""
        whole = [sys.executable, "-m", "services.cli", *words, "--data", str(self.data)]
        return waiting.run(whole, seconds_max=600)

    @property
    def redis_url(self) -> str:
        """Where its log is."""
        return require_local_api(self.data).redis_url

    def stop(self) -> int:
        """End it in order."""
        self.process.terminate()
        code = waiting.exit_code(self.process)
        self._output.close()
        return code


def seconds_until(holds: Callable[[], bool], *, seconds_max: float) -> float:
    """How long it takes until something holds; fails where that takes too long."""
    began = time.monotonic()
    waiting.eventually(holds, what="the role is back", seconds_max=seconds_max)
    return time.monotonic() - began
