import signal
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from events import PatchTags
from events.log.failpoints import VARIABLE, FailPoint, observers
from events.log.keys import FLEET
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.servers import eventually, redis_server
from tests.shortening import shortened
from tests.workers.groups import AT, GROUPS, write
from tests.workers.system import PARTITIONS, System, assert_rebuilt, base, deploy, fresh_system, join
from workers.projector import Projector

pytestmark = [pytest.mark.redis_server, pytest.mark.full]

PRODUCING = (
    FailPoint.APPEND_BEFORE_SCRIPT,
    FailPoint.APPEND_AFTER_SCRIPT,
    FailPoint.WAKE_BEFORE_ENQUEUE,
    FailPoint.WAKE_AFTER_ENQUEUE,
)
DELIVERING = (FailPoint.DELIVERY_POSTED, FailPoint.DELIVERY_NOTED)
SCHEDULING = (FailPoint.SCHEDULE_LEASED, FailPoint.SCHEDULE_JUDGED)
OF_OTHERS = tuple(
    point for point in FailPoint if point.value.startswith(("archive_", "backup_", "rebuild_", "restore_", "seal_"))
)
"""Killed at in their own tests: archive, backup, sealer, replay."""
OF_TURNS = (FailPoint.TURN_CLAIMED, FailPoint.TURN_LEFT, FailPoint.TURN_REQUEUED)
ELSEWHERE = (*OF_TURNS, *SCHEDULING, *DELIVERING, *OF_OTHERS)
PROJECTING = tuple(point for point in FailPoint if point not in (*PRODUCING, *ELSEWHERE))


def without_interruption(server: EmbeddedRedis) -> list[list[Any]]:
    """Everything kept after each group, when nothing goes wrong."""
    after_each = []
    with fresh_system(server, at=AT) as system:
        for number in range(GROUPS):
            write(system.url, system.queue_url, number)
            drain_in_turn(system)
            after_each.append(system.everything_kept())
    return after_each


@pytest.fixture(scope="module")
def uninterrupted(shared_redis: EmbeddedRedis) -> list[list[Any]]:
    return without_interruption(shared_redis)


@pytest.fixture
def system(shared_redis: EmbeddedRedis, uninterrupted: list[list[Any]]) -> Iterator[System]:
    del uninterrupted  # It empties the server first.
    with fresh_system(shared_redis, at=AT) as system:
        yield system


def drain_in_turn(system: System) -> None:
    """Apply every partition to its head in this process."""
    projector = Projector(system.log, system.projections, clock=lambda: AT)
    for number in range(PARTITIONS):
        assert projector.drain(number, go_on=lambda: True)


def test_every_step_of_append_wake_apply_and_commit_passes_its_fail_point(system: System) -> None:
    passed: list[FailPoint] = []
    observers.append(passed.append)
    try:
        write(system.url, system.queue_url, 0)
        projector = Projector(system.log, system.projections, clock=lambda: AT)
        projector.drain(0, go_on=lambda: True)
    finally:
        observers.remove(passed.append)
    in_order = list(dict.fromkeys(passed))
    assert in_order == [*PRODUCING, *PROJECTING]
    assert set(FailPoint) - set(in_order) == set(ELSEWHERE)


@pytest.mark.parametrize("point", shortened(PROJECTING, keep=2), ids=lambda point: point.value)
def test_a_worker_killed_at_any_step_changes_nothing_of_what_is_kept(
    system: System, uninterrupted: list[list[Any]], point: FailPoint
) -> None:
    for number in range(GROUPS):
        write(system.url, system.queue_url, number)
        with system.process("-m", "workers", **{VARIABLE: f"{point.value}:2"}) as worker:
            assert waiting.exit_code(worker) == -signal.SIGKILL
        with system.process("-m", "workers.pool"):
            system.settle()
        assert system.everything_kept() == uninterrupted[number]
    assert_rebuilt(system)


@pytest.mark.parametrize("point", shortened(PRODUCING), ids=lambda point: point.value)
def test_a_producer_killed_at_any_step_and_run_again_writes_everything_once(
    system: System, uninterrupted: list[list[Any]], point: FailPoint
) -> None:
    for number in range(GROUPS):
        command = ("-m", "tests.workers.groups", system.url, system.queue_url, str(number))
        with system.process(*command, **{VARIABLE: point.value}) as producer:
            assert waiting.exit_code(producer) == -signal.SIGKILL
        write(system.url, system.queue_url, number)
        drain_in_turn(system)
        assert system.everything_kept() == uninterrupted[number]
    assert_rebuilt(system)


def test_a_producer_killed_between_append_and_wake_is_found_by_the_reconciler(system: System) -> None:
    with system.process("-m", "workers.pool"):
        system.do(*join("d"))
        system.settle()
        command = ("-m", "tests.workers.groups", system.url, system.queue_url, "0")
        with system.process(*command, **{VARIABLE: "wake_before_enqueue"}) as producer:
            assert waiting.exit_code(producer) == -signal.SIGKILL
        eventually(system.is_settled, what="the reconciler finds the lost wake-up", seconds_max=10)
        assert system.fleet_projection.effective("d00") is not None


@pytest.mark.parametrize("point", shortened(OF_TURNS), ids=lambda point: point.value)
def test_a_worker_killed_at_the_beginning_or_end_of_a_turn_changes_nothing(
    system: System, uninterrupted: list[list[Any]], point: FailPoint
) -> None:
    for number in range(GROUPS):
        write(system.url, system.queue_url, number)
        short = {"TWINFOLD_WORK_SECONDS_MAX": "0", VARIABLE: point.value}
        with system.process("-m", "workers", **short) as worker:
            assert waiting.exit_code(worker) == -signal.SIGKILL
        with system.process("-m", "workers.pool", TWINFOLD_WORK_SECONDS_MAX="0"):
            system.settle()
        assert system.everything_kept() == uninterrupted[number]
    assert_rebuilt(system)


def test_two_workers_on_one_partition_commit_each_event_once(system: System, uninterrupted: list[list[Any]]) -> None:
    for number in range(GROUPS):
        write(system.url, system.queue_url, number)
        system.waker.wake(range(PARTITIONS))
        with system.process("-m", "workers"), system.process("-m", "workers"):
            system.settle()
        assert system.everything_kept() == uninterrupted[number]
    assert_rebuilt(system)


@pytest.mark.full
def test_a_worker_stopped_for_long_and_continued_does_no_harm(system: System, uninterrupted: list[list[Any]]) -> None:
    for number in range(GROUPS):
        write(system.url, system.queue_url, number)
        with system.process("-m", "workers", **{VARIABLE: "commit_before_script:1:stop"}) as paused:
            eventually(lambda: _state(paused.pid) == "T", what="the worker stops itself")
            with system.process("-m", "workers.pool"):
                system.settle()
            paused.send_signal(signal.SIGCONT)
            eventually(lambda: _state(paused.pid) != "T", what="it goes on")
            system.waker.wake(range(PARTITIONS))
            eventually(lambda: system.queue.llen("rq:queue:twinfold-project") == 0, what="it works the queue off")
        assert system.everything_kept() == uninterrupted[number]
    assert_rebuilt(system)


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - a file of the kernel
        return stat.read().rpartition(")")[2].split()[0]


@pytest.mark.full
def test_a_plain_rq_worker_with_our_class_drains_the_queue(system: System) -> None:
    write(system.url, system.queue_url, 0)
    command = ("-m", "rq.cli", "worker", "-w", "workers.worker.Worker", "-u", system.queue_url, "twinfold-project")
    with system.process(*command, "--quiet"):
        system.settle()
    assert system.status("base")["target"] > 0


@pytest.mark.parametrize(
    "point", shortened([FailPoint.COMMIT_BEFORE_SCRIPT, FailPoint.COMMIT_AFTER_SCRIPT, FailPoint.PROJECT_READ])
)
def test_redis_killed_and_restarted_in_the_middle_of_a_job_changes_nothing(
    uninterrupted: list[list[Any]], point: FailPoint
) -> None:
    with redis_server(appendfsync="always") as server:
        system = System(server.url, at=AT)
        for number in range(GROUPS):
            write(system.url, system.queue_url, number)
            with system.process("-m", "workers", **{VARIABLE: f"{point.value}:1:stop"}) as paused:
                eventually(lambda: _state(paused.pid) == "T", what="the worker stops itself")
                server.kill()
                server.start()
                paused.send_signal(signal.SIGCONT)
                with system.process("-m", "workers.pool"):
                    system.settle()
            assert system.everything_kept() == uninterrupted[number]
        assert_rebuilt(system)
        system.close()


@pytest.mark.full
def test_redis_killed_and_restarted_under_load_loses_nothing_acknowledged() -> None:
    with redis_server(appendfsync="always") as server:
        system = System(server.url)
        names = [f"d{number}" for number in range(40)]
        for name in names:
            system.do(*join(name, n=0))
        system.do(deploy("odd", base("a"), "tags.n > 3"))
        with system.process("-m", "workers.pool"):
            for step in range(1, 9):
                if step in {3, 6}:
                    server.kill()
                    server.start()
                system.do(*(PatchTags(name, {"n": step}) for name in names))
            system.settle(60)
        assert {stored.snapshot is not None and b'"n":8' in stored.snapshot for stored in system.log.load(names)} == {
            True
        }
        assert system.status("odd")["actual"] == len(names)
        assert_rebuilt(system)
        system.close()


def test_the_queue_may_live_on_a_server_of_its_own(shared_redis: EmbeddedRedis) -> None:
    with redis_server() as queue, fresh_system(shared_redis, queue_url=queue.url) as system:
        with system.process("-m", "workers.pool"):
            system.do(*join("d"), deploy("a", base("a")))
            system.settle()
        assert system.status("a")["actual"] == 1
        assert Redis.from_url(shared_redis.url).keys("rq:*") == []
        assert system.log.head(FLEET) == 2
