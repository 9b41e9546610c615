"""Gates wait for what devices answer to the new configuration, whichever of its sections changed."""

from typing import Any

import pytest

from events.deployment.commands import CreateDeployment
from events.device.commands import AcknowledgeDesired, ReportProperties
from events.rollout.events import PhasePassed, RollbackBegan, RolloutCompleted
from events.rollout.plan import Failure, Gate, OnFailure, Phase, RolloutPlan
from tests.rollout.simulation import Simulation
from tests.workers.system import base, hub_answer_of

CANARY = RolloutPlan((Phase(count=2, gate=Gate(success_percent=100)), Phase(percent=100)))
ROUTES = {
    "modulesContent": {
        "$edgeAgent": {},
        "$edgeHub": {"properties.desired.routes.up": "FROM /messages/* INTO $upstream"},
    }
}
RATE = {"modulesContent": {"$edgeAgent": {}, "m": {"properties.desired.rate": 5}}}
MODULES = {"moduleContent": {"properties.desired.rate": 5}}
OWN = {"deviceContent": {"properties.desired.rate": 5}}


def fleet() -> Simulation:
    """Four devices that are well with a base, and answer to nothing after it."""
    simulation = Simulation(4)
    simulation.do(CreateDeployment("old", base("m"), "*", 1))
    simulation.drain()
    simulation.step()
    assert set(simulation.fleet_projection.members("old", "healthy")) == {"d0", "d1", "d2", "d3"}
    simulation.behave = lambda _device, _stack: None
    return simulation


def roll_out(simulation: Simulation, content: dict[str, Any], plan: RolloutPlan = CANARY) -> list[str]:
    """Admit the canaries; answers who they are."""
    condition = "FROM devices.modules WHERE moduleId = 'm'" if "moduleContent" in content else "*"
    simulation.create("layer", plan, content=content, condition=condition)
    for _ in range(5):
        simulation.step()
    assert len(simulation.running("layer")) == 2
    return sorted(simulation.running("layer"))


def has_passed(simulation: Simulation) -> bool:
    for _ in range(5):
        simulation.step()
    return any(isinstance(event, PhasePassed) for event in simulation.events("layer"))


def answered(simulation: Simulation, device: str, *, hub: int = 200) -> list[Any]:
    """What a device says of what it was given, but for its agent, whose section did not change."""
    effective = simulation.fleet_projection.effective(device)
    assert effective is not None
    versions = effective.assignment.deliverable
    report = ReportProperties(device, hub_answer_of(effective.assignment.versions["$edgeHub"], code=hub), "$edgeHub")
    return [report, *([AcknowledgeDesired(device, versions)] if versions else [])]


@pytest.mark.parametrize("content", [ROUTES, RATE, MODULES, OWN], ids=["routes", "a module's", "of modules", "own"])
def test_a_gate_of_100_percent_waits_until_every_canary_has_acknowledged(content: dict[str, Any]) -> None:
    simulation = fleet()
    first, second = roll_out(simulation, content)
    counts = simulation.counts("layer")
    assert (counts.admitted, counts.pending, counts.healthy, counts.already) == (2, 2, 0, 0)
    simulation.do(*answered(simulation, first))
    assert not has_passed(simulation)
    assert simulation.counts("layer").pending == 1
    simulation.do(*answered(simulation, second))
    assert has_passed(simulation)


def test_a_hub_that_answers_400_fails_the_device_and_the_rollout_goes_back() -> None:
    simulation = fleet()
    plan = RolloutPlan(CANARY.phases, Failure(percent=50, count=1, then=OnFailure.ROLL_BACK))
    first, second = roll_out(simulation, ROUTES, plan)
    simulation.do(*answered(simulation, first, hub=400), *answered(simulation, second))
    simulation.step()
    assert any(isinstance(event, RollbackBegan) for event in simulation.events("layer"))


def test_a_device_that_runs_the_same_already_counts_only_once_it_has_acknowledged() -> None:
    simulation = Simulation(4, behave=lambda _device, _stack: None)
    simulation.do(CreateDeployment("old", base("m"), "*", 1))
    simulation.drain()
    simulation.report("d0")
    simulation.create("same", RolloutPlan((Phase(percent=100, gate=Gate(success_percent=100)),)), content=base("m"))
    for _ in range(5):
        simulation.step()
    counts = simulation.counts("same")
    assert (counts.admitted, counts.already, counts.pending) == (4, 1, 3)
    for device in ("d1", "d2", "d3"):
        simulation.report(device)
    simulation.run(
        until=lambda: any(isinstance(event, RolloutCompleted) for event in simulation.events("same")), most=5
    )
    assert simulation.counts("same").already == 4


def test_a_rollback_is_over_when_devices_have_acknowledged_what_they_went_back_to() -> None:
    simulation = fleet()
    plan = RolloutPlan(CANARY.phases, Failure(percent=50, count=1, then=OnFailure.ROLL_BACK))
    first, second = roll_out(simulation, ROUTES, plan)
    simulation.do(*answered(simulation, first, hub=400), *answered(simulation, second))
    for _ in range(5):
        simulation.step()
    assert simulation.kinds("layer")[-1] == "RollbackBegan", "the hubs have not answered for the routes without it"
    for device in (first, second):
        simulation.do(*answered(simulation, device))
    simulation.step()
    assert simulation.kinds("layer")[-1] == "RollbackEnded"
