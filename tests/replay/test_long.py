"""What takes minutes: `pytest -m long`."""

import contextlib
import json
import random
import subprocess
import sys
from typing import Any

import pytest

from events import open_producer
from events.log.keys import FLEET
from tests import waiting
from tests.servers import redis_server
from tests.workers.system import PARTITIONS, System, base, deploy, layer
from tests.workers.test_long import _kill_one_worker, commands

pytestmark = [pytest.mark.long, pytest.mark.redis_server]

EVENTS = 1_000_000
KILLS = 20


def command(system: System, *words: str) -> Any:
    ran = waiting.run(
        [sys.executable, "-m", "services.cli", *words, "--redis-url", system.url, "--workers", "2", "--json"],
        seconds_max=1800,
    )
    return ran.returncode, json.loads(ran.stdout)


def test_a_million_events_under_dying_workers_are_replayed_without_a_difference_and_projections_rebuilt_on_the_way() -> (
    None
):
    draw = random.Random(30)  # noqa: S311 - chance with a seed
    with redis_server(appendfsync="everysec") as server, contextlib.ExitStack() as stack:
        system = System(server.url)
        stack.callback(system.close)
        stack.enter_context(system.process("-m", "workers.pool", TWINFOLD_WORKERS="2"))
        for number in range(20):
            condition = f"tags.site = 'site-{number}'"
            system.do(deploy(f"base-{number}", base(f"m{number}"), condition, priority=number))
            system.do(deploy(f"layer-{number}", layer(f"x{number}"), condition, priority=100 + number))
        killed, rebuilding = 0, None
        with open_producer(server.url) as producer:
            for number, one in enumerate(commands(draw)):
                producer.send(one)
                if number % (EVENTS // KILLS) == EVENTS // KILLS - 1:
                    killed += _kill_one_worker(draw)
                if number == EVENTS // 2:
                    # Beside the writes, which go on until long after it has to be done.
                    words = ["-m", "services.cli", "rebuild", "--redis-url", server.url, "--json"]
                    rebuilding = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE)
                    stack.enter_context(rebuilding)
                if number == EVENTS - 1:
                    break
            producer.flush().raise_if_refused()
        assert killed > KILLS // 2
        assert rebuilding is not None
        assert waiting.exit_code(rebuilding, 600) == 0
        system.settle(seconds_max=600)
        code, found = command(system, "replay")
        assert (code, found["differences"], found["failed"]) == (0, 0, [])
        heads = system.log.heads()
        assert found["events"] == sum(heads.values())
        assert heads[FLEET] == 41
        stored_partitions = [system.projections.load(number) for number in range(PARTITIONS)]
        code, found = command(system, "rebuild")
        assert (code, found["failed"]) == (0, [])
        for number, before in enumerate(stored_partitions):
            after = system.projections.load(number)
            assert (after.hashes, after.arrays) == (before.hashes, before.arrays)
