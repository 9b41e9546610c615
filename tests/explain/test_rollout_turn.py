"""When a device's turn comes, in words."""

import pytest

from events.explain.rollout_turn import TurnOrder, turn, turn_text
from events.query.evaluate import twin_row
from events.rollout.plan import Phase, RolloutPlan
from events.rollout.state import RolloutState
from tests.rollout.given import in_state

LATE = twin_row("d", {"ring": "late"}, {})
PLAN = RolloutPlan((Phase(count=2), Phase(percent=50, approval=True), Phase(condition="tags.ring = 'late'")))


@pytest.mark.parametrize(
    ("order", "comes", "sentence"),
    [
        (TurnOrder(7, 20), 2, "it is number 7 of 20 in the rollout's order; its turn comes with phase 2 of 3 (50 %)"),
        (
            TurnOrder(11, 20),
            3,
            "it is number 11 of 20 in the rollout's order; its turn comes with phase 3 of 3 (tags.ring = 'late')",
        ),
        (
            TurnOrder(2, 20),
            1,
            "it is number 2 of 20 in the rollout's order; phase 1 includes it, and admits other devices first",
        ),
        (None, 3, "its turn comes with phase 3 of 3 (tags.ring = 'late')"),
    ],
)
def test_a_device_comes_with_the_first_phase_that_reaches_it(
    order: TurnOrder | None, comes: int, sentence: str
) -> None:
    document = in_state(RolloutState.RUNNING, PLAN)
    waits = "phase 2 of 3 waits for approval"
    device_turn = turn(document, LATE, enabled=True, order=order, waits=waits)
    assert device_turn.comes_with == comes
    said = turn_text(device_turn, document, enabled=True)
    assert said == (f"its rollout has not admitted it yet: phase 2 of 3 waits for approval; {sentence}")


def test_a_rollout_that_goes_nowhere_says_that_alone() -> None:
    document = in_state(RolloutState.PAUSED, PLAN)
    device_turn = turn(document, LATE, enabled=True, order=TurnOrder(7, 20), waits="")
    assert turn_text(device_turn, document, enabled=True) == "its rollout is paused: too hot"


def test_the_place_that_a_percentage_reaches_is_the_one_that_the_planner_admits() -> None:
    # 0.07 * 100 is 7.000000000000001: rounded up as it stands, an eighth device would be promised a place.
    document = in_state(RolloutState.CREATED, RolloutPlan((Phase(percent=0.07 * 100), Phase(percent=100.0))))
    ranks = {
        rank: turn(document, LATE, enabled=True, order=TurnOrder(rank, 100), waits="").comes_with for rank in (7, 8)
    }
    assert ranks == {7: 1, 8: 2}
