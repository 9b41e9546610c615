"""A scheduler that has lost its lease writes nothing, whatever it is about to do."""

from collections.abc import Callable

import pytest

from events.deployment.commands import CreateDeployment
from events.deployment.events import Schedule
from events.log.errors import Fenced
from events.rollout.commands import RollBack
from events.rollout.plan import Phase, RolloutPlan
from tests.rollout.simulation import HOUR, START, Simulation
from tests.workers.system import base

PLAN = RolloutPlan((Phase(percent=100.0),))


def _deployment_due(simulation: Simulation) -> None:
    simulation.do(CreateDeployment("due", base("m"), "*", 1, schedule=Schedule(START + HOUR)))
    simulation.now += 2 * HOUR


def _phase_to_open(simulation: Simulation) -> None:
    simulation.create("rolled-out", PLAN)


def _rollback_to_begin(simulation: Simulation) -> None:
    simulation.do(CreateDeployment("before", base("m"), "", 1))
    simulation.create("after", RolloutPlan((Phase(percent=100.0),), rollback_to="before"))
    simulation.step()
    simulation.do(RollBack("after"))


@pytest.mark.parametrize("make_work", [_deployment_due, _phase_to_open, _rollback_to_begin])
def test_a_scheduler_whose_lease_another_has_taken_over_appends_nothing(
    make_work: Callable[[Simulation], None],
) -> None:
    simulation = Simulation(devices=2)
    simulation.do(CreateDeployment("first", base("m"), "*", 1, schedule=Schedule(START)))
    assert simulation.fresh_engine().tick(fence=2) == 1
    make_work(simulation)
    simulation.drain()
    heads = simulation.log.heads()
    with pytest.raises(Fenced):
        simulation.fresh_engine().tick(fence=1)
    assert simulation.log.heads() == heads
    assert simulation.fresh_engine().tick(fence=2)
