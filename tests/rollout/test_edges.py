"""Rollouts at the exact edges of their limits, and what they ask of the fleet only where they need it."""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import pytest
from msgspec.structs import replace

from events.rollout.commands import CreateRollout
from events.rollout.events import Devices, DevicesAdmitted, RollbackBegan
from events.rollout.fleet_snapshot import AdmissionOrder, Back, FleetSnapshot, NotRead, Where
from events.rollout.plan import Failure, Gate, Offline, Phase, Rate, RolloutPlan, Window
from events.rollout.planner import LATE, NOT_ANSWERED, NOTHING_ELSE, SILENT, Judgement, judge
from events.rollout.rollout_text import progress
from events.rollout.rules import PHASES_MAX, check
from events.rollout.sets import NO_DEVICES, FleetSet
from events.rollout.state import BATCHES_BYTES_MAX, RolloutState
from events.rollout.times import MINUTES_MAX, check_window
from tests.rollout.given import in_state, status
from tests.rollout.judged import ADMITTED_AT, SECOND, everyone, fleet_snapshot, kinds, open_phase, some
from tests.rollout.test_state import OPENED

COUNT_MAX = 2**31 - 1

# -- sets


def test_sets_are_equal_by_their_devices_and_to_nothing_else() -> None:
    assert some([1]) == some([1])
    assert some([1]) != some([2])
    assert NO_DEVICES != {}
    assert NO_DEVICES != 0


# -- what is kept


def text_of(characters: int, *, first: int) -> Devices:
    """Devices whose text has exactly so many characters."""

    def spread(count: int) -> Devices:
        return some(range(first, first + 32 * count, 32)).devices()

    count = bisect_left(range(characters), characters, key=lambda one: len(spread(one).get("0", "")))
    assert len(spread(count)["0"]) == characters
    return spread(count)


@pytest.mark.parametrize(("more", "batches"), [(0, 2), (4, 1)])
def test_batches_may_take_all_of_their_limit_and_not_more(more: int, batches: int) -> None:
    half = BATCHES_BYTES_MAX // 2
    admissions = [
        DevicesAdmitted(0, text_of(characters, first=first), 1, "", ((7, 3),))
        for first, characters in enumerate((half, half + more))
    ]
    assert len(status(*OPENED, *admissions).batches) == batches


def test_a_batch_that_takes_more_than_the_limit_alone_stays() -> None:
    devices = text_of(BATCHES_BYTES_MAX + 4, first=0)
    (batch,) = status(*OPENED, DevicesAdmitted(0, devices, 1, "", ((7, 3),))).batches
    assert batch.devices == devices


def test_of_a_rollback_it_is_told_what_led_to_it_and_how_it_went() -> None:
    assert in_state(RolloutState.PAUSED).why == "too hot"
    assert in_state(RolloutState.ROLLING_BACK).why == "it hurts"
    assert in_state(RolloutState.HALTED).why == "it hurts; "
    assert progress(in_state(RolloutState.PAUSED)) == "paused: too hot"


@pytest.mark.parametrize(("state", "text"), [(RolloutState.CREATED, "waiting"), (RolloutState.ABORTED, "not opened")])
def test_a_phase_that_is_to_come_waits_as_long_as_the_rollout_may_admit_anybody(state: RolloutState, text: str) -> None:
    assert in_state(state).admits is (text == "waiting")
    assert in_state(state).phase_state(1) == text


# -- plans


@pytest.mark.parametrize(
    "plan",
    [
        RolloutPlan((Phase(percent=1.0),) * PHASES_MAX),
        RolloutPlan((Phase(count=COUNT_MAX),)),
        everyone(gate=Gate(success_percent=100.0, answered_min=COUNT_MAX)),
        everyone(failure=Failure(100.0, COUNT_MAX, COUNT_MAX)),
        everyone(rate=Rate(0.001)),
        everyone(rate=Rate(COUNT_MAX)),
        everyone(windows=(Window("0 22 * * *", minutes=1), Window("0 22 * * *", minutes=MINUTES_MAX))),
    ],
)
def test_a_plan_may_have_all_of_each_limit(plan: RolloutPlan) -> None:
    check(CreateRollout("prod", plan))


@pytest.mark.parametrize(("minutes", "right"), [(0, False), (1, True), (MINUTES_MAX, True), (MINUTES_MAX + 1, False)])
def test_a_window_is_a_minute_to_a_week_long(minutes: int, *, right: bool) -> None:
    assert (check_window(Window("0 22 * * *", minutes=minutes)) is None) is right


# -- who is asked for


def test_where_all_places_are_taken_the_order_of_devices_is_not_asked_for() -> None:
    plan = RolloutPlan((Phase(count=5), Phase(percent=100.0)))
    fleet = replace(fleet_snapshot(devices=10), actual=some(range(5)))
    assert judge("new", open_phase(plan, devices=5), fleet, ADMITTED_AT + SECOND).events == ()


def test_where_not_all_have_a_place_the_planner_names_the_order_that_it_needs() -> None:
    plan = RolloutPlan((Phase(count=7), Phase(percent=100.0)))
    with pytest.raises(NotRead) as unread:
        judge("new", open_phase(plan, devices=5), fleet_snapshot(devices=10), ADMITTED_AT + SECOND)
    assert unread.value.question == AdmissionOrder()


@pytest.mark.parametrize("per_minute", [3, 4])
def test_where_there_is_context_for_all_the_order_of_devices_is_not_asked_for(per_minute: int) -> None:
    plan = RolloutPlan((Phase(condition="3"),), rate=Rate(per_minute))
    (admitted,) = judge("new", standing_open(plan), whole(3), 4 * SECOND).events
    assert isinstance(admitted, DevicesAdmitted)
    assert admitted.count == 3


def standing_open(plan: RolloutPlan) -> Any:
    """A rollout whose first phase is open and has admitted nobody."""
    return open_phase(plan, devices=0)


def whole(devices: int) -> FleetSnapshot:
    return FleetSnapshot(((7, 3),), (), some(range(devices)), answers={Where("3"): some(range(3))})


# -- going back

ROLLED_BACK_AT = 5 * SECOND


def back(plan: RolloutPlan, now: int, *, healthy: Iterable[int] = (), **sets: Any) -> Judgement:
    """What follows `now` ms after a rollback of ten devices began."""
    document = open_phase(plan, devices=10, after=(RollbackBegan("it hurts", ""),))
    going = Back(some(range(10)), some(healthy), **sets)
    fleet = replace(fleet_snapshot(devices=10), back=going)
    return judge("new", document, fleet, ROLLED_BACK_AT + now)


def not_back(judgement: Judgement) -> dict[str, int]:
    (ended,) = judgement.events
    return {why: len(FleetSet.of(devices)) for why, devices in ended.not_back.items()}  # type: ignore[union-attr]


@pytest.mark.parametrize("offline", [Offline.EXCLUDE, Offline.UNKNOWN])
def test_of_a_rollback_a_device_is_silent_from_its_limit_on(offline: Offline) -> None:
    plan = everyone(offline=offline, offline_seconds=60)
    assert kinds(back(plan, 59_999, healthy=range(9))) == []
    ended = back(plan, 60_000, healthy=range(9))
    assert (kinds(ended), not_back(ended)) == (["RollbackEnded"], {SILENT: 1})
    assert ended.events[0].succeeded  # type: ignore[union-attr]


def test_where_the_plan_waits_for_devices_that_are_offline_so_does_its_rollback() -> None:
    plan = everyone(offline=Offline.WAIT, offline_seconds=60)
    assert kinds(back(plan, 10**9, healthy=range(9))) == []
    assert kinds(back(plan, 10**9, healthy=range(10))) == ["RollbackEnded"]


def test_of_a_rollback_a_device_is_late_from_its_limit_on() -> None:
    plan = everyone(gate=Gate(device_timeout_seconds=60))
    assert kinds(back(plan, 59_999, healthy=range(9))) == []
    ended = back(plan, 60_000, healthy=range(9))
    assert (kinds(ended), not_back(ended)) == (["RollbackEnded"], {LATE: 1})
    assert not ended.events[0].succeeded  # type: ignore[union-attr]


def test_without_a_time_limit_no_device_is_late_for_a_rollback() -> None:
    assert kinds(back(everyone(), 10**9, healthy=range(9))) == []


def test_a_rollback_that_leaves_devices_with_nothing_else_has_not_succeeded() -> None:
    ended = back(everyone(), 0, healthy=range(9), unmanaged=some([9]))
    assert (kinds(ended), not_back(ended)) == (["RollbackEnded"], {NOTHING_ELSE: 1})
    assert not ended.events[0].succeeded  # type: ignore[union-attr]
    whole_again = back(everyone(), 0, healthy=range(10))
    assert whole_again.events[0].succeeded  # type: ignore[union-attr]


@pytest.mark.parametrize(("failed", "ends"), [(1, False), (2, True)])
def test_a_rollback_ends_at_once_when_thresholds_are_met_again(failed: int, *, ends: bool) -> None:
    ended = back(everyone(failure=Failure(count=2)), 0, unhealthy=some(range(failed)))
    assert (kinds(ended) == ["RollbackEnded"]) is ends
    if ends:
        assert not_back(ended)[NOT_ANSWERED] == 8
