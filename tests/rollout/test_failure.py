"""What the planner does when devices fail: only thresholds and limits of the plan that were met lead to its act on failure."""

import msgspec
import pytest

from events.rollout.events import RollbackBegan, RolloutCompleted, RolloutEvent, RolloutPaused, RolloutResumed
from events.rollout.plan import Failure, Gate, Offline, OnFailure, RolloutPlan
from events.rollout.rollout_counts import rollout_counts
from events.rollout.state import RolloutState
from tests.rollout.given import EVIDENCE
from tests.rollout.judged import ADMITTED_AT, SECOND, everyone, fleet_snapshot, judged, kinds, open_phase, some
from tests.rollout.simulation import MINUTE, Simulation

BACK = OnFailure.ROLL_BACK
BOTH = Failure(percent=20, count=3, then=BACK)


def failing(*numbers: int) -> Simulation:
    """Ten devices, of which some fail with the new content."""
    return Simulation(
        devices=10, behave=lambda name, stack: (1000, 500 if stack == "new" and int(name[1:]) in numbers else 200)
    )


# -- the story that went wrong


def test_one_failed_device_of_ten_does_not_roll_back_what_three_and_a_fifth_are_to() -> None:
    simulation = failing(4)
    simulation.create("new", everyone(failure=BOTH))
    simulation.run(until=lambda: not simulation.document("new").is_active, most=10)
    assert simulation.document("new").state is RolloutState.COMPLETED
    assert (simulation.counts("new").healthy, simulation.counts("new").failed) == (9, 1)
    assert "RollbackBegan" not in simulation.kinds("new")


def test_three_failed_devices_of_ten_roll_it_back() -> None:
    simulation = failing(1, 4, 7)
    simulation.create("new", everyone(failure=BOTH))
    simulation.run(until=lambda: simulation.document("new").rollback_at > 0, most=10)
    (began,) = (event for event in simulation.events("new") if isinstance(event, RollbackBegan))
    assert began.reason == "3 of 10 failed (30 %): the limit is 20 % and 3 devices"


def test_a_gate_that_cannot_be_reached_pauses_with_a_reason_whatever_is_done_on_failure() -> None:
    simulation = failing(4)
    simulation.create("new", everyone(gate=Gate(success_percent=100), failure=BOTH))
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.PAUSED, most=10)
    assert "the gate of 100 % cannot be reached: 1 of 10 failed" in simulation.document("new").reason
    for _ in range(5):
        assert simulation.step(60 * MINUTE) == 0


def test_thresholds_that_are_met_while_an_unreachable_gate_pauses_it_roll_it_back() -> None:
    simulation = failing(4)
    simulation.create("new", everyone(gate=Gate(success_percent=100), failure=BOTH))
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.PAUSED, most=10)
    for name in ("d5", "d6"):
        simulation.report(name, 500, m="failed")
    simulation.step()
    assert simulation.document("new").rollback_at > 0


# -- the gate that follows from the failure percentage


@pytest.mark.parametrize(
    ("failure", "healthy", "passes"),
    [
        (Failure(percent=20, count=3), 8, True),
        (Failure(percent=20, count=3), 7, False),
        (Failure(percent=25), 8, True),
        (Failure(percent=25), 7, False),
        (Failure(count=3), 10, True),
        (Failure(count=3), 9, False),
        (Failure(), 10, True),
        (Failure(), 9, False),
        # Of a share of 0 %, no device at all would be a success.
        (Failure(percent=100), 1, True),
        (Failure(percent=100), 0, False),
    ],
)
def test_without_a_success_gate_it_is_what_the_failure_percentage_leaves(
    failure: Failure, healthy: int, *, passes: bool
) -> None:
    judgement = judged(everyone(failure=failure), healthy=range(healthy))
    assert (kinds(judgement) == ["PhasePassed", "RolloutCompleted"]) is passes


def test_a_success_gate_that_is_given_goes_before_the_failure_percentage() -> None:
    plan = everyone(gate=Gate(success_percent=70), failure=Failure(percent=20, count=3))
    assert "PhasePassed" in kinds(judged(plan, healthy=range(7)))
    assert kinds(judged(plan, healthy=range(6))) == []


def test_a_success_gate_of_nothing_passes_without_an_answer() -> None:
    assert "PhasePassed" in kinds(judged(everyone(gate=Gate(success_percent=0))))


# -- thresholds, to the device


@pytest.mark.parametrize(
    ("failure", "failed", "fails"),
    [
        (Failure(percent=20, count=3), 3, True),
        (Failure(percent=20, count=3), 2, False),
        (Failure(percent=40, count=3), 3, False),
        (Failure(percent=40, count=3), 4, True),
        (Failure(percent=20), 2, True),
        (Failure(percent=20), 1, False),
        (Failure(count=2), 2, True),
        (Failure(count=2), 1, False),
        (Failure(percent=0), 1, True),
        (Failure(percent=0), 0, False),
        (Failure(), 10, False),
        (Failure(answered_min=1), 10, False),
    ],
)
def test_a_rollout_fails_when_every_threshold_that_is_given_is_reached(
    failure: Failure, failed: int, *, fails: bool
) -> None:
    rolling_back = Failure(failure.percent, failure.count, failure.answered_min, BACK)
    plan = everyone(gate=Gate(success_percent=1, device_timeout_seconds=3600), failure=rolling_back)
    judgement = judged(plan, failed=range(failed))
    assert ("RollbackBegan" in kinds(judgement)) is fails


def test_a_percentage_that_floating_point_misses_is_reached_all_the_same() -> None:
    seven = 0.07 * 100
    assert seven > 7
    plan = everyone(gate=Gate(success_percent=seven), failure=Failure(percent=seven, then=BACK))
    assert "PhasePassed" in kinds(judged(plan, devices=100, healthy=range(7)))
    assert "RollbackBegan" in kinds(judged(plan, devices=100, failed=range(7)))


@pytest.mark.parametrize(("answered", "fails"), [(3, False), (4, True), (5, True)])
def test_so_many_have_to_have_answered_before_thresholds_count(answered: int, *, fails: bool) -> None:
    plan = everyone(gate=Gate(success_percent=100, device_timeout_seconds=3600), failure=Failure(20, 2, 4, BACK))
    judgement = judged(plan, failed=range(2), healthy=range(2, answered))
    assert ("RollbackBegan" in kinds(judgement)) is fails


def test_a_minimum_of_answers_above_the_number_of_devices_is_all_of_them() -> None:
    plan = everyone(failure=Failure(20, 2, 1000, BACK), gate=Gate(success_percent=0, answered_min=10))
    assert "RollbackBegan" not in kinds(judged(plan, failed=range(2), healthy=range(2, 9)))
    assert "RollbackBegan" in kinds(judged(plan, failed=range(2), healthy=range(2, 10)))


def test_thresholds_that_are_met_pause_where_the_plan_says_so() -> None:
    (paused,) = judged(everyone(failure=Failure(20, 2)), failed=range(2)).events
    assert isinstance(paused, RolloutPaused)
    assert "2 of 10 failed (20 %): the limit is 20 % and 2 devices" in paused.reason


# -- gates, to the device


@pytest.mark.parametrize(
    ("minimum", "healthy", "passes"), [(5, 4, False), (5, 5, True), (5, 6, True), (1000, 9, False), (1000, 10, True)]
)
def test_a_gate_wants_so_many_answers_and_no_more_than_there_can_be(
    minimum: int, healthy: int, *, passes: bool
) -> None:
    plan = everyone(gate=Gate(success_percent=10, answered_min=minimum))
    assert ("PhasePassed" in kinds(judged(plan, healthy=range(healthy)))) is passes


@pytest.mark.parametrize(("failed", "pauses"), [(1, False), (2, False), (3, True)])
def test_a_gate_is_out_of_reach_when_even_all_others_would_not_do(failed: int, *, pauses: bool) -> None:
    judgement = judged(everyone(gate=Gate(success_percent=80)), failed=range(failed))
    assert (kinds(judgement) == ["RolloutPaused"]) is pauses


@pytest.mark.parametrize(("elapsed", "pauses"), [(59_999, False), (60_000, True)])
def test_a_failed_device_may_recover_until_its_time_is_over(elapsed: int, *, pauses: bool) -> None:
    plan = everyone(gate=Gate(success_percent=100, device_timeout_seconds=60))
    judgement = judged(plan, healthy=range(1, 10), failed=range(1), now=ADMITTED_AT + elapsed)
    assert (kinds(judgement) == ["RolloutPaused"]) is pauses


@pytest.mark.parametrize(("elapsed", "late"), [(59_999, 0), (60_000, 1)])
def test_a_device_is_late_from_its_limit_on(elapsed: int, late: int) -> None:
    plan = everyone(gate=Gate(success_percent=90, device_timeout_seconds=60, soak_seconds=3600))
    judgement = judged(plan, healthy=range(1, 10), now=ADMITTED_AT + elapsed)
    assert (judgement.counts.timed_out, judgement.counts.failed) == (late, late)


@pytest.mark.parametrize(("elapsed", "silent"), [(59_999, 0), (60_000, 1)])
@pytest.mark.parametrize("offline", Offline)
def test_a_device_is_silent_from_its_limit_on(offline: Offline, elapsed: int, silent: int) -> None:
    plan = everyone(gate=Gate(success_percent=50, soak_seconds=3600), offline=offline, offline_seconds=60)
    counts = judged(plan, healthy=range(1, 10), now=ADMITTED_AT + elapsed).counts
    assert (counts.silent, counts.pending) == (silent, 1 - silent)
    assert counts.counted == (10 - silent if offline is Offline.EXCLUDE else 10)


# -- time limits


LIMITED = Gate(success_percent=100, phase_timeout_seconds=60)
OPENED_AT = 3 * SECOND


@pytest.mark.parametrize(("elapsed", "fails"), [(59_999, False), (60_000, True)])
def test_a_phase_fails_at_its_time_limit(elapsed: int, *, fails: bool) -> None:
    plan = everyone(gate=LIMITED, failure=Failure(then=BACK))
    judgement = judged(plan, healthy=range(9), now=OPENED_AT + elapsed)
    assert (kinds(judgement) == ["RollbackBegan"]) is fails


@pytest.mark.parametrize(("elapsed", "fails"), [(59_999, False), (60_000, True)])
def test_the_time_limit_still_counts_while_an_unreachable_gate_pauses_it(elapsed: int, *, fails: bool) -> None:
    plan = everyone(gate=LIMITED, failure=Failure(then=BACK))
    paused = (RolloutPaused("out of reach", unreachable=True),)
    judgement = judged(plan, healthy=range(9), failed=range(9, 10), now=OPENED_AT + elapsed, after=paused)
    assert (kinds(judgement) == ["RollbackBegan"]) is fails


@pytest.mark.parametrize("then", OnFailure)
def test_what_a_person_paused_is_not_judged(then: OnFailure) -> None:
    plan = everyone(gate=LIMITED, failure=Failure(20, 3, then=then))
    judgement = judged(plan, failed=range(10), now=OPENED_AT + 10**6, after=(RolloutPaused("lunch"),))
    assert (kinds(judgement), judgement.says) == ([], "paused: lunch")


def test_what_is_paused_by_an_unreachable_gate_is_paused_once() -> None:
    plan = everyone(gate=LIMITED, failure=Failure(20, 3))
    paused = (RolloutPaused("out of reach", unreachable=True),)
    assert kinds(judged(plan, failed=range(10), now=OPENED_AT + 10**6, after=paused)) == []


def test_the_scheduler_looks_at_what_an_unreachable_gate_pauses_until_it_is_resumed_or_cannot_fail() -> None:
    by_gate = RolloutPaused("out of reach", unreachable=True)
    rolling_back, pausing = everyone(failure=BOTH), everyone(failure=Failure(20, 3))

    def can_fail(plan: RolloutPlan, *after: RolloutPaused | RolloutResumed) -> bool:
        return open_phase(plan, devices=10, after=after).can_fail

    assert can_fail(rolling_back, by_gate)
    assert open_phase(rolling_back, devices=10, after=(by_gate,)).is_active
    assert not can_fail(rolling_back)
    assert not can_fail(rolling_back, RolloutPaused("lunch"))
    assert not can_fail(rolling_back, by_gate, RolloutResumed())
    assert not can_fail(pausing, by_gate)
    assert not open_phase(pausing, devices=10, after=(by_gate,)).is_active


# -- who is admitted


@pytest.mark.parametrize("is_open", [True, False])
def test_only_what_has_completed_and_is_open_to_all_has_admitted_more_than_its_events_say(*, is_open: bool) -> None:
    fleet = {"target": some(range(12)), "actual": some(range(12)), "is_open_to_all": is_open}

    def admitted(*after: RolloutEvent) -> int:
        document = open_phase(everyone(), devices=10, after=after)
        snapshot = msgspec.structs.replace(fleet_snapshot(devices=12, healthy=range(12)), **fleet)
        return len(rollout_counts(document, snapshot, ADMITTED_AT).admitted)

    assert admitted() == 10
    assert admitted(RolloutCompleted(EVIDENCE)) == (12 if is_open else 10)


@pytest.mark.parametrize(("timeout", "late"), [(59, 1), (60, 0), (61, 0)])
def test_of_the_limits_for_silence_and_for_success_the_one_that_comes_first_counts(timeout: int, late: int) -> None:
    gate = Gate(success_percent=50, device_timeout_seconds=timeout, soak_seconds=3600)
    plan = everyone(gate=gate, offline=Offline.UNKNOWN, offline_seconds=60)
    counts = judged(plan, healthy=range(1, 10), now=ADMITTED_AT + 3600 * SECOND).counts
    assert (counts.timed_out, counts.silent) == (late, 1 - late)
