"""What may happen to a rollout: every command in every state, every rule of a plan, and who approves."""

import itertools
from typing import Any

import msgspec
import pytest

from events.deployment.events import Admitted, Ended, Everyone, Schedule
from events.rollout.commands import (
    AbortRollout,
    ApprovePhase,
    CreateRollout,
    PauseRollout,
    RecordResults,
    ResumeRollout,
    RetryFailed,
    RollBack,
    RolloutCommand,
    SkipPhase,
    StartRollout,
)
from events.rollout.decider import decide
from events.rollout.errors import (
    NotToBeRolledOut,
    PlanInvalid,
    RolloutError,
    RolloutExists,
    RolloutForbidden,
    RolloutNotFound,
)
from events.rollout.events import (
    PhaseApproved,
    PhasePassed,
    ResultsRecorded,
    RetryAsked,
    RollbackAsked,
    RolloutAborted,
    RolloutCreated,
    RolloutEvent,
    RolloutPaused,
    RolloutResults,
    RolloutResumed,
    RolloutStarted,
)
from events.rollout.plan import Failure, Gate, Phase, Rate, RolloutPlan, Spread, Window
from events.rollout.rules import NAME_CHARACTERS_MAX, PHASES_MAX, REASON_CHARACTERS_MAX, SECONDS_MAX, WINDOWS_MAX, check
from events.rollout.state import RolloutDocument, RolloutState
from tests.rollout.given import ADA, BOB, PLAN, deployment, in_state

COMMANDS: dict[RolloutCommand, tuple[RolloutEvent, str]] = {
    StartRollout("prod"): (RolloutStarted(), "created"),
    PauseRollout("prod"): (RolloutPaused("paused by hand"), "running"),
    ResumeRollout("prod"): (RolloutResumed(), "paused"),
    ApprovePhase("prod", 1): (PhaseApproved(1, BOB), "created running paused"),
    SkipPhase("prod", 0): (PhasePassed(0, f"skipped by {BOB}"), "running paused"),
    RetryFailed("prod"): (RetryAsked(), "running paused completed aborted halted"),
    AbortRollout("prod"): (RolloutAborted("aborted by hand"), "created running paused"),
    RollBack("prod"): (RollbackAsked(f"rolled back by {BOB}"), "running paused completed aborted"),
}
"""Each command on what is in a state, the event it becomes, and in which states it does."""


def decided(
    command: RolloutCommand, document: RolloutDocument | None, *, by: str = BOB, **of_the_deployment: Any
) -> RolloutEvent:
    check(command)
    return decide(command, document, deployment(**of_the_deployment), by=by)


def refused(error: type[RolloutError], command: RolloutCommand, document: RolloutDocument | None, **how: Any) -> str:
    with pytest.raises(error) as caught:
        decided(command, document, **how)
    return str(caught.value)


@pytest.mark.parametrize(
    ("state", "command"),
    list(itertools.product(RolloutState, COMMANDS)),
    ids=lambda value: value.name.lower() if isinstance(value, RolloutState) else type(value).__name__,
)
def test_a_command_becomes_its_event_in_the_states_that_allow_it_and_is_refused_in_all_others(
    state: RolloutState, command: RolloutCommand
) -> None:
    event, states = COMMANDS[command]
    document = in_state(state)
    if state.value in states.split():
        assert decided(command, document) == event
    else:
        told = refused(RolloutForbidden, command, document)
        assert "prod" in told
        assert state.value in told


@pytest.mark.parametrize("state", RolloutState)
def test_results_are_recorded_while_a_deployment_can_still_end(state: RolloutState) -> None:
    command, results = RecordResults("prod", RolloutResults(failed={"late": {}})), RolloutResults(failed={"late": {}})
    if state in {RolloutState.ROLLING_BACK, RolloutState.ROLLED_BACK, RolloutState.HALTED}:
        refused(RolloutForbidden, command, in_state(state))
    else:
        assert decided(command, in_state(state)) == ResultsRecorded(results)


@pytest.mark.parametrize("state", RolloutState)
def test_a_deployment_has_one_rollout_however_it_went(state: RolloutState) -> None:
    assert "another" in refused(RolloutExists, CreateRollout("prod", PLAN), in_state(state))


def test_a_rollout_of_what_has_not_started_is_created_with_its_author() -> None:
    assert decided(CreateRollout("prod", PLAN), None, by=ADA) == RolloutCreated(PLAN, ADA)


@pytest.mark.parametrize("admission", [Everyone(), Ended(), Admitted(("edge-1",))])
def test_what_has_started_or_ended_is_not_rolled_out(admission: Any) -> None:
    told = refused(NotToBeRolledOut, CreateRollout("prod", PLAN), None, admission=admission)
    assert type(admission).__name__ in told


@pytest.mark.parametrize("command", [CreateRollout("prod", PLAN), *COMMANDS], ids=lambda one: type(one).__name__)
def test_without_a_deployment_or_a_rollout_there_is_nothing_to_do(command: RolloutCommand) -> None:
    check(command)
    with pytest.raises(RolloutNotFound, match="prod"):
        decide(command, None, None, by=ADA)
    if not isinstance(command, CreateRollout):
        refused(RolloutNotFound, command, None)


def test_a_reason_that_is_given_is_the_one_that_stands() -> None:
    running = in_state(RolloutState.RUNNING)
    assert decided(PauseRollout("prod", "lunch"), running) == RolloutPaused("lunch")
    assert decided(AbortRollout("prod", "lunch"), running) == RolloutAborted("lunch")
    assert decided(RollBack("prod", "lunch"), running) == RollbackAsked("lunch")


@pytest.mark.parametrize("kind", [PauseRollout, AbortRollout, RollBack])
def test_a_reason_has_its_limit(kind: Any) -> None:
    check(kind("prod", "x" * REASON_CHARACTERS_MAX))
    for wrong in ("x" * (REASON_CHARACTERS_MAX + 1), "half a pair: \ud800"):
        with pytest.raises(RolloutForbidden, match=str(REASON_CHARACTERS_MAX)):
            check(kind("prod", wrong))


def test_a_start_that_was_due_is_only_one_as_long_as_it_stands_at_that_time() -> None:
    at = {"schedule": Schedule(5000)}
    created = in_state(RolloutState.CREATED)
    assert decided(StartRollout("prod", 5000, 20), created, **at) == RolloutStarted(20)
    assert "moved" in refused(RolloutForbidden, StartRollout("prod", 4000, 20), created, **at)
    assert decided(StartRollout("prod"), created, **at) == RolloutStarted()


# -- phases, approvals, retries


@pytest.mark.parametrize("phase", [-1, PHASES_MAX])
@pytest.mark.parametrize("kind", [ApprovePhase, SkipPhase])
def test_a_phase_that_no_plan_can_have_is_none(kind: Any, phase: int) -> None:
    with pytest.raises(RolloutForbidden, match="the phase must be 1 to 100"):
        check(kind("prod", phase))


@pytest.mark.parametrize("phase", [0, 2])
def test_what_needs_no_approval_gets_none(phase: int) -> None:
    assert f"phase {phase + 1} needs no approval" in refused(
        RolloutForbidden, ApprovePhase("prod", phase), in_state(RolloutState.CREATED)
    )


def test_a_phase_is_approved_once_and_before_it_opens() -> None:
    running = in_state(RolloutState.RUNNING)
    approved = msgspec.structs.replace(running, approved=(1,))
    opened = msgspec.structs.replace(running, phase=1)
    for document in (approved, opened):
        assert "approved already" in refused(RolloutForbidden, ApprovePhase("prod", 1), document)


def test_the_author_of_a_plan_that_wants_another_does_not_approve() -> None:
    two = msgspec.structs.replace(PLAN, approval_by_another=True)
    running = in_state(RolloutState.RUNNING, two)
    assert "another person than its author" in refused(RolloutForbidden, ApprovePhase("prod", 1), running, by=ADA)
    assert decided(ApprovePhase("prod", 1), running, by=BOB) == PhaseApproved(1, BOB)
    assert decided(ApprovePhase("prod", 1), in_state(RolloutState.RUNNING), by=ADA) == PhaseApproved(1, ADA)


def test_only_the_open_phase_is_skipped() -> None:
    running = in_state(RolloutState.RUNNING)
    assert "phase 2 is not open" in refused(RolloutForbidden, SkipPhase("prod", 1), running)
    passed = msgspec.structs.replace(running, is_open=False)
    assert "phase 1 is not open" in refused(RolloutForbidden, SkipPhase("prod", 0), passed)


def test_what_was_asked_for_is_not_asked_for_again() -> None:
    running = in_state(RolloutState.RUNNING)
    again = msgspec.structs.replace(running, retry_asked=True)
    assert "a retry of the failed devices is pending" in refused(RolloutForbidden, RetryFailed("prod"), again)
    going = msgspec.structs.replace(running, rollback_asked=True)
    assert "its rollback is pending" in refused(RolloutForbidden, RollBack("prod"), going)


# -- the rules of a plan


def plan(**members: Any) -> RolloutPlan:
    return RolloutPlan(**{"phases": (Phase(percent=100.0),), **members})


def phased(**members: Any) -> RolloutPlan:
    return RolloutPlan((Phase(**members),))


def gated(**members: Any) -> RolloutPlan:
    return phased(percent=100.0, gate=Gate(**members))


GATE_SECONDS = ("soak_seconds", "device_timeout_seconds", "phase_timeout_seconds")
WRONG: list[tuple[RolloutPlan, str, str]] = [
    (RolloutPlan(()), "phases", "1 to 100"),
    (RolloutPlan((Phase(percent=1.0),) * (PHASES_MAX + 1)), "phases", "1 to 100"),
    (phased(), "phases[0]", "one of `percent`, `count` and `condition`"),
    (phased(percent=1.0, count=1), "phases[0]", "one of `percent`, `count` and `condition`"),
    (phased(percent=0.0), "phases[0].percent", "more than 0"),
    (phased(percent=100.1), "phases[0].percent", "at most 100"),
    (phased(percent=float("nan")), "phases[0].percent", "more than 0"),
    (phased(count=0), "phases[0].count", "positive"),
    (phased(count=2**31), "phases[0].count", "positive"),
    (phased(condition=" "), "phases[0].condition", "true for no device"),
    (phased(condition="tags.site = "), "phases[0].condition", "not a valid target condition"),
    (phased(percent=1.0, name="x" * (NAME_CHARACTERS_MAX + 1)), "phases[0].name", "at most 100"),
    (phased(percent=1.0, name="\ud800"), "phases[0].name", "text"),
    (RolloutPlan((Phase(percent=20.0), Phase(count=5), Phase(percent=10.0))), "phases[2].percent", "add up"),
    (RolloutPlan((Phase(count=5), Phase(percent=1.0), Phase(count=4))), "phases[2].count", "add up"),
    (gated(success_percent=100.5), "phases[0].gate.success_percent", "0 to 100"),
    (gated(success_percent=float("inf")), "phases[0].gate.success_percent", "0 to 100"),
    (gated(answered_min=-1), "phases[0].gate.answered_min", "0 to"),
    *((gated(**{name: -1}), f"phases[0].gate.{name}", "0 to") for name in GATE_SECONDS),
    *((gated(**{name: SECONDS_MAX + 1}), f"phases[0].gate.{name}", "0 to") for name in GATE_SECONDS),
    (plan(failure=Failure(percent=-0.1)), "failure.percent", "0 to 100"),
    (plan(failure=Failure(count=0)), "failure.count", "positive"),
    (plan(failure=Failure(answered_min=-1)), "failure.answered_min", "not be negative"),
    (plan(offline_seconds=0), "offline_seconds", "1 to"),
    (plan(offline_seconds=SECONDS_MAX + 1), "offline_seconds", "1 to"),
    (plan(windows=(Window("0 22 * * *"),) * (WINDOWS_MAX + 1)), "windows", f"at most {WINDOWS_MAX}"),
    (plan(windows=(Window("0 22 * *"),)), "windows[0]", "cron"),
    (plan(windows=(Window("0 22 * * *"), Window("0 0 30 2 *"))), "windows[1]", "occurs at some time"),
    (plan(windows=(Window("0 22 * * *", "Atlantis"),)), "windows[0]", "time zone"),
    (plan(windows=(Window("0 22 * * *", minutes=0),)), "windows[0]", "minutes"),
    (plan(windows=(Window("0 22 * * *", minutes=7 * 24 * 60 + 1),)), "windows[0]", "minutes"),
    (plan(rollback_to="Not An Id"), "rollback_to", "the id of a deployment"),
    (plan(rollback_to="before", restore=True), "restore", "exclude each other"),
    (plan(rollback_to="prod"), "rollback_to", "another deployment"),
    (plan(rate=Rate(0.0)), "rate.per_minute", "at least 0.001"),
    (plan(rate=Rate(float("nan"))), "rate.per_minute", "at least 0.001"),
    (plan(rate=Rate(1.0, -1.0)), "rate.growth_percent", "0 to 100"),
    (plan(spread=Spread("tags.site", 0)), "spread.at_most", "positive"),
    (plan(spread=Spread("deviceId")), "spread.tag", "tags.site"),
    (plan(spread=Spread("tags.site = 'a' OR tags.site")), "spread.tag", "tags.site"),
]


@pytest.mark.parametrize(
    ("wrong", "element", "rule"), WRONG, ids=[f"{number}-{one[1]}" for number, one in enumerate(WRONG)]
)
def test_what_breaks_a_rule_of_plans_is_named_with_the_rule(wrong: RolloutPlan, element: str, rule: str) -> None:
    with pytest.raises(PlanInvalid, match="prod") as caught:
        check(CreateRollout("prod", wrong))
    assert caught.value.element == element
    assert rule in str(caught.value)


@pytest.mark.parametrize(
    "fine",
    [
        RolloutPlan((Phase(count=1), Phase(condition="tags.site = 'a'"), Phase(percent=1.0), Phase(percent=1.0))),
        gated(success_percent=0.0, answered_min=5, **dict.fromkeys(GATE_SECONDS, SECONDS_MAX)),
        plan(windows=(Window("*/5 22-23 * * 1-5", "Europe/Berlin", 7 * 24 * 60),) * WINDOWS_MAX),
        plan(failure=Failure(0.0, 1, 0), rollback_to="before", offline_seconds=1, rate=Rate(0.5, 100.0)),
        plan(spread=Spread("tags.location.site", 2)),
    ],
)
def test_what_keeps_to_the_rules_is_taken(fine: RolloutPlan) -> None:
    assert decided(CreateRollout("prod", fine), None) == RolloutCreated(fine, BOB)
