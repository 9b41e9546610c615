"""Days of a large fleet within seconds, and the same again."""

import itertools
import random

from events.log.keys import FLEET
from events.rollout.plan import Failure, Gate, Offline, OnFailure, Phase, Rate, RolloutPlan, Window
from events.rollout.state import RolloutState
from tests.rollout.simulation import DAY, HOUR, MINUTE, START, Simulation

DEVICES = 10_000


def behave(name: str, stack: str) -> tuple[int, int] | None:
    """One in a hundred fails, one in fifty is silent, the others answer within ten minutes."""
    chance = random.Random(f"{name}:{stack}")  # noqa: S311
    throw = chance.random()
    if throw < 0.02:
        return None
    return chance.randrange(1000, 10 * MINUTE), 500 if throw < 0.03 else 200


def five_phases() -> Simulation:
    gate = Gate(success_percent=95, answered_min=5, soak_seconds=12 * 3600, device_timeout_seconds=3 * 3600)
    plan = RolloutPlan(
        phases=tuple(Phase(percent=percent, gate=gate) for percent in (1, 5, 20, 50, 100)),
        failure=Failure(percent=10, count=20, then=OnFailure.ROLL_BACK),
        offline=Offline.EXCLUDE,
        offline_seconds=3600,
        rate=Rate(per_minute=500),
        windows=(Window("0 6-20 * * *", "Europe/Berlin", 60),),
    )
    simulation = Simulation(devices=DEVICES, behave=behave)
    simulation.create("new", plan)
    simulation.run(
        until=lambda: simulation.document("new").state is not RolloutState.RUNNING, step=20 * MINUTE, most=800
    )
    return simulation


def test_three_days_of_ten_thousand_devices_and_the_same_events_again() -> None:
    simulation, again = five_phases(), five_phases()
    assert simulation.document("new").state is RolloutState.COMPLETED
    assert 2 * DAY <= simulation.now - START <= 4 * DAY
    counts = simulation.counts("new")
    assert counts.admitted == DEVICES
    assert 50 <= counts.failed <= 150
    assert 150 <= counts.silent <= 250
    assert len(simulation.running("new")) == DEVICES
    events = simulation.log.read(FLEET, after=0, limit=10**6)
    assert events == again.log.read(FLEET, after=0, limit=10**6)
    opened = [envelope.at for envelope in events if type(envelope.event).__name__ == "PhaseOpened"]
    assert all(later - earlier >= 12 * HOUR for earlier, later in itertools.pairwise(opened))
