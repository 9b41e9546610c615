"""How rollouts are told to readers: judged on what is in the log."""

from events.projection_store.fleet_snapshot import SETTLE_SECONDS
from events.rollout.commands import RollBack
from events.rollout.plan import Gate, Phase, RolloutPlan
from services.api.context.rollout_state import RolloutStates, says
from tests.rollout.simulation import Simulation

PLAN = RolloutPlan((Phase(count=2, gate=Gate(soak_seconds=600)), Phase(percent=100.0)))


def test_a_reader_waits_for_workers_that_are_a_moment_behind() -> None:
    simulation = Simulation(devices=8)
    simulation.create("new", PLAN)
    waited: list[float] = []

    def pause(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            simulation.drain()

    rollout_states = RolloutStates(simulation.log, simulation.projections, pause=pause)  # type: ignore[arg-type]
    judged = rollout_states.judged({"new": simulation.document("new")}, simulation.now)["new"]
    assert (len(waited), judged.counts.target) == (3, 8)
    assert rollout_states.judged({}, simulation.now) == {}


def test_workers_that_stay_behind_are_named_after_half_a_second() -> None:
    simulation = Simulation(devices=8)
    simulation.create("new", PLAN)
    waited: list[float] = []
    rollout_states = RolloutStates(simulation.log, simulation.projections, pause=waited.append)  # type: ignore[arg-type]
    judged = rollout_states.judged({"new": simulation.document("new")}, simulation.now)["new"]
    assert "p00" in judged.says
    assert sum(waited) >= SETTLE_SECONDS
    assert sum(waited) < 2 * SETTLE_SECONDS


def test_that_a_rollback_is_asked_for_is_told_before_it_begins() -> None:
    simulation = Simulation(devices=2)
    simulation.create("new", PLAN)
    simulation.step()
    simulation.do(RollBack("new", "it hurts"))
    assert says(simulation.document("new"), simulation.judged("new")) == "is about to be rolled back: it hurts"
