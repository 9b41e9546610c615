"""The decider of rollouts: a command becomes an event, or is rejected."""

from collections.abc import Iterator, Mapping
from typing import assert_never, get_args

from msgspec import UNSET

from events.decider import CommandAuthor, Decider, Documents, ForeignRule, SubjectChange
from events.deployment.commands import ChangeAdmission, DeleteDeployment, DeploymentCommand, ScheduleDeployment
from events.deployment.errors import DeploymentNotFound, ScheduleForbidden
from events.deployment.events import NotStarted
from events.deployment.state import DeploymentDocument
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
from events.rollout.rules import check
from events.rollout.state import ROLLOUT, RolloutDocument, RolloutState, decode, evolve
from events.rollout.state import subject_of as rollout_subject

# HALTED does not allow RollBack: a rollback that failed once would fail again, in a loop.
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
"""The states that allow each command."""


def decide(
    command: RolloutCommand, document: RolloutDocument | None, deployment: DeploymentDocument | None, *, by: str
) -> RolloutEvent:
    """The event that a checked command becomes; `deployment` is the named deployment, and `by` the author.

    Raises:
        RolloutError: the current state does not allow the command.
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
    allowed = ALLOWED[type(command)]
    if document.state not in allowed:
        states = " or ".join(state.value for state in RolloutState if state in allowed)
        why = f"its rollout is {document.state.value}; the command is possible only while it is {states}"
        raise RolloutForbidden(name, why)
    match command:
        case StartRollout(_, due_at, late_ms):
            # The scheduler read the start before an operator moved it.
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
                raise RolloutForbidden(name, "a retry of the failed devices is pending already")
            return RetryAsked()
        case AbortRollout(_, reason):
            return RolloutAborted(reason or "aborted by hand")
        case RecordResults(_, results):
            return ResultsRecorded(results)
        case RollBack(_, reason):
            if document.rollback_asked:
                raise RolloutForbidden(name, "its rollback is pending already")
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
        raise RolloutForbidden(name, "the plan requires that another person than its author approves a phase")


def _subjects_of(command: RolloutCommand | SchedulerCommand) -> tuple[str, ...]:
    names = (rollout_subject(command.deployment_id), command.deployment_id)
    if isinstance(command, AdvanceRollout):
        return (*names, *rollbacks_of(command))
    rollback_to = command.plan.rollback_to if isinstance(command, CreateRollout) else ""
    return (*names, rollback_to) if rollback_to else names


def rollbacks_of(command: AdvanceRollout) -> tuple[str, ...]:
    """The deployment that a rollback creates, if any."""
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
                raise RolloutForbidden(name, "its rollout has changed since this step was planned")
            yield from (SubjectChange(rollout_subject(name), event) for event in events)
        case DiscardRollout(name):
            if documents[name] is not None or documents[rollout_subject(name)] is None:
                raise RolloutForbidden(name, "a rollout is deleted together with its deployment")
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
            raise PlanInvalid(name, "rollback_to", f"must be an existing deployment: {command.plan.rollback_to!r}")
        if (target.kind, target.layered) != (deployment.kind, deployment.layered):
            raise PlanInvalid(name, "rollback_to", "must be a deployment of the same kind")
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
            # Until the rollout completes, the deployment itself has the admission NotStarted and its schedule could move.
            deployment: DeploymentDocument = documents[name]
            start_at = 0 if deployment.schedule is UNSET else deployment.schedule.start_at
            if rollout.state is not RolloutState.CREATED and schedule.start_at != start_at:
                raise ScheduleForbidden(name, "its rollout has started; only its end can be moved")
        case DeleteDeployment():
            yield SubjectChange(rollout_subject(name), RolloutDeleted())
        case _:
            pass


DEPLOYMENT_RULE = ForeignRule(subjects=_subjects_beside, follow=_follow)
"""Rejects commands on a deployment that contradict its rollout, and deletes the rollout with the deployment."""
