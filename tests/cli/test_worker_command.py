"""`twinfold init` and `twinfold worker`, as an operator runs them."""

import os
import signal
import subprocess
import sys

import pytest

from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.servers import eventually
from tests.workers.system import System, base, deploy, fresh_system, join

pytestmark = pytest.mark.redis_server


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "services.cli", *arguments]


def test_an_operator_makes_a_log_and_runs_workers_that_end_on_sigterm(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis) as system:
        made = waiting.run(command("init", "--redis-url", system.url, "--partitions", "4"), check=True)
        assert made.stdout == f"log test with 4 partitions at {system.url}\n"
        arguments = command("worker", "--redis-url", system.url, "--count", "2")
        # The flag overrides its variable, which would be an error.
        environment = {**os.environ, "TWINFOLD_WORKERS": "many"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with waiting.started(arguments, env=environment, **pipes) as pool:
            system.do(*join("d"), deploy("a", base("m")))
            system.settle()
            eventually(lambda: len(workers_of(system)) == 2, what="both workers are at work")
            pool.send_signal(signal.SIGTERM)
            said, words = waiting.last_output(pool)
        assert (pool.returncode, said, "Traceback" in words) == (0, "", False)
        eventually(lambda: not workers_of(system), what="the workers are gone")
        assert system.status("a")["actual"] == 1


def workers_of(system: System) -> list[bytes]:
    return list(system.queue.smembers("rq:workers"))  # type: ignore[arg-type]


def test_workers_without_a_log_say_so_and_leave(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis) as system:
        system.queue.flushall()
        ran = waiting.run(command("worker", "--redis-url", system.url))
    assert (ran.returncode, ran.stdout, len(ran.stderr.splitlines())) == (3, "", 1)
    assert "no twinfold log" in ran.stderr
