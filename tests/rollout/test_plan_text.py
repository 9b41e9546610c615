"""What the author of a plan is told: when it proceeds, when it stops, and what happens then."""

import pytest

from events.rollout.plan import EVERY_DEVICE, Failure, Gate, OnFailure, Phase, RolloutPlan
from events.rollout.plan_text import plan_text
from tests.rollout.judged import everyone

BACK = OnFailure.ROLL_BACK
ONLY_PAUSES = "a gate that cannot be reached any more only pauses it."


@pytest.mark.parametrize(
    ("plan", "proceeds"),
    [
        (everyone(), "A phase passes when all admitted devices are healthy."),
        (
            everyone(failure=Failure(percent=20, count=3)),
            "A phase passes when at least 80 % of the admitted devices are healthy (100 % minus the failure percentage of 20 %).",
        ),
        (
            everyone(failure=Failure(percent=100)),
            "A phase passes when at least one admitted device is healthy (100 % minus the failure percentage of 100 %).",
        ),
        (
            everyone(gate=Gate(success_percent=95, answered_min=5, soak_seconds=1800), failure=Failure(percent=20)),
            (
                "A phase passes when at least 95 % of the admitted devices are healthy and at least 5 devices answered,"
                " and this has lasted for 30 min."
            ),
        ),
        (everyone(gate=Gate(success_percent=0)), "A phase passes when its devices are admitted, whatever they answer."),
        (
            everyone(gate=Gate(success_percent=0, answered_min=EVERY_DEVICE)),
            "A phase passes when all admitted devices answered.",
        ),
        (
            RolloutPlan((Phase(count=1, gate=Gate(success_percent=50)), Phase(count=2), Phase(percent=100))),
            (
                "Phase 1 passes when at least 50 % of the admitted devices are healthy;"
                " phases 2 to 3 pass when all admitted devices are healthy."
            ),
        ),
    ],
)
def test_a_plan_says_when_it_proceeds(plan: RolloutPlan, proceeds: str) -> None:
    assert plan_text(plan).proceeds == proceeds


@pytest.mark.parametrize(
    ("plan", "stops"),
    [
        (
            everyone(failure=Failure(20, 3, 5)),
            (
                "It fails when at least 20 % of the admitted devices and at least 3 devices failed,"
                f" once at least 5 devices answered; {ONLY_PAUSES}"
            ),
        ),
        (everyone(failure=Failure(count=1)), f"It fails when at least 1 device failed; {ONLY_PAUSES}"),
        (
            everyone(failure=Failure(percent=5), gate=Gate(phase_timeout_seconds=7200)),
            (
                "It fails when at least 5 % of the admitted devices failed, or when a phase has not passed within 2 h;"
                f" {ONLY_PAUSES}"
            ),
        ),
        (
            RolloutPlan(
                (
                    Phase(count=1, gate=Gate(phase_timeout_seconds=60)),
                    Phase(count=2, gate=Gate(phase_timeout_seconds=30)),
                )
            ),
            f"It fails when a phase has not passed within its time limit (30 s, 1 min); {ONLY_PAUSES}",
        ),
        (
            everyone(),
            f"It never fails automatically, as the plan has no failure threshold and no time limit; {ONLY_PAUSES}",
        ),
    ],
)
def test_a_plan_says_when_it_stops(plan: RolloutPlan, stops: str) -> None:
    assert plan_text(plan).stops == stops


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (everyone(failure=Failure(5)), ["Then it pauses", "until an operator"]),
        (everyone(failure=Failure(5, then=BACK)), ["Then it rolls back", "what else targets it, or keeps"]),
        (everyone(gate=Gate(phase_timeout_seconds=1), failure=Failure(then=BACK)), ["Then it rolls back"]),
        (everyone(failure=Failure(then=BACK)), ["rolls back only on an operator's command"]),
        (everyone(failure=Failure(5, then=BACK), rollback_to="good"), ["get the content of good"]),
        (everyone(failure=Failure(5, then=BACK), rollback_to="update:a/b/1.0"), ["the content of update a/b/1.0"]),
        (everyone(failure=Failure(5, then=BACK), restore=True), ["what it had and was healthy with before"]),
    ],
)
def test_a_plan_says_what_happens_then(plan: RolloutPlan, words: list[str]) -> None:
    said = plan_text(plan).then
    assert all(word in said for word in words), said
