"""What the scheduler does at a deployment's times, with a rollout and without."""

import pytest

from events.deployment.commands import CreateDeployment, ScheduleDeployment
from events.deployment.errors import ScheduleForbidden
from events.deployment.events import AdmissionChanged, Ended, Everyone, Schedule
from events.log.keys import FLEET
from events.producer.errors import CommandsRefused
from events.rollout.commands import AbortRollout, CreateRollout, RollBack
from events.rollout.plan import Gate, Phase, RolloutPlan
from events.rollout.state import RolloutState
from tests.rollout.simulation import HOUR, MINUTE, START, Simulation
from tests.workers.system import base

SLOW = RolloutPlan((Phase(percent=50, gate=Gate(soak_seconds=24 * 3600)), Phase(percent=100)))
AT_ONE = Schedule(START + HOUR)


def scheduled(schedule: Schedule, plan: RolloutPlan | None = None) -> Simulation:
    simulation = Simulation(devices=10)
    simulation.do(CreateDeployment("old", base("m", image="example.com/old:1"), "*", 1))
    simulation.do(CreateDeployment("new", base("m"), "*", 5, schedule=schedule))
    if plan is not None:
        simulation.do(CreateRollout("new", plan))
    simulation.drain()
    return simulation


def opened(simulation: Simulation) -> list[AdmissionChanged]:
    """How the admission of the deployment changed, apart from its rollout."""
    events = simulation.log.read(FLEET, after=0, limit=1000)
    return [
        envelope.event
        for envelope in events
        if envelope.subject == "new" and isinstance(envelope.event, AdmissionChanged)
    ]


def test_a_deployment_starts_at_its_time_and_ends_at_its_time_once() -> None:
    simulation = scheduled(Schedule(START + HOUR, START + 2 * HOUR))
    simulation.run(until=lambda: simulation.now >= START + HOUR - MINUTE)
    assert simulation.running("new") == set()
    simulation.step()
    assert len(simulation.running("new")) == 10
    simulation.run(until=lambda: simulation.now >= START + 3 * HOUR)
    assert simulation.running("new") == set()
    assert opened(simulation) == [AdmissionChanged(Everyone(), 0), AdmissionChanged(Ended(), 0)]


def test_a_start_that_is_moved_happens_at_the_new_time_alone() -> None:
    simulation = scheduled(AT_ONE)
    simulation.do(ScheduleDeployment("new", Schedule(START + 2 * HOUR)))
    simulation.run(until=lambda: simulation.now >= START + 2 * HOUR - MINUTE)
    assert opened(simulation) == []
    simulation.step()
    assert opened(simulation) == [AdmissionChanged(Everyone(), 0)]


def test_a_rollout_begins_at_the_time_of_its_deployment() -> None:
    simulation = scheduled(AT_ONE, SLOW)
    simulation.run(until=lambda: simulation.now >= START + HOUR - MINUTE)
    assert simulation.document("new").state is RolloutState.CREATED
    simulation.run(until=lambda: len(simulation.running("new")) == 5, most=4)
    assert opened(simulation) == []


@pytest.mark.parametrize("after", [0, 2 * HOUR])
def test_a_rollout_that_was_aborted_admits_nobody_more_at_the_time_of_its_deployment_or_after(after: int) -> None:
    simulation = scheduled(AT_ONE, SLOW)
    simulation.run(until=lambda: simulation.now >= START + after)
    before = simulation.running("new")
    simulation.do(AbortRollout("new"))
    simulation.run(until=lambda: simulation.now >= START + 5 * HOUR)
    assert opened(simulation) == []
    assert simulation.running("new") == before


def test_a_deployment_that_was_rolled_back_stays_back_though_it_had_a_time_to_start() -> None:
    simulation = scheduled(AT_ONE, SLOW)
    simulation.run(until=lambda: bool(simulation.running("new")))
    simulation.do(RollBack("new"))
    simulation.run(until=lambda: simulation.now >= START + 5 * HOUR)
    assert simulation.document("new").state is RolloutState.ROLLED_BACK
    assert simulation.running("new") == set()
    assert opened(simulation) == []


def test_a_rollout_ends_with_its_deployment_at_the_time() -> None:
    simulation = scheduled(Schedule(START + HOUR, START + 2 * HOUR), SLOW)
    simulation.run(until=lambda: simulation.now >= START + 3 * HOUR)
    assert simulation.document("new").state is RolloutState.ABORTED
    assert simulation.running("new") == set()
    assert [type(one.admission) for one in opened(simulation)] == [Ended]


def test_the_start_of_a_rollout_under_way_cannot_be_moved_but_its_end_can() -> None:
    simulation = scheduled(AT_ONE, SLOW)
    simulation.do(ScheduleDeployment("new", Schedule(START + HOUR + MINUTE)))
    simulation.run(until=lambda: bool(simulation.running("new")))
    with pytest.raises(CommandsRefused) as caught:
        simulation.do(ScheduleDeployment("new", AT_ONE))
    assert isinstance(caught.value.refused[0].error, ScheduleForbidden)
    simulation.do(ScheduleDeployment("new", Schedule(START + HOUR + MINUTE, START + 3 * HOUR)))
