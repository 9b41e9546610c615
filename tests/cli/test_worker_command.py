"""`twinfold init` and `twinfold worker`, as an operator runs them."""

import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from services.cli import roles
from services.cli.app import app
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
        with waiting.started(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as pool:
            system.do(*join("d"), deploy("a", base("m")))
            system.settle()
            eventually(lambda: len(workers_of(system)) == 2, what="both workers are at work")
            pool.send_signal(signal.SIGTERM)
            said, words = waiting.last_output(pool)
        assert (pool.returncode, said, "Traceback" in words) == (0, "", False)
        eventually(lambda: not workers_of(system), what="the workers are gone")
        assert system.status("a")["actual"] == 1


def test_the_flag_of_the_count_overrides_whatever_its_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    monkeypatch.setattr(roles, "become", lambda _module, settings: started.append(settings.workers))
    ran = CliRunner().invoke(app, ["worker", "--count", "2"], env={"TWINFOLD_WORKERS": "many"})
    assert (ran.exit_code, started) == (0, [2])


def workers_of(system: System) -> list[bytes]:
    return list(system.queue.smembers("rq:workers"))  # type: ignore[arg-type]


def test_workers_without_a_log_say_so_and_leave(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis) as system:
        system.queue.flushall()
        ran = waiting.run(command("worker", "--redis-url", system.url))
    assert (ran.returncode, ran.stdout, len(ran.stderr.splitlines())) == (3, "", 1)
    assert "no twinfold log" in ran.stderr
