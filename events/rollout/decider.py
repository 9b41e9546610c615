"""What may happen to a rollout at somebody's command: a command becomes an event, or is refused."""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, assert_never, get_args

from msgspec import UNSET

from events.decider import CommandAuthor, Decider, Documents, ForeignRule, SubjectChange
from events.deployment.commands import ChangeAdmission, DeleteDeployment, DeploymentCommand, ScheduleDeployment
from events.deployment.decider import check_id
from events.deployment.errors import DeploymentNotFound, ScheduleForbidden
from events.deployment.events import NotStarted
from events.deployment.state import DeploymentDocument
from events.query.condition import parse_condition
from events.query.errors import ConditionInvalid
from events.query.tree import Comparison, PathOf
from events.rollout.commands import (
    AbortRollout,
    AdvanceRollout,
    ApprovePhase,
    CreateRollout,
    DiscardRollout,
    PauseRollout,
    RecordResults,
    ResumeRollout,
    RetryFailed,
    RollBack,
    RolloutCommand,
    SchedulerCommand,
    SkipPhase,
    StartRollout,
)
from events.rollout.errors import (
    NotToBeRolledOut,
    PlanInvalid,
    RolloutActive,
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
    RollbackBegan,
    RolloutAborted,
    RolloutCreated,
    RolloutDeleted,
    RolloutEvent,
    RolloutPaused,
    RolloutResumed,
    RolloutStarted,
)
from events.rollout.plan import PERCENT_MAX, Gate, Phase, RolloutPlan
from events.rollout.state import ROLLOUT, RolloutDocument, RolloutState, decode, evolve
from events.rollout.state import subject_of as rollout_subject
from events.rollout.windows import check_window

PHASES_MAX = 100
SECONDS_MAX = 366 * 24 * 3600
WINDOWS_MAX = 20
REASON_CHARACTERS_MAX = 500
NAME_CHARACTERS_MAX = 100
_COUNT_MAX = 2**31 - 1
_DEPLOYMENT_ID = re.compile(r"[a-z0-9\-+%_*!']{1,128}")

ALLOWED: Mapping[type[RolloutCommand], frozenset[RolloutState]] = {
    StartRollout: frozenset({RolloutState.CREATED}),
    PauseRollout: frozenset({RolloutState.RUNNING}),
    ResumeRollout: frozenset({RolloutState.PAUSED}),
    ApprovePhase: frozenset({RolloutState.CREATED, RolloutState.RUNNING, RolloutState.PAUSED}),
    SkipPhase: frozenset({RolloutState.RUNNING, RolloutState.PAUSED}),
    RetryFailed: frozenset(
        {RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.COMPLETED, RolloutState.ABORTED, RolloutState.HALTED}
    ),
    AbortRollout: frozenset({RolloutState.CREATED, RolloutState.RUNNING, RolloutState.PAUSED}),
    RecordResults: frozenset(
        {RolloutState.CREATED, RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.COMPLETED, RolloutState.ABORTED}
    ),
    RollBack: frozenset({RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.COMPLETED, RolloutState.ABORTED}),
}
"""In which states a command may be given. A rollback that halted is not begun again by anybody: it would loop."""


def check(command: RolloutCommand | SchedulerCommand) -> None:
    """Refuse what no state could allow.

    Raises:
        DeploymentIdInvalid: names the rule.
        PlanInvalid: names the element of the plan and the rule.
        RolloutForbidden: a phase or a reason that cannot be.
    """
    name = command.deployment_id
    check_id(name)
    match command:
        case CreateRollout(_, plan):
            _check_plan(name, plan)
        case ApprovePhase(_, phase) | SkipPhase(_, phase):
            if not 0 <= phase < PHASES_MAX:
                raise RolloutForbidden(name, f"a phase is 1 to {PHASES_MAX}")
        case PauseRollout(_, reason) | AbortRollout(_, reason) | RollBack(_, reason):
            if not _is_text(reason, REASON_CHARACTERS_MAX):
                raise RolloutForbidden(name, f"a reason is text of at most {REASON_CHARACTERS_MAX} characters")
        case _:
            pass


def decide(
    command: RolloutCommand, document: RolloutDocument | None, deployment: DeploymentDocument | None, *, by: str
) -> RolloutEvent:
    """The event that a checked command becomes; `deployment` is what it names, and `by` who gives it.

    Raises:
        RolloutError: the command may not happen as things stand.
    """
    name = command.deployment_id
    if isinstance(command, CreateRollout):
        if document is not None:
            raise RolloutExists(name)
        if deployment is None:
            raise RolloutNotFound(name)
        if not isinstance(deployment.admission, NotStarted):
            raise NotToBeRolledOut(name, type(deployment.admission).__name__)
        return RolloutCreated(command.plan, by)
    if document is None or deployment is None:
        raise RolloutNotFound(name)
    if document.state not in ALLOWED[type(command)]:
        raise RolloutForbidden(name, f"its rollout is {document.state.value}: no {_said(command)} now")
    match command:
        case StartRollout(_, due_at, late_ms):
            if due_at is not None and due_at != deployment.start_at:
                raise RolloutForbidden(name, "its start was moved")
            return RolloutStarted(UNSET if late_ms is None else late_ms)
        case PauseRollout(_, reason):
            return RolloutPaused(reason or "paused by hand")
        case ResumeRollout():
            return RolloutResumed()
        case ApprovePhase(_, phase):
            _check_approval(document, name, phase, by)
            return PhaseApproved(phase, by)
        case SkipPhase(_, phase):
            if not document.is_open or phase != document.phase:
                raise RolloutForbidden(name, f"phase {phase + 1} is not open")
            return PhasePassed(phase, f"skipped by {by}")
        case RetryFailed():
            if document.results is not UNSET and document.state is not RolloutState.HALTED:
                raise RolloutForbidden(name, "its deployment has ended: no device has it any more")
            if document.retry_asked:
                raise RolloutForbidden(name, "those who failed are about to try again")
            return RetryAsked()
        case AbortRollout(_, reason):
            return RolloutAborted(reason or "aborted by hand")
        case RecordResults(_, results):
            return ResultsRecorded(results)
        case RollBack(_, reason):
            if document.rollback_asked:
                raise RolloutForbidden(name, "it is about to be rolled back")
            return RollbackAsked(reason or f"rolled back by {by}")
        case _:
            assert_never(command)


def _check_approval(document: RolloutDocument, name: str, phase: int, by: str) -> None:
    phases = document.plan.phases
    if phase >= len(phases) or not phases[phase].approval:
        raise RolloutForbidden(name, f"phase {phase + 1} needs no approval")
    if phase in document.approved or phase <= document.phase:
        raise RolloutForbidden(name, f"phase {phase + 1} is approved already")
    if document.plan.approval_by_another and by == document.author:
        raise RolloutForbidden(name, "whoever made the plan does not approve of its phases")


def _said(command: RolloutCommand) -> str:
    return {
        "StartRollout": "start",
        "PauseRollout": "pause",
        "ResumeRollout": "resume",
        "ApprovePhase": "approval",
        "SkipPhase": "skipping",
        "RetryFailed": "retry",
        "AbortRollout": "abort",
        "RecordResults": "record of results",
        "RollBack": "rollback",
    }.get(type(command).__name__, "command")


def _check_plan(name: str, plan: RolloutPlan) -> None:
    def rule(element: str, holds: object, text: str) -> None:
        if not holds:
            raise PlanInvalid(name, element, text)

    rule("phases", 1 <= len(plan.phases) <= PHASES_MAX, f"are 1 to {PHASES_MAX}")
    for number, phase in enumerate(plan.phases):
        _check_phase(name, f"phases[{number}]", phase)
    for kind in ("percent", "count"):
        values = [(number, getattr(phase, kind)) for number, phase in enumerate(plan.phases)]
        given_values = [(number, value) for number, value in values if value is not None]
        for (_, before), (number, value) in itertools.pairwise(given_values):
            rule(f"phases[{number}].{kind}", value >= before, "is not less than before: phases add up")
    failure = plan.failure
    rule("failure.percent", failure.percent is None or _within(failure.percent, 0, PERCENT_MAX), "is 0 to 100")
    rule("failure.count", failure.count is None or _within(failure.count, 1, _COUNT_MAX), "is a positive number")
    rule("failure.answered_min", _within(failure.answered_min, 0, _COUNT_MAX), "is not negative")
    rule("offline_seconds", _within(plan.offline_seconds, 1, SECONDS_MAX), f"is 1 to {SECONDS_MAX}")
    rule("windows", len(plan.windows) <= WINDOWS_MAX, f"are at most {WINDOWS_MAX}")
    for number, window in enumerate(plan.windows):
        wrong = check_window(window)
        rule(f"windows[{number}]", wrong is None, wrong or "")
    if plan.rollback_to:
        rule("rollback_to", _DEPLOYMENT_ID.fullmatch(plan.rollback_to), "is the id of a deployment")
        rule("rollback_to", plan.rollback_to != name, "is another deployment")
        rule("restore", not plan.restore, "and `rollback_to` do not go together")
    if plan.rate is not None:
        rule("rate.per_minute", _within(plan.rate.per_minute, 0.001, _COUNT_MAX), "is positive")
        rule("rate.growth_percent", _within(plan.rate.growth_percent, 0, PERCENT_MAX), "is 0 to 100")
    if plan.spread is not None:
        rule("spread.at_most", _within(plan.spread.at_most, 1, _COUNT_MAX), "is a positive number")
        rule("spread.tag", tag_path(plan.spread.tag), "is a tag, as tags.site is")


def _check_phase(name: str, element: str, phase: Phase) -> None:
    extents = [kind for kind in ("percent", "count", "condition") if getattr(phase, kind) is not None]
    if len(extents) != 1:
        raise PlanInvalid(name, element, "has one of `percent`, `count` and `condition`")
    if phase.percent is not None and not 0 < phase.percent <= PERCENT_MAX:
        raise PlanInvalid(name, f"{element}.percent", "is more than 0, and at most 100")
    if phase.count is not None and not 1 <= phase.count <= _COUNT_MAX:
        raise PlanInvalid(name, f"{element}.count", "is a positive number")
    if phase.condition is not None:
        try:
            if not phase.condition.strip():
                raise PlanInvalid(name, f"{element}.condition", "is true for nobody")
            parse_condition(phase.condition)
        except ConditionInvalid as error:
            raise PlanInvalid(name, f"{element}.condition", f"is no target condition: {error}") from error
    if not _is_text(phase.name, NAME_CHARACTERS_MAX):
        raise PlanInvalid(name, f"{element}.name", f"is text of at most {NAME_CHARACTERS_MAX} characters")
    gate = phase.gate
    limits: dict[str, tuple[Any, float, float]] = {
        "success_percent": (gate.success_percent or 0.0, 0, PERCENT_MAX),
        "answered_min": (gate.answered_min, 0, _COUNT_MAX),
        **{
            member: (getattr(gate, member), 0, SECONDS_MAX)
            for member in Gate.__struct_fields__
            if member.endswith("_seconds")
        },
    }
    for member, (value, lowest, highest) in limits.items():
        if not _within(value, lowest, highest):
            raise PlanInvalid(name, f"{element}.gate.{member}", f"is {lowest} to {highest:g}")


def _within(value: float, lowest: float, highest: float) -> bool:
    # Neither what is no number nor what is infinite lies within.
    return lowest <= value <= highest


def _is_text(value: str, characters_max: int) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return len(value) <= characters_max


def tag_path(tag: str) -> tuple[str, ...] | None:
    """`tags.site` -> ("tags", "site"); `None` where it is no tag."""
    try:
        condition = parse_condition(f"{tag} = ''")
    except ConditionInvalid:
        return None
    match condition:
        case Comparison(PathOf(("tags", *_) as path)):
            return path
        case _:
            return None


def _subjects_of(command: RolloutCommand | SchedulerCommand) -> tuple[str, ...]:
    names = (rollout_subject(command.deployment_id), command.deployment_id)
    if isinstance(command, AdvanceRollout):
        return (*names, *rollbacks_of(command))
    rollback_to = command.plan.rollback_to if isinstance(command, CreateRollout) else ""
    return (*names, rollback_to) if rollback_to else names


def rollbacks_of(command: AdvanceRollout) -> tuple[str, ...]:
    """The deployments that are to be made for a rollback: one, or none."""
    return tuple(event.deployment for event in command.events if isinstance(event, RollbackBegan) and event.deployment)


def _also(command: RolloutCommand | SchedulerCommand, documents: Documents) -> Iterator[str]:
    if isinstance(command, AdvanceRollout) and rollbacks_of(command):
        rollout: RolloutDocument | None = documents[rollout_subject(command.deployment_id)]
        if rollout is not None:
            yield rollout.plan.rollback_to


def _decide(
    command: RolloutCommand | SchedulerCommand, documents: Documents, author: CommandAuthor
) -> Iterator[SubjectChange]:
    match command:
        case AdvanceRollout(name, version, events):
            rollout: RolloutDocument | None = documents[rollout_subject(name)]
            if rollout is None or rollout.version != version:
                raise RolloutForbidden(name, "its rollout is not as it was when this was planned")
            yield from (SubjectChange(rollout_subject(name), event) for event in events)
        case DiscardRollout(name):
            if documents[name] is not None or documents[rollout_subject(name)] is None:
                raise RolloutForbidden(name, "a rollout is deleted with its deployment")
            yield SubjectChange(rollout_subject(name), RolloutDeleted())
        case _:
            yield _decide_by_hand(command, documents, author)


def _decide_by_hand(command: RolloutCommand, documents: Documents, author: CommandAuthor) -> SubjectChange:
    name, scope = command.deployment_id, author.scope
    deployment: DeploymentDocument | None = documents[name]
    if deployment is None or (scope is not None and deployment.scope != scope.text):
        raise DeploymentNotFound(name)
    if isinstance(command, CreateRollout) and command.plan.rollback_to:
        target: DeploymentDocument | None = documents[command.plan.rollback_to]
        if target is None or (scope is not None and target.scope != scope.text):
            raise PlanInvalid(name, "rollback_to", f"names no deployment: {command.plan.rollback_to!r}")
        if (target.kind, target.layered) != (deployment.kind, deployment.layered):
            raise PlanInvalid(name, "rollback_to", "names a deployment of another kind")
    subject = rollout_subject(name)
    return SubjectChange(subject, decide(command, documents[subject], deployment, by=author.by))


DECIDER = Decider(
    (*get_args(RolloutCommand), *get_args(SchedulerCommand)),
    get_args(RolloutEvent),
    subjects=_subjects_of,
    check=check,
    decide=_decide,
    evolve=lambda document, event, version, at, _: evolve(document, event, version=version, at=at),
    decode=lambda _, data: decode(data),
    prefixes=(ROLLOUT,),
    also=_also,
    is_scoped=True,
)


def _subjects_beside(command: DeploymentCommand) -> tuple[str, ...]:
    concerns = isinstance(command, ChangeAdmission | ScheduleDeployment | DeleteDeployment)
    return (rollout_subject(command.deployment_id),) if concerns else ()


def _follow(command: DeploymentCommand, documents: Documents) -> Iterator[SubjectChange]:
    name = command.deployment_id
    rollout: RolloutDocument | None = documents.get(rollout_subject(name))
    if rollout is None:
        return
    match command:
        case ChangeAdmission() if not rollout.is_over:
            raise RolloutActive(name)
        case ScheduleDeployment(_, schedule):
            # The deployment itself has not started, whomever its rollout has reached.
            deployment: DeploymentDocument = documents[name]
            start_at = 0 if deployment.schedule is UNSET else deployment.schedule.start_at
            if rollout.state is not RolloutState.CREATED and schedule.start_at != start_at:
                raise ScheduleForbidden(name, "its rollout has started; only the end can be moved")
        case DeleteDeployment():
            yield SubjectChange(rollout_subject(name), RolloutDeleted())
        case _:
            pass


DEPLOYMENT_RULE = ForeignRule(subjects=_subjects_beside, follow=_follow)
"""What a rollout says of commands on its deployment: they do not get in its way, and it is deleted with the deployment."""
