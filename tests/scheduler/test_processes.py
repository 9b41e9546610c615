"""Scheduler processes on a real Redis with real workers: killed, stopped, two at once. Each act happens once."""

import signal
import time
from collections.abc import Iterator

import pytest

from events.deployment import state as deployment_state
from events.deployment.commands import CreateDeployment, ScheduleDeployment
from events.deployment.events import AdmissionChanged, Everyone, NotStarted, Schedule
from events.envelope import Principal
from events.log.errors import Fenced
from events.log.failpoints import VARIABLE
from events.log.keys import FLEET
from events.log.lease import Lease
from events.log.port import Proposed
from events.rollout import state as rollout_state
from events.rollout.commands import CreateRollout, StartRollout
from events.rollout.events import DevicesAdmitted
from events.rollout.plan import Gate, Phase, RolloutPlan
from events.rollout.state import RolloutState
from services.embedded_redis import EmbeddedRedis
from tests.servers import eventually, redis_server
from tests.workers.system import System, answer, base, fresh_system, join

pytestmark = [pytest.mark.redis_server, pytest.mark.full]

SCHEDULER = ("-m", "services.scheduler")
ALL = RolloutPlan(phases=(Phase(percent=50), Phase(percent=100)))
DEVICES = [f"d{number}" for number in range(8)]


@pytest.fixture
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis) as system, system.process("-m", "workers.pool"):
        system.do(*(command for name in DEVICES for command in join(name)))
        yield system


def events_of(system: System, subject: str) -> list[object]:
    return [envelope.event for envelope in system.log.read(FLEET, after=0, limit=10_000) if envelope.subject == subject]


def state(system: System, name: str) -> RolloutState:
    (stored,) = system.log.load([rollout_state.subject_of(name)], fleet=True)
    assert stored.snapshot is not None
    return rollout_state.decode(stored.snapshot).state


def count(system: System, name: str, status: str) -> int:
    return system.fleet_projection.status(name)[name][status]


def roll_out(system: System, name: str) -> None:
    system.do(
        CreateDeployment(name, base("m", image=f"example.com/{name}:1"), "*", 10, admission=NotStarted()),
        CreateRollout(name, ALL),
        StartRollout(name),
    )


def answer_all(system: System, name: str) -> None:
    for device in list(system.fleet_projection.members(name, "pending")):
        system.do(answer(system, device, m="running"))


def carry_through(system: System, name: str) -> None:
    """Let devices answer until the rollout is completed."""

    def completed() -> bool:
        answer_all(system, name)
        return state(system, name) is RolloutState.COMPLETED

    eventually(completed, what="the rollout is completed")


def assert_once(system: System, name: str) -> None:
    events = events_of(system, rollout_state.subject_of(name))
    kinds = [type(event).__name__ for event in events]
    phase = ["PhaseOpened", "DevicesAdmitted", "PhasePassed"]
    assert kinds == ["RolloutCreated", "RolloutStarted", *phase, *phase, "RolloutCompleted"]
    assert [event.count for event in events if isinstance(event, DevicesAdmitted)] == [4, 4]


def test_what_was_due_while_everything_was_down_happens_on_return_once_and_says_how_late(system: System) -> None:
    due = time.time_ns() // 1_000_000 - 3_600_000
    schedule = Schedule(start_at=due, zone="Europe/Berlin")
    system.do(CreateDeployment("late", base("m"), "*", 1, schedule=schedule))
    system.settle()
    assert system.status("late")["target"] == 0
    with system.process(*SCHEDULER), system.process(*SCHEDULER):
        eventually(lambda: count(system, "late", "actual") == len(DEVICES), what="it has started")
        system.settle()
    (_, started) = events_of(system, "late")
    assert isinstance(started, AdmissionChanged)
    assert started.admission == Everyone()
    assert 3_600_000 <= started.late_ms < 3_700_000  # type: ignore[operator]


def test_it_starts_and_ends_at_its_times(system: System) -> None:
    now = time.time_ns() // 1_000_000
    system.do(CreateDeployment("brief", base("m"), "*", 1, schedule=Schedule(now + 1500)))
    with system.process(*SCHEDULER):
        eventually(lambda: count(system, "brief", "actual") == len(DEVICES), what="it starts")
        (stored,) = system.log.load(["brief"], fleet=True)
        assert stored.snapshot is not None
        assert deployment_state.decode(stored.snapshot).updated_at >= now + 1500
        end = time.time_ns() // 1_000_000 + 500
        system.do(ScheduleDeployment("brief", Schedule(now + 1500, end)))
        eventually(lambda: count(system, "brief", "target") == 0, what="it ends")
    kinds = [type(event).__name__ for event in events_of(system, "brief")]
    assert kinds == ["DeploymentCreated", "AdmissionChanged", "DeploymentScheduled", "AdmissionChanged"]


@pytest.mark.parametrize(
    "point",
    [
        "schedule_judged",
        "append_after_script",
        *(
            pytest.param(point, marks=pytest.mark.long)
            for point in ("schedule_leased", "append_before_script", "wake_before_enqueue")
        ),
    ],
)
def test_a_scheduler_killed_at_any_step_leaves_each_act_done_once(system: System, point: str) -> None:
    roll_out(system, "new")
    with system.process(*SCHEDULER, **{VARIABLE: f"{point}:2"}) as scheduler:
        while scheduler.poll() is None:
            answer_all(system, "new")
    assert scheduler.returncode == -signal.SIGKILL
    with system.process(*SCHEDULER):
        carry_through(system, "new")
    assert_once(system, "new")


@pytest.mark.full
def test_one_that_slept_through_its_lease_writes_nothing_when_it_wakes(system: System) -> None:
    roll_out(system, "new")
    with system.process(*SCHEDULER, **{VARIABLE: "schedule_judged:1:stop"}) as asleep:
        eventually(lambda: "T" in _status(asleep.pid), what="it is stopped between judgement and append")
        with system.process(*SCHEDULER):
            carry_through(system, "new")
            asleep.send_signal(signal.SIGCONT)
            assert_once(system, "new")
        eventually(lambda: "T" not in _status(asleep.pid), what="it is awake")
        roll_out(system, "next")
        carry_through(system, "next")
    assert_once(system, "new")
    assert_once(system, "next")


def _status(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return file.read().rsplit(")", 1)[1].split()[0]


def test_an_older_fence_is_refused_and_a_new_one_is_higher(system: System) -> None:
    first, second = (Lease(system.log.client, "scheduler", used_in="meta") for _ in range(2))
    fence = first.take()
    assert fence is not None
    assert (first.take(), second.take()) == (fence, None)
    first.leave()
    newer = second.take()
    assert newer is not None
    assert newer > fence
    author = Principal.parse("system:scheduler")
    system.do(CreateDeployment("a", base("m"), "*", 1))
    (stored,) = system.log.load(["a"], fleet=True)
    event = AdmissionChanged(Everyone())
    version = stored.head.version
    system.log.append([Proposed("a", version, event)], command_id="new", by=author, at=1, fence=newer)
    with pytest.raises(Fenced):
        system.log.append([Proposed("a", version + 1, event)], command_id="old", by=author, at=1, fence=fence)
    # A counter that was lost goes on above what the log has seen.
    second.leave()
    system.log.client.delete("{fleet}:lease:scheduler:fence")
    again = first.take()
    assert again is not None
    assert again > newer


@pytest.mark.full
def test_two_at_once_carry_a_rollout_through_once(system: System) -> None:
    roll_out(system, "new")
    with system.process(*SCHEDULER), system.process(*SCHEDULER):
        carry_through(system, "new")
    assert_once(system, "new")


def test_no_gate_is_judged_while_a_partition_is_stopped(system: System) -> None:
    gate = Gate(success_percent=100, phase_timeout_seconds=1)
    plan = RolloutPlan(phases=(Phase(percent=100, gate=gate),))
    system.do(CreateDeployment("new", base("m"), "*", 10, admission=NotStarted()), CreateRollout("new", plan))
    system.settle()
    system.log.client.xadd(
        "{p00}:log",
        {"type": "Unheard", "subject": "x", "version": 1, "at": 1, "by": "user:ada", "cause": "", "data": "{}"},
        id=f"{system.log.heads()[0] + 1}-0",
    )
    system.log.client.hincrby("{p00}:meta", "position", 1)
    system.waker.wake([0])
    eventually(system.fleet_projection.blocked, what="the partition is stopped")
    system.do(StartRollout("new"))
    with system.process(*SCHEDULER) as scheduler:
        # A round starts what is due, and then judges: each of these shows that the round of the one before is over.
        for name, later_ms in (("first", 0), ("past-the-limit", 1500), ("last", 0)):
            schedule = Schedule(time.time_ns() // 1_000_000 + later_ms)
            system.do(CreateDeployment(name, base("m"), "", 1, schedule=schedule))
            eventually(lambda name=name: len(events_of(system, name)) == 2, what=f"{name} is started")
        assert scheduler.poll() is None
    events = events_of(system, rollout_state.subject_of("new"))
    assert [type(event).__name__ for event in events] == ["RolloutCreated", "RolloutStarted"]


@pytest.mark.full
def test_redis_killed_and_restarted_between_judgement_and_act_leaves_each_act_done_once() -> None:
    with redis_server(appendfsync="always") as server:
        system = System(server.url)
        with system.process("-m", "workers.pool"):
            system.do(*(command for name in DEVICES for command in join(name)))
            roll_out(system, "new")
            with system.process(*SCHEDULER, **{VARIABLE: "schedule_judged:1:stop"}) as scheduler:
                eventually(lambda: "T" in _status(scheduler.pid), what="it is stopped between judgement and append")
                server.kill()
                server.start()
                scheduler.send_signal(signal.SIGCONT)
                carry_through(system, "new")
        assert_once(system, "new")
        system.close()
