"""What takes minutes: `pytest -m long`."""

import contextlib
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from events import PatchTags, RegisterDevice, ReportProperties, open_producer
from events.log.failpoints import VARIABLE, FailPoint
from events.log.keys import FLEET
from events.log.port import read_all
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.replayed import replay
from tests.servers import eventually, redis_server
from tests.workers.groups import AT, GROUPS, write
from tests.workers.system import PARTITIONS, System, assert_rebuilt, base, deploy, fresh_system, layer
from tests.workers.test_faults import OF_TURNS, PRODUCING, PROJECTING, drain_in_turn, without_interruption

pytestmark = [pytest.mark.long, pytest.mark.redis_server]

EVENTS = 1_000_000
DEVICES = 20_000


@pytest.fixture(scope="module")
def uninterrupted(shared_redis: EmbeddedRedis) -> list[list[Any]]:
    return without_interruption(shared_redis)


@pytest.mark.parametrize("action", ["kill", "stop"])
@pytest.mark.parametrize("nth", range(1, 9))
@pytest.mark.parametrize("point", [*PROJECTING, *OF_TURNS], ids=lambda point: point.value)
def test_a_worker_killed_or_stopped_at_any_pass_of_any_step(
    shared_redis: EmbeddedRedis, uninterrupted: list[list[Any]], point: FailPoint, nth: int, action: str
) -> None:
    with fresh_system(shared_redis, at=AT) as system:
        for number in range(GROUPS):
            write(system.url, system.queue_url, number)
            armed = {VARIABLE: f"{point.value}:{nth}:{action}", "TWINFOLD_WORK_SECONDS_MAX": "0"}
            with system.process("-m", "workers", **armed) as worker:
                # A group gives some steps fewer passes than this; then nothing happens to the worker.
                eventually(lambda: _is_out(worker) or system.is_settled(), what="it stands still or is done")
                with system.process("-m", "workers.pool"):
                    system.settle()
                worker.send_signal(signal.SIGCONT)
            assert system.everything_kept() == uninterrupted[number]
        assert_rebuilt(system)


def _is_out(worker: subprocess.Popen[bytes]) -> bool:
    if worker.poll() is not None:
        return True
    state = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "T"


@pytest.mark.parametrize("nth", range(1, 5))
@pytest.mark.parametrize("point", PRODUCING, ids=lambda point: point.value)
def test_a_producer_killed_at_any_pass_of_any_step(
    shared_redis: EmbeddedRedis, uninterrupted: list[list[Any]], point: FailPoint, nth: int
) -> None:
    with fresh_system(shared_redis, at=AT) as system:
        for number in range(GROUPS):
            command = ("-m", "tests.workers.groups", system.url, system.queue_url, str(number))
            with system.process(*command, **{VARIABLE: f"{point.value}:{nth}"}) as producer:
                assert waiting.exit_code(producer) in {-signal.SIGKILL, 0}
            write(system.url, system.queue_url, number)
            drain_in_turn(system)
            assert system.everything_kept() == uninterrupted[number]
        assert_rebuilt(system)


def commands(draw: random.Random) -> Iterator[Any]:
    """A million changes of a fleet, a tenth of which change who is targeted."""
    names = [f"edge-{number}" for number in range(DEVICES)]
    yield from map(RegisterDevice, names)
    for number in range(EVENTS - DEVICES):
        name = draw.choice(names)
        match number % 10:
            case 0:
                yield PatchTags(name, {"site": f"site-{draw.randrange(20)}"})
            case 1 | 2 | 3:
                yield ReportProperties(
                    name, {"lastDesiredVersion": 2, "lastDesiredStatus": {"code": 200}}, "$edgeAgent"
                )
            case _:
                yield PatchTags(name, {"note": draw.randrange(50)})


def test_a_million_events_under_dying_workers_and_a_dying_redis_are_all_there() -> None:
    draw = random.Random(20)  # noqa: S311 - chance with a seed
    with redis_server(appendfsync="everysec") as server, contextlib.ExitStack() as stack:
        system = System(server.url)
        stack.callback(system.close)
        stack.enter_context(system.process("-m", "workers.pool", TWINFOLD_WORKERS="2"))
        for number in range(20):
            condition = f"tags.site = 'site-{number}'"
            system.do(deploy(f"base-{number}", base(f"m{number}"), condition, priority=number))
            system.do(deploy(f"layer-{number}", layer(f"x{number}"), condition, priority=100 + number))
        killed = 0
        with open_producer(server.url) as producer:
            for number, command in enumerate(commands(draw)):
                producer.send(command)
                if number % 50_000 == 49_999:
                    killed += _kill_one_worker(draw)
                if number in {EVENTS // 3, 2 * EVENTS // 3}:
                    server.kill()
                    server.start()
            report = producer.flush()
            report.raise_if_refused()
        assert (report.written, killed > EVENTS // 100_000) == (EVENTS, True)
        system.settle(seconds_max=300)
        assert sum(system.log.head(number) for number in range(PARTITIONS)) == EVENTS
        assert system.log.head(FLEET) == 41
        assert_rebuilt(system)
        for number in range(PARTITIONS):
            documents = replay(read_all(system.log, number))
            stored = system.log.load(list(documents))
            assert [one.snapshot for one in stored] == list(documents.values())


def test_a_script_killed_again_and_again_is_run_again_until_it_is_through(shared_redis: EmbeddedRedis) -> None:
    draw = random.Random(21)  # noqa: S311 - chance with a seed
    with fresh_system(shared_redis) as system, system.process("-m", "workers.pool"):
        system.do(deploy("odd", base("a"), "tags.odd = true"))
        for run in range(12):
            nth = draw.randrange(1, 40)
            point = draw.choice(PRODUCING)
            armed = {} if run == 11 else {VARIABLE: f"{point.value}:{nth}"}
            with system.process("-c", _SCRIPT, system.url, **armed) as script:
                assert waiting.exit_code(script) in {-signal.SIGKILL, 0}
        assert script.returncode == 0
        system.settle()
        assert system.status("odd")["actual"] == 10_000
        for number in range(PARTITIONS):
            documents = replay(read_all(system.log, number))
            assert [one.snapshot for one in system.log.load(list(documents))] == list(documents.values())
        assert_rebuilt(system)


_SCRIPT = """
import sys
from events import PatchTags, RegisterDevice, open_producer
producer = open_producer(sys.argv[1])
for number in range(20_000):
    producer.send(RegisterDevice(f"d{number}"))
    producer.send(PatchTags(f"d{number}", {"odd": number % 2 == 1}))
producer.flush()
"""


def _kill_one_worker(draw: random.Random) -> bool:
    children = [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and _command(path)[1:3] == ["-m", "workers"] and _parent_is_ours(path)
    ]
    if not children:
        return False
    os.kill(draw.choice(children), signal.SIGKILL)
    return True


def _command(process: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return [part.decode() for part in (process / "cmdline").read_bytes().split(b"\0") if part]
    return []


def _parent_is_ours(process: Path) -> bool:
    """Whether a worker's supervisor is a child of this process."""
    with contextlib.suppress(OSError):
        return _parent_of(_parent_of(int(process.name))) == os.getpid()
    return False


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
