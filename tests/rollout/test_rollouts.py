from events.deployment.commands import CreateDeployment
from events.rollout.plan import Failure, Gate, OnFailure, Phase, RolloutPlan
from events.rollout.state import RolloutState
from tests.rollout.simulation import MINUTE, Simulation
from tests.workers.system import base

SOAK = Gate(success_percent=95, soak_seconds=600)
THREE = RolloutPlan(phases=(Phase(percent=5, gate=SOAK), Phase(percent=25, gate=SOAK), Phase(percent=100, gate=SOAK)))


def test_a_rollout_reaches_everybody_in_phases_each_of_which_lasts() -> None:
    simulation = Simulation(devices=40)
    simulation.create("new", THREE)
    admitted = []
    while simulation.document("new").state is not RolloutState.COMPLETED:
        simulation.step()
        admitted.append(len(simulation.running("new")))
    assert sorted(set(admitted)) == [2, 10, 40]
    assert admitted == sorted(admitted)
    assert min(map(admitted.count, (2, 10, 40))) >= 10
    assert simulation.kinds("new") == [
        "RolloutCreated",
        "RolloutStarted",
        *(["PhaseOpened", "DevicesAdmitted", "SoakBegan", "PhasePassed"] * 3),
        "RolloutCompleted",
    ]


def test_a_rollout_that_fails_goes_back_to_what_lies_beneath_once() -> None:
    simulation = Simulation(devices=40, behave=lambda _, stack: (MINUTE, 500 if stack == "new" else 200))
    simulation.do(CreateDeployment("old", base("m"), "*", 1))
    simulation.drain()
    plan = RolloutPlan(phases=THREE.phases, failure=Failure(percent=10, count=2, then=OnFailure.ROLL_BACK))
    simulation.create("new", plan)
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.ROLLED_BACK, most=60)
    assert simulation.running("new") == set()
    assert len(simulation.running("old")) == 40
    assert simulation.kinds("new").count("RollbackBegan") == 1
    assert "2 of 2 failed (100 %)" in next(
        event.reason for event in simulation.events("new") if type(event).__name__ == "RollbackBegan"
    )
