"""What the planner decides in some stories, event by event with the reasons: `golden/` changes only when somebody means it to.

`python -m tests.rollout.test_golden` writes it anew.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from events.deployment.commands import CreateDeployment
from events.log.keys import FLEET
from events.rollout.events import DevicesAdmitted, Evidence
from events.rollout.plan import Failure, Gate, Offline, OnFailure, Phase, Rate, RolloutPlan, Spread, Window
from events.rollout.state import subject_of
from events.rollout.times import duration
from tests.rollout.simulation import MINUTE, START, Simulation
from tests.workers.system import base

GOLDEN = Path(__file__).parent / "golden"
GATE = Gate(success_percent=90, answered_min=2, soak_seconds=900, device_timeout_seconds=3600)
PHASES = (Phase(percent=10, gate=GATE), Phase(percent=50, gate=GATE), Phase(percent=100, gate=GATE))


def uneven(name: str, _stack: str) -> tuple[int, int] | None:
    """The second, twelfth, … device is silent, the others answer one after the other."""
    number = int(name[1:])
    return None if number % 10 == 1 else (number * 20_000, 200)


def failing(name: str, stack: str) -> tuple[int, int] | None:
    return int(name[1:]) * 10_000, 500 if stack == "new" and int(name[1:]) % 3 == 0 else 200


def healthy_fleet() -> Simulation:
    simulation = Simulation(devices=40)
    simulation.create("new", RolloutPlan(phases=PHASES))
    return simulation


def silent_devices() -> Simulation:
    simulation = Simulation(devices=40, behave=uneven)
    simulation.create("new", RolloutPlan(phases=PHASES, offline=Offline.UNKNOWN, offline_seconds=1800))
    return simulation


def paused_by_failures() -> Simulation:
    simulation = Simulation(devices=40, behave=failing)
    simulation.create("new", RolloutPlan(phases=PHASES, failure=Failure(percent=20, count=4, answered_min=6)))
    return simulation


def rolled_back_to_a_chosen_content() -> Simulation:
    simulation = Simulation(devices=40, behave=failing)
    simulation.do(CreateDeployment("good", base("m"), "", 1))
    failure = Failure(percent=20, count=1, then=OnFailure.ROLL_BACK)
    simulation.create("new", RolloutPlan(phases=PHASES, failure=failure, rollback_to="good"))
    return simulation


def two_of_a_site_at_a_rate_within_windows() -> Simulation:
    simulation = Simulation(devices=12, tags=lambda number: {"site": f"s{number % 3}"})
    plan = RolloutPlan(
        phases=(Phase(percent=100, gate=Gate(phase_timeout_seconds=7200)),),
        spread=Spread("tags.site", 2),
        rate=Rate(per_minute=0.5),
        windows=(Window("15 13 * * *", "Europe/Berlin", 20), Window("45 13 * * *", "Europe/Berlin", 10)),
    )
    simulation.create("new", plan)
    return simulation


STORIES: tuple[Callable[[], Simulation], ...] = (
    healthy_fleet,
    silent_devices,
    paused_by_failures,
    rolled_back_to_a_chosen_content,
    two_of_a_site_at_a_rate_within_windows,
)


def lines_of(simulation: Simulation) -> Iterator[str]:
    """Three hours of it: what it waits for whenever that is something new, and what it does."""
    position, said = 0, ""
    for _ in range(36):
        simulation.step(5 * MINUTE)
        for one in simulation.log.read(FLEET, after=position, limit=1000):
            position = one.position
            if one.subject == subject_of("new") and str(one.by) == "system:scheduler":
                yield f"{duration(one.at - START):>10}  {type(one.event).__name__}{_more(one.event)}"
        says = simulation.judged("new").says
        if says != said:
            said = says
            yield f"{duration(simulation.now - START):>10}    {says}"


def _more(event: object) -> str:
    reason = getattr(event, "reason", "")
    evidence = getattr(event, "evidence", None)
    counts = ""
    if isinstance(evidence, Evidence):
        numbers = ((name, getattr(evidence.counts, name)) for name in evidence.counts.__struct_fields__)
        counts = " [" + ", ".join(f"{name} {number}" for name, number in numbers if number) + "]"
    admitted = f" {event.count}" if isinstance(event, DevicesAdmitted) else ""
    return f"{admitted}{': ' if reason else ''}{reason}{counts}"


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_the_planner_decides_what_it_always_did(story: Callable[[], Simulation]) -> None:
    expected = (GOLDEN / f"{story.__name__}.txt").read_text(encoding="utf-8")
    assert list(lines_of(story())) == expected.splitlines()


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for one in STORIES:
        (GOLDEN / f"{one.__name__}.txt").write_text("\n".join(lines_of(one())) + "\n", encoding="utf-8")
