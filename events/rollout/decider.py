"""The decider of rollouts: a command becomes an event, or is rejected."""

from collections.abc import Iterator, Mapping
from typing import assert_never, get_args

from msgspec import UNSET

from events.decider import CommandAuthor, Decider, Documents, ForeignRule, SubjectChange
from events.deployment.commands import ChangeAdmission, DeleteDeployment, DeploymentCommand, ScheduleDeployment
from events.deployment.errors import DeploymentNotFound, ScheduleForbidden
from events.deployment.events import NotStarted
from events.deployment.state import DeploymentDocument
from events.rollout import commands, errors, events
from events.rollout.commands import RolloutCommand, SchedulerCommand
from events.rollout.errors import RolloutForbidden
from events.rollout.events import RolloutEvent
from events.rollout.rules import check
from events.rollout.state import ROLLOUT, RolloutDocument, RolloutState, decode, evolve
from events.rollout.state import subject_of as rollout_subject

_OPEN = frozenset({RolloutState.RUNNING, RolloutState.PAUSED})
_COMPLETED_OR_ABORTED = frozenset({RolloutState.COMPLETED, RolloutState.ABORTED})

# HALTED does not allow RollBack: a rollback that failed once would fail again, in a loop.
ALLOWED: Mapping[type[RolloutCommand], frozenset[RolloutState]] = {
    commands.StartRollout: frozenset({RolloutState.CREATED}),
    commands.PauseRollout: frozenset({RolloutState.RUNNING}),
    commands.ResumeRollout: frozenset({RolloutState.PAUSED}),
    commands.ApprovePhase: _OPEN | {RolloutState.CREATED},
    commands.SkipPhase: _OPEN,
    commands.RetryFailed: _OPEN | _COMPLETED_OR_ABORTED | {RolloutState.HALTED},
    commands.AbortRollout: _OPEN | {RolloutState.CREATED},
    commands.RecordResults: _OPEN | _COMPLETED_OR_ABORTED | {RolloutState.CREATED},
    commands.RollBack: _OPEN | _COMPLETED_OR_ABORTED,
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
    if isinstance(command, commands.CreateRollout):
        if document is not None:
            raise errors.RolloutExists(name)
        if deployment is None:
            raise errors.RolloutNotFound(name)
        if not isinstance(deployment.admission, NotStarted):
            raise errors.NotToBeRolledOut(name, type(deployment.admission).__name__)
        return events.RolloutCreated(command.plan, by)
    if document is None or deployment is None:
        raise errors.RolloutNotFound(name)
    allowed = ALLOWED[type(command)]
    if document.state not in allowed:
        states = " or ".join(state.value for state in RolloutState if state in allowed)
        why = f"its rollout is {document.state.value}; the command is possible only while it is {states}"
        raise RolloutForbidden(name, why)
    match command:
        case commands.StartRollout(_, due_at, late_ms):
            # The scheduler read the start before an operator moved it.
            if due_at is not None and due_at != deployment.start_at:
                raise RolloutForbidden(name, "its start was moved")
            return events.RolloutStarted(UNSET if late_ms is None else late_ms)
        case commands.PauseRollout(_, reason):
            return events.RolloutPaused(reason or "paused by hand")
        case commands.ResumeRollout():
            return events.RolloutResumed()
        case commands.ApprovePhase(_, phase):
            _check_approval(document, name, phase, by)
            return events.PhaseApproved(phase, by)
        case commands.SkipPhase(_, phase):
            if not document.is_open or phase != document.phase:
                raise RolloutForbidden(name, f"phase {phase + 1} is not open")
            return events.PhasePassed(phase, f"skipped by {by}")
        case commands.RetryFailed():
            if document.results is not UNSET and document.state is not RolloutState.HALTED:
                raise RolloutForbidden(name, "its deployment has ended: no device has it any more")
            if document.retry_asked:
                raise RolloutForbidden(name, "a retry of the failed devices is pending already")
            return events.RetryAsked()
        case commands.AbortRollout(_, reason):
            return events.RolloutAborted(reason or "aborted by hand")
        case commands.RecordResults(_, results):
            return events.ResultsRecorded(results)
        case commands.RollBack(_, reason):
            if document.rollback_asked:
                raise RolloutForbidden(name, "its rollback is pending already")
            return events.RollbackAsked(reason or f"rolled back by {by}")
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
    if isinstance(command, commands.AdvanceRollout):
        return (*names, *rollbacks_of(command))
    rollback_to = command.plan.rollback_to if isinstance(command, commands.CreateRollout) else ""
    return (*names, rollback_to) if rollback_to else names


def rollbacks_of(command: commands.AdvanceRollout) -> tuple[str, ...]:
    """The deployment that a rollback creates, if any."""
    return tuple(
        event.deployment for event in command.events if isinstance(event, events.RollbackBegan) and event.deployment
    )


def _also(command: RolloutCommand | SchedulerCommand, documents: Documents) -> Iterator[str]:
    if isinstance(command, commands.AdvanceRollout) and rollbacks_of(command):
        rollout: RolloutDocument | None = documents[rollout_subject(command.deployment_id)]
        if rollout is not None:
            yield rollout.plan.rollback_to


def _decide(
    command: RolloutCommand | SchedulerCommand, documents: Documents, author: CommandAuthor
) -> Iterator[SubjectChange]:
    name, scope = command.deployment_id, author.scope
    subject = rollout_subject(name)
    deployment: DeploymentDocument | None = documents[name]
    if isinstance(command, commands.AdvanceRollout):
        rollout: RolloutDocument | None = documents[subject]
        if rollout is None or rollout.version != command.version:
            raise RolloutForbidden(name, "its rollout has changed since this step was planned")
        yield from (SubjectChange(subject, event) for event in command.events)
        return
    if isinstance(command, commands.DiscardRollout):
        if deployment is not None or documents[subject] is None:
            raise RolloutForbidden(name, "a rollout is deleted together with its deployment")
        yield SubjectChange(subject, events.RolloutDeleted())
        return
    if deployment is None or (scope is not None and deployment.scope != scope.text):
        raise DeploymentNotFound(name)
    if isinstance(command, commands.CreateRollout) and command.plan.rollback_to:
        target: DeploymentDocument | None = documents[command.plan.rollback_to]
        if target is None or (scope is not None and target.scope != scope.text):
            rule = f"must be an existing deployment: {command.plan.rollback_to!r}"
            raise errors.PlanInvalid(name, "rollback_to", rule)
        if (target.kind, target.layered) != (deployment.kind, deployment.layered):
            raise errors.PlanInvalid(name, "rollback_to", "must be a deployment of the same kind")
    yield SubjectChange(subject, decide(command, documents[subject], deployment, by=author.by))


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
            raise errors.RolloutActive(name)
        case ScheduleDeployment(_, schedule):
            # Until the rollout completes, the deployment itself has the admission NotStarted and its schedule could move.
            deployment: DeploymentDocument = documents[name]
            start_at = 0 if deployment.schedule is UNSET else deployment.schedule.start_at
            if rollout.state is not RolloutState.CREATED and schedule.start_at != start_at:
                raise ScheduleForbidden(name, "its rollout has started; only its end can be moved")
        case DeleteDeployment():
            yield SubjectChange(rollout_subject(name), events.RolloutDeleted())
        case _:
            pass


DEPLOYMENT_RULE = ForeignRule(subjects=_subjects_beside, follow=_follow)
"""Rejects commands on a deployment that contradict its rollout, and deletes the rollout with the deployment."""
