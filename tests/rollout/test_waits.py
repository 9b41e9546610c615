"""A rollout is judged when an input changes or a time is due, and acts as if it were judged at every tick."""

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.deployment.commands import CreateDeployment, DeleteDeployment, ScheduleDeployment, UpdateDeployment
from events.deployment.events import Schedule
from events.device.commands import PatchTags, RegisterDevice, RetireDevice, UpdateDevice
from events.envelope import Envelope
from events.log.keys import FLEET
from events.producer.errors import CommandsRefused
from events.rollout.commands import (
    AbortRollout,
    ApprovePhase,
    PauseRollout,
    ResumeRollout,
    RetryFailed,
    RollBack,
    SkipPhase,
)
from events.rollout.plan import Failure, Gate, Offline, Phase, Rate, RolloutPlan, Window
from events.rollout.times import read_time
from events.stored_projection.stored_partition import Writes
from tests.rollout.simulation import HOUR, MINUTE, START, Simulation
from tests.rollout.test_machine import NAME, NAMES, PLANS
from tests.workers.system import base

SECOND = 1000
Act = Callable[[Simulation], object]

WINDOWS = st.sampled_from(
    [(), (Window("*/20 * * * *", minutes=5),), (Window("30 * * * *", "Europe/Berlin", 20), Window("10 14 * * *"))]
)
TIMES = st.sampled_from([SECOND, SECOND, 7 * SECOND, MINUTE, 5 * MINUTE, 20 * MINUTE, HOUR])


def command(command: Any, by: str = "user:ada") -> Act:
    """A command that may be refused."""
    return lambda simulation: simulation.producers[by].submit([command])


def reports(name: str) -> Act:
    """A device answers once more; one that does not exist is refused."""

    def act(simulation: Simulation) -> None:
        with contextlib.suppress(CommandsRefused):
            simulation.report(name)

    return act


def other_scheduler(simulation: Simulation) -> None:
    """Another process takes the lease; what this one knew is of no use when it gets the lease back."""
    simulation.fence = 1 + (simulation.fence or 0)


def worker_stops(number: int) -> Act:
    """A worker that stops, or runs again."""

    def act(simulation: Simulation) -> None:
        simulation.stopped ^= {number}

    return act


def clock_steps_back(simulation: Simulation) -> None:
    simulation.clock_back = 0 if simulation.clock_back else 10 * MINUTE


ACTS: st.SearchStrategy[Act] = st.one_of(
    TIMES.map(lambda milliseconds: lambda simulation: simulation.step(milliseconds)),
    TIMES.map(lambda milliseconds: lambda simulation: simulation.step(milliseconds)),
    st.sampled_from([ApprovePhase(NAME, 2), PauseRollout(NAME), ResumeRollout(NAME), RetryFailed(NAME), RollBack(NAME)])
    .filter(lambda item: not isinstance(item, RollBack))
    .map(command),
    st.integers(0, 2).map(lambda phase: command(SkipPhase(NAME, phase))),
    st.just(command(RollBack(NAME))),
    NAMES.map(lambda name: command(RegisterDevice(name))),
    st.tuples(NAMES, st.sampled_from(["s0", "s1", None])).map(
        lambda tag: command(PatchTags(tag[0], {"site": tag[1]}), "device:any")
    ),
    st.tuples(NAMES, st.booleans()).map(lambda device: command(UpdateDevice(device[0], enabled=device[1]))),
    st.just(clock_steps_back),
    NAMES.map(lambda name: command(RetireDevice(name))),
    st.sampled_from(
        [
            AbortRollout(NAME),
            UpdateDeployment(NAME, target_condition="tags.site = 's0'"),
            UpdateDeployment(NAME, target_condition="*"),
            CreateDeployment("rival", base("m", image="example.com/rival:1"), "tags.site = 's1'", 20),
            UpdateDeployment("rival", priority=5),
            DeleteDeployment("rival"),
            DeleteDeployment("good"),
            DeleteDeployment(NAME),
            ScheduleDeployment(NAME, Schedule(end_at=START + HOUR)),
        ]
    ).map(command),
    st.just(other_scheduler),
    st.integers(0, 3).map(worker_stops),
    NAMES.map(reports),
)


def history(
    plan: RolloutPlan, acts: list[Act], *, bad: set[str], silent: set[str], is_fresh: bool
) -> tuple[list[Envelope[Any]], int]:
    """The fleet's events with their times; `is_fresh`: every tick has a scheduler that knows nothing and judges everything."""

    def behave(name: str, stack: str) -> tuple[int, int] | None:
        return None if name in silent else (MINUTE // 2, 500 if name in bad and NAME in stack else 200)

    simulation = Simulation(devices=9, behave=behave, tags=lambda number: {"site": f"s{number % 3}"})
    simulation.do(CreateDeployment("good", base("m"), "*", 1))
    simulation.create(NAME, plan)
    for act in acts:
        if is_fresh:
            simulation.engine = simulation.fresh_engine()
        act(simulation)
    return simulation.log.read(FLEET, after=0, limit=10_000), simulation.engine.judgements


@given(
    plan=st.builds(lambda plan, windows: msgspec.structs.replace(plan, windows=windows), PLANS, WINDOWS),
    acts=st.lists(ACTS, min_size=10, max_size=60),
    bad=st.sets(NAMES, max_size=3),
    silent=st.sets(NAMES, max_size=2),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_the_acts_and_their_times_are_those_of_a_scheduler_that_judges_every_rollout_at_every_tick(
    plan: RolloutPlan, acts: list[Act], bad: set[str], silent: set[str]
) -> None:
    lasting, _ = history(plan, acts, bad=bad, silent=silent, is_fresh=False)
    fresh, _ = history(plan, acts, bad=bad, silent=silent, is_fresh=True)
    assert lasting == fresh


def waiting(**members: Any) -> Simulation:
    """A rollout to 9 devices of which one never answers, with a gate that requires all."""
    gate = members.pop("gate", Gate(success_percent=100))
    phases = members.pop("phases", (Phase(percent=50, gate=gate), Phase(percent=100)))
    simulation = Simulation(devices=9, behave=lambda _name, _stack: None)
    simulation.create(NAME, RolloutPlan(phases, **members))
    for _ in range(4):
        simulation.step(SECOND)
    return simulation


def test_a_rollout_that_waits_is_not_judged_again() -> None:
    simulation = waiting(failure=Failure(percent=100), offline_seconds=100_000)
    judged = simulation.engine.judgements
    for _ in range(100):
        simulation.step(SECOND)
    assert simulation.engine.judgements == judged


def test_a_report_and_another_scheduler_have_it_judged_again() -> None:
    simulation = waiting(failure=Failure(percent=100), offline_seconds=100_000)
    judged = simulation.engine.judgements
    simulation.report("d1")
    simulation.step(SECOND)
    assert simulation.engine.judgements == judged + 1
    simulation.engine.tick(fence=2)
    assert simulation.engine.judgements == judged + 2


@pytest.mark.parametrize(
    ("members", "due"),
    [
        ({"gate": Gate(success_percent=0, soak_seconds=600)}, 600),
        ({"gate": Gate(success_percent=100, phase_timeout_seconds=900)}, 900),
        ({"gate": Gate(success_percent=100, device_timeout_seconds=1200)}, 1200),
        ({"offline": Offline.EXCLUDE, "offline_seconds": 1500}, 1500),
        ({"rate": Rate(per_minute=1), "phases": (Phase(percent=100),)}, 60),
        ({"rate": Rate(per_minute=0.5, growth_percent=100), "phases": (Phase(percent=100),)}, 60),
        ({"windows": (Window("10 * * * *", minutes=10),)}, 10 * 60),
    ],
)
def test_it_is_judged_again_when_a_time_is_due(members: dict[str, Any], due: int) -> None:
    """Started at 12:00:00; the first phase opened a second later."""
    simulation = waiting(**members)
    start, judged = simulation.now, simulation.engine.judgements
    while simulation.engine.judgements == judged and simulation.now < start + HOUR:
        simulation.step(SECOND)
    assert simulation.now - start in range((due - 5) * SECOND, (due + 1) * SECOND)


@pytest.mark.parametrize(("cron", "opens"), [("*/20 3 * * *", "03:00"), ("*/20 2 * * 0", "02:00")])
def test_a_window_is_not_missed_on_the_day_on_which_clocks_go_back_by_half_an_hour(cron: str, opens: str) -> None:
    """At 02:00 it is 01:30 again. The rollout begins to wait before that."""
    zone = "Australia/Lord_Howe"
    simulation = Simulation(devices=3)
    simulation.now = read_time("2026-04-05T00:45", zone)
    simulation.create(NAME, RolloutPlan((Phase(percent=100),), windows=(Window(cron, zone, minutes=1),)))
    simulation.run(until=lambda: simulation.document(NAME).phase == 0)
    assert simulation.now - read_time(f"2026-04-05T{opens}:00+10:30", zone) in range(2 * MINUTE)


def test_a_rebuild_at_the_same_position_has_it_judged_again() -> None:
    simulation = waiting(failure=Failure(percent=100), offline_seconds=100_000)
    judged = simulation.engine.judgements
    checkpoint = simulation.projections.checkpoint(0)
    rebuilt = msgspec.structs.replace(checkpoint, rebuilt=1)
    assert simulation.projections.commit(0, Writes(checkpoint, rebuilt, {}, {}, None))
    simulation.step(SECOND)
    assert simulation.engine.judgements == judged + 1
