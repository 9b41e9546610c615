"""What went wrong elsewhere, as tests of ours."""

from collections.abc import Callable

import pytest

from events.canonical import encode
from events.deployment.commands import CreateDeployment, DeleteDeployment
from events.deployment.events import AdmissionChanged, DeploymentDeleted, Everyone, Schedule
from events.deployment.state import decode, evolve
from events.device.commands import PatchTags, RegisterDevice, UpdateDevice
from events.envelope import Principal
from events.log.port import Proposed
from events.rollout.commands import ResumeRollout, RetryFailed, SkipPhase, StartRollout
from events.rollout.errors import RolloutForbidden
from events.rollout.events import DevicesAdmitted, PhaseOpened
from events.rollout.plan import Failure, Gate, Joiners, Offline, OnFailure, Phase, Rate, RolloutPlan, Spread, Window
from events.rollout.state import RolloutState
from tests.rollout.simulation import HOUR, MINUTE, START, Simulation
from tests.workers.system import base

HALVES = RolloutPlan(phases=(Phase(percent=50), Phase(percent=100)))
PATIENT = Failure(percent=100, count=1000)


def silent(*names: str) -> Callable[[str, str], tuple[int, int] | None]:
    return lambda name, _stack: None if name in names else (1000, 200)


def failing(*names: str) -> Callable[[str, str], tuple[int, int] | None]:
    return lambda name, _stack: (1000, 500 if name in names else 200)


def test_the_scheduler_and_a_person_open_the_next_phase_at_once() -> None:
    simulation = Simulation(devices=10, behave=silent(*(f"d{number}" for number in range(10))))
    simulation.create("new", HALVES)
    simulation.step()
    seen = simulation.fresh_engine()
    simulation.do(SkipPhase("new", 0))
    with pytest.raises(RolloutForbidden, match="phase 1 is not open"):
        simulation.producers["user:bo"].do(SkipPhase("new", 0))
    simulation.engine.tick()
    seen.tick()
    seen.tick()
    opened = [event.phase for event in simulation.events("new") if isinstance(event, PhaseOpened)]
    assert opened == [0, 1]
    assert sum(event.count for event in simulation.events("new") if isinstance(event, DevicesAdmitted)) == 10


def test_a_rollout_whose_group_is_empty_says_so_and_does_not_open_to_everybody() -> None:
    simulation = Simulation(devices=3)
    simulation.create("new", HALVES, condition="tags.ring = 'canary'")
    for _ in range(5):
        assert simulation.step() == 0
    assert simulation.document("new").state is RolloutState.RUNNING
    assert "waits for devices" in simulation.judged("new").says
    simulation.do(*(PatchTags(f"d{number}", {"ring": "canary"}) for number in range(3)))
    simulation.step()
    assert len(simulation.running("new")) == 2


def test_a_device_that_runs_the_same_already_is_an_assignment_change_of_its_own() -> None:
    simulation = Simulation(devices=4)
    same = base("m", image="example.com/same:1")
    simulation.do(CreateDeployment("old", same, "*", 1))
    for _ in range(3):
        simulation.step()
    simulation.create("new", RolloutPlan(phases=(Phase(percent=100, gate=Gate(answered_min=3)),)), content=same)
    simulation.step()
    counts = simulation.counts("new")
    assert (counts.already, counts.healthy, counts.pending) == (4, 0, 0)
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.COMPLETED, most=5)


def test_a_held_rollout_is_held_after_a_restart() -> None:
    plan = RolloutPlan(phases=(Phase(percent=50), Phase(percent=100, approval=True)))
    simulation = Simulation(devices=10)
    simulation.create("new", plan)
    simulation.run(until=lambda: simulation.document("new").phase == 0 and not simulation.document("new").is_open)
    simulation.engine = simulation.fresh_engine()
    for _ in range(5):
        assert simulation.step(HOUR) == 0
    assert "waits for approval" in simulation.judged("new").says
    assert len(simulation.running("new")) == 5


@pytest.mark.parametrize("offline", [Offline.EXCLUDE, Offline.UNKNOWN])
def test_one_dead_device_does_not_block_all_others(offline: Offline) -> None:
    gate = Gate(success_percent=100 if offline is Offline.EXCLUDE else 90)
    plan = RolloutPlan(phases=(Phase(percent=100, gate=gate),), offline=offline, offline_seconds=600)
    simulation = Simulation(devices=10, behave=silent("d3"))
    simulation.create("new", plan)
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.COMPLETED, most=60)
    simulation.step(10 * MINUTE)
    assert simulation.counts("new").silent == 1


def test_a_dead_device_that_is_waited_for_is_named_and_fails_by_its_timeout() -> None:
    gate = Gate(success_percent=100, device_timeout_seconds=3600)
    simulation = Simulation(devices=4, behave=silent("d3"))
    simulation.create("new", RolloutPlan(phases=(Phase(percent=100, gate=gate),), failure=Failure(percent=20)))
    simulation.run(until=lambda: simulation.counts("new").healthy == 3, most=5)
    assert "1 pending" in simulation.judged("new").says
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.PAUSED, most=70)
    assert "1 of 4 failed (25 %), 1 of them late" in simulation.document("new").reason


def test_disabled_devices_are_in_no_denominator() -> None:
    simulation = Simulation(devices=10)
    simulation.do(*(UpdateDevice(f"d{number}", enabled=False) for number in range(5)))
    simulation.create("new", HALVES)
    simulation.step()
    assert (simulation.counts("new").target, simulation.counts("new").admitted) == (5, 3)
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.COMPLETED, most=10)


def test_a_threshold_that_nobody_reaches_fails_at_once_and_says_why() -> None:
    gate = Gate(success_percent=90)
    simulation = Simulation(devices=10, behave=failing("d1", "d2"))
    simulation.create("new", RolloutPlan(phases=(Phase(percent=100, gate=gate),), failure=PATIENT))
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.PAUSED, most=5)
    assert "cannot be reached: 2 of 10 failed" in simulation.document("new").reason


def test_a_failure_reported_late_counts_all_the_same() -> None:
    # It failed while nobody heard of it; the report arrives a day later, in the soak time.
    simulation = Simulation(devices=5, behave=lambda name, _: (20 * HOUR, 500) if name == "d0" else (1000, 200))
    gate = Gate(success_percent=80, soak_seconds=2 * 86_400)
    simulation.create("new", RolloutPlan(phases=(Phase(percent=100, gate=gate),), failure=Failure(percent=20)))
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.PAUSED, step=HOUR, most=30)
    assert simulation.now - START >= 20 * HOUR


def test_whoever_gets_worse_while_it_has_to_last_begins_it_anew() -> None:
    simulation = Simulation(devices=4)
    gate = Gate(success_percent=100, soak_seconds=3600)
    simulation.create("new", RolloutPlan(phases=(Phase(percent=100, gate=gate),), failure=PATIENT))
    simulation.run(until=lambda: bool(simulation.document("new").soak_at), most=5)
    began = simulation.document("new").soak_at
    simulation.step(30 * MINUTE)
    simulation.report("d0", m="backoff")
    simulation.step()
    assert simulation.document("new").state is RolloutState.PAUSED  # a gate of all of them cannot hold any more
    simulation.report("d0")
    simulation.do(ResumeRollout("new"))
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.COMPLETED, most=200)
    assert simulation.document("new").changed_at - began >= 90 * MINUTE


def test_a_retry_is_one_for_each_device_and_each_time() -> None:
    attempts: list[str] = []

    def behave(name: str, _stack: str) -> tuple[int, int]:
        attempts.append(name)
        return (1000, 200 if name != "d1" or attempts.count("d1") > 2 else 500)

    simulation = Simulation(devices=4, behave=behave)
    simulation.create("new", RolloutPlan(phases=(Phase(percent=100),), failure=Failure(percent=10)))
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.PAUSED, most=5)
    for again in (2, 3):
        simulation.do(RetryFailed("new"))
        simulation.step()
        simulation.step()
        assert attempts.count("d1") == again
    assert (simulation.counts("new").healthy, attempts.count("d0")) == (4, 1)
    assert simulation.document("new").retries == 2


def test_a_rollback_that_fails_halts_and_never_begins_again() -> None:
    simulation = Simulation(devices=10)
    simulation.do(CreateDeployment("good", base("m"), "", 1))
    simulation.behave = lambda _name, stack: (1000, 500) if stack else (1000, 200)
    plan = RolloutPlan(
        phases=(Phase(percent=50),), failure=Failure(percent=50, then=OnFailure.ROLL_BACK), rollback_to="good"
    )
    simulation.create("new", plan)
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.HALTED, most=10)
    for _ in range(20):
        assert simulation.step(HOUR) == 0
    assert simulation.kinds("new").count("RollbackBegan") == 1
    created = [
        envelope
        for envelope in simulation.log.read(-1, after=0, limit=1000)
        if type(envelope.event).__name__ == "DeploymentCreated"
    ]
    assert [envelope.subject for envelope in created] == ["good", "new", "new-rollback"]


def test_every_device_of_the_group_goes_back_to_the_chosen_content() -> None:
    simulation = Simulation(devices=10, behave=lambda _name, stack: (1000, 500 if stack == "new" else 200))
    good = base("m", image="example.com/good:7")
    simulation.do(CreateDeployment("good", good, "", 1))
    plan = RolloutPlan(
        phases=(Phase(percent=50),), failure=Failure(percent=50, then=OnFailure.ROLL_BACK), rollback_to="good"
    )
    simulation.create("new", plan)
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.ROLLED_BACK, most=10)
    assert len(simulation.running("new-rollback")) == 10
    effective = simulation.fleet_projection.effective("d0")
    assert effective is not None
    assert effective.modules["$edgeAgent"]["modules"]["m"]["settings"]["image"] == "example.com/good:7"


def test_each_device_goes_back_to_what_it_had_and_was_well_with() -> None:
    old = {"d0": "one", "d1": "one", "d2": "two", "d3": "two"}
    simulation = Simulation(
        devices=5, behave=lambda name, stack: (1000, 500 if stack == "new" or name == "d3" else 200)
    )
    for name in ("one", "two"):
        condition = " OR ".join(f"deviceId = '{device}'" for device, image in old.items() if image == name)
        simulation.do(CreateDeployment(name, base("m", image=f"example.com/{name}:1"), condition, 1))
    simulation.step()
    simulation.step()
    # What they have stays with them, and nothing targets them any more.
    simulation.do(DeleteDeployment("one"), DeleteDeployment("two"))
    failure = Failure(percent=50, then=OnFailure.ROLL_BACK)
    simulation.create("new", RolloutPlan(phases=(Phase(percent=100),), failure=failure, restore=True))
    simulation.run(
        until=lambda: simulation.document("new").is_over or simulation.document("new").state is RolloutState.HALTED
    )
    images = {}
    for device in old:
        effective = simulation.fleet_projection.effective(device)
        assert effective is not None
        images[device] = effective.modules["$edgeAgent"]["modules"]["m"]["settings"]["image"]
    # d3 was not well with what it had, and d4 never had anything: there is nothing to bring them back to.
    assert images == {
        "d0": "example.com/one:1",
        "d1": "example.com/one:1",
        "d2": "example.com/two:1",
        "d3": "example.com/new:1",
    }
    assert simulation.document("new").state is RolloutState.HALTED
    assert "nothing else targets 2 of them" in simulation.document("new").reason


def test_a_rollback_with_nothing_beneath_says_whom_it_leaves() -> None:
    simulation = Simulation(devices=10, behave=failing(*(f"d{number}" for number in range(10))))
    simulation.create(
        "new", RolloutPlan(phases=(Phase(percent=50),), failure=Failure(percent=100, then=OnFailure.ROLL_BACK))
    )
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.HALTED, most=10)
    assert "nothing else targets 5 of them" in simulation.document("new").reason


def test_no_more_than_so_many_of_a_site_at_once() -> None:
    simulation = Simulation(devices=30, tags=lambda number: {"site": f"s{number % 3}"})
    simulation.create("new", RolloutPlan(phases=(Phase(percent=100),), spread=Spread("tags.site", 2)))
    waves = []
    while simulation.document("new").state is not RolloutState.COMPLETED:
        simulation.step()
        rollout_counts = simulation.judged("new").rollout_counts
        for site in range(3):
            members = {f"d{number}" for number in range(site, 30, 3)}
            pending = simulation.running("new") & members - set(simulation.fleet_projection.members("new", "healthy"))
            assert len(pending) <= 2
        waves.append(len(rollout_counts.admitted))
    assert waves[0] == 6
    assert waves[-1] == 30


def test_devices_are_admitted_at_a_rate_that_may_grow() -> None:
    simulation = Simulation(devices=100)
    simulation.create("even", RolloutPlan(phases=(Phase(percent=100),), rate=Rate(per_minute=5)))
    admitted = []
    for _ in range(4):
        simulation.step()
        admitted.append(simulation.counts("even").admitted)
    assert admitted == [5, 10, 15, 20]
    # What could not be admitted in an hour does not come at once.
    simulation.step(HOUR)
    assert simulation.counts("even").admitted == 25
    simulation.create(
        "more", RolloutPlan(phases=(Phase(percent=100),), rate=Rate(per_minute=5, growth_percent=100)), priority=20
    )
    grown = []
    for _ in range(4):
        simulation.step()
        grown.append(simulation.counts("more").admitted)
    assert grown == [5, 15, 35, 75]


def test_nobody_is_admitted_outside_the_windows() -> None:
    simulation = Simulation(devices=10)
    window = Window("0 2 * * *", "Europe/Berlin", 60)
    simulation.create("new", RolloutPlan(phases=HALVES.phases, windows=(window,)))
    simulation.step()
    assert "the next window opens 2025-11-22T02:00:00+01:00, in 12 h 59 min" in simulation.judged("new").says
    simulation.run(until=lambda: bool(simulation.running("new")), most=1000)
    assert simulation.now == START + 13 * HOUR
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.COMPLETED)
    assert simulation.now < START + 14 * HOUR


def test_who_joins_late_comes_with_the_others_or_at_the_end() -> None:
    slow = Gate(success_percent=100, soak_seconds=3600)
    for joiners, early in ((Joiners.COHORT, 3), (Joiners.END, 2)):
        simulation = Simulation(devices=4, behave=silent(*(f"d{number}" for number in range(9))))
        simulation.create("new", RolloutPlan(phases=(Phase(percent=50, gate=slow),), joiners=joiners))
        simulation.step()
        simulation.do(RegisterDevice("d7"), RegisterDevice("d8"))
        simulation.step()
        assert len(simulation.running("new")) == early


def test_a_rollout_goes_with_its_deployment_and_a_new_one_begins_anew() -> None:
    simulation = Simulation(devices=10)
    simulation.create("new", HALVES)
    simulation.step()
    simulation.do(DeleteDeployment("new"))
    for _ in range(3):
        simulation.step()
    simulation.create("new", HALVES, start=False)
    simulation.step()
    assert (simulation.document("new").state, simulation.running("new")) == (RolloutState.CREATED, set())


def test_an_hour_back_on_the_clock_changes_nothing() -> None:
    simulation = Simulation(devices=10)
    simulation.create("new", RolloutPlan(phases=(Phase(percent=100, gate=Gate(soak_seconds=600)),)))
    simulation.run(until=lambda: bool(simulation.document("new").soak_at), most=5)
    simulation.clock_back = HOUR
    for _ in range(9):
        simulation.step()
        assert simulation.document("new").state is RolloutState.RUNNING
    simulation.clock_back = 0
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.COMPLETED, most=3)


def test_previewed_order_is_the_order_that_comes() -> None:
    # Whoever is in a phase of 20 % is in one of 40 % of the same rollout, and another rollout has other devices.
    members = {}
    for name, percent in (("new", 20), ("new", 40), ("other", 20)):
        simulation = Simulation(devices=200, behave=silent(*(f"d{number}" for number in range(200))))
        simulation.create(name, RolloutPlan(phases=(Phase(percent=percent),)))
        simulation.step()
        members[name, percent] = simulation.running(name)
    assert members["new", 20] < members["new", 40]
    assert len(members["new", 20] & members["other", 20]) < 20


def test_a_rollout_beside_what_was_decided_by_hand_at_the_same_point_in_time_ends() -> None:
    simulation = Simulation(devices=4)
    simulation.create("opened", HALVES)
    simulation.create("gone", HALVES, priority=20)
    # As if both had been decided before either was written: the log itself lets them stand together.
    author = Principal.parse("user:bo")
    opened, gone = simulation.log.load(["opened", "gone"], fleet=True)
    everyone, deleted = AdmissionChanged(Everyone()), DeploymentDeleted()
    assert opened.snapshot is not None
    after = evolve(decode(opened.snapshot), everyone, version=opened.head.version + 1, at=simulation.now)
    assert after is not None
    simulation.log.append(
        [
            Proposed("opened", opened.head.version, everyone, (("opened", encode(after)),)),
            Proposed("gone", gone.head.version, deleted, (("gone", None),)),
        ],
        command_id="at-once",
        by=author,
        at=simulation.now,
    )
    for _ in range(3):
        simulation.step()
    assert simulation.document("opened").state is RolloutState.ABORTED
    assert simulation.kinds("gone")[-1] == "RolloutDeleted"
    assert len(simulation.running("opened")) == 4


def test_a_deployment_whose_end_comes_while_it_is_rolled_back_is_left_to_that() -> None:
    simulation = Simulation(devices=4, behave=failing(*(f"d{number}" for number in range(4))))
    plan = RolloutPlan(phases=(Phase(percent=100),), failure=Failure(percent=100, then=OnFailure.ROLL_BACK))
    simulation.create("new", plan, schedule=Schedule(end_at=START + HOUR), start=False)
    simulation.do(StartRollout("new"))
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.HALTED, most=10)
    simulation.step(2 * HOUR)
    assert simulation.step() == 0
