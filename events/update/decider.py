"""The decider of updates and groups: a command becomes events that are appended together, or is rejected."""

from collections.abc import Iterator, Mapping
from typing import get_args

import msgspec
from msgspec import UNSET

from events.decider import CommandAuthor, Decider, Documents, ForeignRule, SubjectChange, prefix_of
from events.deployment.commands import DeploymentCommand
from events.deployment.events import (
    AdmissionChanged,
    DeploymentCreated,
    DeploymentDeleted,
    Ended,
    Everyone,
    Kept,
    NotStarted,
    Schedule,
)
from events.deployment.state import DeploymentDocument
from events.rollout import decider as rollout_decide
from events.rollout.commands import AbortRollout, AdvanceRollout, RetryFailed, RolloutCommand, SchedulerCommand
from events.rollout.decider import rollbacks_of
from events.rollout.errors import RolloutError, RolloutForbidden
from events.rollout.events import RolloutAborted, RolloutCreated, RolloutDeleted, RolloutStarted
from events.rollout.plan import EVERY_DEVICE, Failure, Gate, OnFailure, Phase, RolloutPlan
from events.rollout.state import RolloutDocument, RolloutState
from events.rollout.state import subject_of as rollout_subject
from events.update.commands import (
    PRIORITY_DEFAULT,
    CancelUpdateDeployment,
    DefineGroup,
    DeleteUpdate,
    DeleteUpdateDeployment,
    DeployUpdate,
    ImportUpdate,
    OfGroup,
    OfUpdate,
    RemoveGroup,
    RetryUpdateDeployment,
    UpdateCommand,
)
from events.update.compatibility import both
from events.update.errors import (
    GroupBusy,
    GroupDeploymentExists,
    GroupDeploymentForbidden,
    GroupDeploymentNotFound,
    GroupInvalid,
    GroupNotFound,
    UpdateExists,
    UpdateInUse,
    UpdateNotFound,
)
from events.update.events import (
    GroupDefined,
    GroupEvent,
    GroupRemoved,
    RollbackPolicy,
    UpdateDeleted,
    UpdateDeployed,
    UpdateDeploymentCanceled,
    UpdateDeploymentDeleted,
    UpdateDeploymentRetried,
    UpdateEvent,
    UpdateImported,
)
from events.update.names import (
    GROUP,
    UPDATE,
    UPDATE_DEPLOYMENT,
    group_and_deployment,
    group_subject,
    is_update,
    update_deployment_of,
)
from events.update.rules import check
from events.update.state import (
    GroupDocument,
    UpdateDocument,
    UpdateState,
    condition_of_group,
    decode_group,
    decode_update,
    evolve_group,
)

# Deleting a group deletes all its deployments in one append, so their number is limited.
DEPLOYMENTS_MAX = 80
"""The deployments of a group, past ones included."""

GROUP_LABEL, UPDATE_LABEL, DEPLOYMENT_LABEL = "twinfold.group", "twinfold.update", "twinfold.deployment"
"""The labels of the deployment of an update."""

ROLLBACK_LABEL = "twinfold.rollback-of"
"""The label of the deployment that a rollback creates."""

_GOING_ON = {RolloutState.CREATED, RolloutState.RUNNING, RolloutState.PAUSED}


def decide(command: UpdateCommand, documents: Documents, author: CommandAuthor) -> Iterator[SubjectChange]:
    """The events that a checked command becomes.

    Raises:
        UpdateError: the current state does not allow the command.
    """
    match command:
        case ImportUpdate(update, content, compatibility, description, friendly_name):
            if documents[update.subject] is not None:
                raise UpdateExists(update.text)
            imported = UpdateImported(update, content, compatibility, description, friendly_name)
            yield SubjectChange(update.subject, imported)
        case DeleteUpdate(update):
            if documents[update.subject] is None:
                raise UpdateNotFound(update.text)
            for subject in documents:
                group: GroupDocument | None = documents[subject] if prefix_of(subject) == GROUP else None
                active = None if group is None else group.active
                if active is not None and update in {active.update, active.policy and active.policy.update}:
                    raise UpdateInUse(update.text, subject.removeprefix(GROUP), active.id)
            yield SubjectChange(update.subject, UpdateDeleted())
        case _:
            yield from _decide_on_group(command, documents, author.by)


def _decide_on_group(command: OfGroup, documents: Documents, by: str) -> Iterator[SubjectChange]:
    subject = group_subject(command.group)
    group: GroupDocument | None = documents[subject]
    match command:
        case DefineGroup(_, condition, priority):
            _check_idle(command.group, group)
            if group is None or (group.condition, group.priority) != (condition, priority):
                yield SubjectChange(subject, GroupDefined(condition, priority))
        case RemoveGroup():
            if group is None:
                raise GroupNotFound(command.group)
            _check_idle(command.group, group)
            yield SubjectChange(subject, GroupRemoved())
            for removed in group.deployments:
                yield from _delete(update_deployment_of(command.group, removed.id), documents)
        case DeployUpdate():
            yield from _deploy(command, group, documents, by)
        case CancelUpdateDeployment(_, name, reason, keepers):
            _require_active(group, command)
            yield SubjectChange(subject, UpdateDeploymentCanceled(name, reason))
            yield from _close(update_deployment_of(command.group, name), documents, keepers, reason or "canceled")
        case RetryUpdateDeployment(_, name):
            _require_active(group, command)
            yield SubjectChange(subject, UpdateDeploymentRetried(name))
            update_deployment = update_deployment_of(command.group, name)
            rollout, document = _rollout_of(update_deployment, documents), documents[update_deployment]
            try:
                event = rollout_decide.decide(RetryFailed(update_deployment), rollout, document, by=by)
            except RolloutError as error:
                raise GroupDeploymentForbidden(name, str(error)) from error
            yield SubjectChange(rollout_subject(update_deployment), event)
        case DeleteUpdateDeployment(_, name):
            if group is None or (deployment := group.deployment(name)) is None:
                raise GroupDeploymentNotFound(command.group, name)
            if deployment.state is UpdateState.ACTIVE:
                raise GroupDeploymentForbidden(name, "it is active; cancel it first")
            yield SubjectChange(subject, UpdateDeploymentDeleted(name))
            yield from _delete(update_deployment_of(command.group, name), documents)


def _check_idle(name: str, group: GroupDocument | None) -> None:
    if group is not None and group.active is not None:
        raise GroupBusy(name, group.active.id)


def _require_active(group: GroupDocument | None, command: CancelUpdateDeployment | RetryUpdateDeployment) -> None:
    """Reject a command on a deployment that is not active: past ones never change (seed 004, Deployment lifecycle)."""
    deployment = None if group is None else group.deployment(command.deployment)
    if deployment is None:
        raise GroupDeploymentNotFound(command.group, command.deployment)
    if deployment.state is not UpdateState.ACTIVE:
        raise GroupDeploymentForbidden(command.deployment, f"it is {deployment.state.value}, which is final")


def _deploy(
    command: DeployUpdate, group: GroupDocument | None, documents: Documents, by: str
) -> Iterator[SubjectChange]:
    name, update_deployment = command.deployment, update_deployment_of(command.group, command.deployment)
    for needed in (command.update, None if command.policy is None else command.policy.update):
        if needed is not None and documents[needed.subject] is None:
            raise UpdateNotFound(needed.text)
    update: UpdateDocument = documents[command.update.subject]
    if group is not None and group.deployment(name) is not None:
        raise GroupDeploymentExists(command.group, name)
    if documents[update_deployment] is not None:
        raise GroupDeploymentForbidden(name, f"deployment {update_deployment!r} exists already; choose another id")
    if group is not None and len(group.deployments) >= DEPLOYMENTS_MAX:
        raise GroupInvalid(command.group, "deployments", f"must be at most {DEPLOYMENTS_MAX}; delete past deployments")
    policy = UNSET if command.policy is None else command.policy
    deployed = UpdateDeployed(name, command.update, command.start_at, policy)
    yield SubjectChange(group_subject(command.group), deployed)
    # The deployment holds a copy of the content: an update that is deleted at the same time may be gone afterwards.
    created = DeploymentCreated(
        update.content,
        both(condition_of_group(command.group, group), update.condition),
        PRIORITY_DEFAULT if group is None else group.priority,
        {GROUP_LABEL: command.group, UPDATE_LABEL: command.update.text, DEPLOYMENT_LABEL: name},
        admission=NotStarted(),
        schedule=Schedule(command.start_at, command.end_at) if command.start_at or command.end_at else UNSET,
    )
    yield SubjectChange(update_deployment, created)
    rollout = rollout_subject(update_deployment)
    yield SubjectChange(rollout, RolloutCreated(plan_of(command.policy, command.plan), by))
    if not command.start_at:
        yield SubjectChange(rollout, RolloutStarted())
    # Superseding does not end the previous deployment: its devices would fall to the layers beneath and restart their
    # modules before the new update reaches them (docs/decisions/0024).
    if group is not None and group.active is not None:
        superseded = update_deployment_of(command.group, group.active.id)
        yield from _close(superseded, documents, command.keepers, f"superseded by {name}")


def plan_of(policy: RollbackPolicy | None, plan: RolloutPlan | None = None) -> RolloutPlan:
    """The rollout plan of an update: all devices at once without a plan; failure and rollback follow the policy.

    Without a policy no failure stops the rollout, and it completes when all devices are admitted; with a policy, when all have
    answered.
    """
    if plan is None:
        # The gate requires no share of successes: one failed device would make it unreachable before the thresholds of
        # the policy are met (docs/decisions/0024).
        gate = Gate(success_percent=0.0, answered_min=0 if policy is None else EVERY_DEVICE)
        plan = RolloutPlan((Phase(percent=100.0, gate=gate),))
    if policy is None:
        return plan
    failure = Failure(policy.percent, policy.count, policy.answered_min, OnFailure.ROLL_BACK)
    back_to = "" if policy.update is None else policy.update.subject
    return msgspec.structs.replace(plan, failure=failure, rollback_to=back_to, restore=not back_to)


def _close(
    update_deployment: str, documents: Documents, keepers: Mapping[str, dict[str, str]], reason: str
) -> Iterator[SubjectChange]:
    """Stop an update's deployment, and that of its rollback, for further devices; devices that have them keep them."""
    rollout = _rollout_of(update_deployment, documents)
    if rollout is not None and (rollout.state in _GOING_ON or rollout.rollback_asked):
        yield SubjectChange(rollout_subject(update_deployment), RolloutAborted(reason))
    if rollout is not None and rollout.state is RolloutState.CREATED:
        yield SubjectChange(update_deployment, AdmissionChanged(Ended()))
    for name in _existing(update_deployment, documents):
        own = _rollout_of(name, documents)
        is_everyone = documents[name].admission == Everyone()
        # It admits every device that its condition is true for.
        if is_everyone if own is None else own.state is RolloutState.COMPLETED:
            # The event names the devices: a replay must not depend on how the streams of fleet and partition interleave.
            if name not in keepers:
                raise GroupDeploymentForbidden(name, "`keepers` must name the devices that keep it, by deployment")
            yield SubjectChange(name, AdmissionChanged(Kept(keepers[name])))


def _delete(update_deployment: str, documents: Documents) -> Iterator[SubjectChange]:
    for name in _existing(update_deployment, documents):
        yield SubjectChange(name, DeploymentDeleted())
    if _rollout_of(update_deployment, documents) is not None:
        yield SubjectChange(rollout_subject(update_deployment), RolloutDeleted())


def _existing(update_deployment: str, documents: Documents) -> list[str]:
    """An update's deployment and that of its rollback, as far as they exist."""
    rollout = _rollout_of(update_deployment, documents)
    names = (update_deployment, "" if rollout is None else rollout.rollback)
    return [name for name in names if documents.get(name) is not None]


def _rollout_of(deployment_id: str, documents: Documents) -> RolloutDocument | None:
    rollout: RolloutDocument | None = documents.get(rollout_subject(deployment_id))
    return rollout


def _subjects_of(command: UpdateCommand) -> tuple[str, ...]:
    if isinstance(command, OfUpdate):
        return (command.update.subject,)
    names = [group_subject(command.group)]
    if not isinstance(command, DefineGroup | RemoveGroup):
        update_deployment = update_deployment_of(command.group, command.deployment)
        names += [update_deployment, rollout_subject(update_deployment)]
    if isinstance(command, DeployUpdate):
        policy_update = None if command.policy is None else command.policy.update
        names += [update.subject for update in (command.update, policy_update) if update is not None]
    return tuple(names)


def _also(command: UpdateCommand, documents: Documents) -> Iterator[str]:
    """The deployments that a command is decided on, and their rollouts, as far as the loaded documents name them."""
    if isinstance(command, OfUpdate):
        return
    group: GroupDocument | None = documents[group_subject(command.group)]
    concerned = set() if isinstance(command, DefineGroup | RemoveGroup) else {command.deployment}
    for deployment in () if group is None else group.deployments:
        is_superseded = isinstance(command, DeployUpdate) and deployment.state is UpdateState.ACTIVE
        if isinstance(command, RemoveGroup) or is_superseded:
            concerned.add(deployment.id)
    for name in sorted(concerned):
        update_deployment = update_deployment_of(command.group, name)
        rollout = _rollout_of(update_deployment, documents)
        for deployment_id in (update_deployment, "" if rollout is None else rollout.rollback):
            if deployment_id:
                yield deployment_id
                yield rollout_subject(deployment_id)


def _evolve(document: GroupDocument | None, event: UpdateEvent | GroupEvent, version: int, at: int, _: str) -> object:
    if isinstance(event, UpdateImported):
        return UpdateDocument(version=version, imported_at=at, **msgspec.structs.asdict(event))
    if isinstance(event, UpdateDeleted):
        return None
    return evolve_group(document, event, version=version, at=at)


DECIDER = Decider(
    get_args(UpdateCommand),
    (*get_args(UpdateEvent), *get_args(GroupEvent)),
    subjects=_subjects_of,
    check=check,
    decide=decide,
    evolve=_evolve,
    decode=lambda subject, data: decode_update(data) if is_update(subject) else decode_group(data),
    prefixes=(UPDATE, GROUP),
    also=_also,
    # Any group can have an active deployment that uses the update, so all groups are loaded.
    families=lambda command: (GROUP,) if isinstance(command, DeleteUpdate) else (),
)


def _refuse_deployment(command: DeploymentCommand, _: Documents) -> None:
    if command.deployment_id.startswith(UPDATE_DEPLOYMENT):
        why = "ids that begin with update+ belong to groups; change the deployment of the group"
        raise GroupDeploymentForbidden(command.deployment_id, why)


# A change past the group would break its invariant of one active deployment (seed 004).
DEPLOYMENT_RULE = ForeignRule(refuse=_refuse_deployment)
"""Rejects commands on the deployment of an update: only commands on its group change it."""


def _group_of(command: RolloutCommand | SchedulerCommand) -> tuple[str, ...]:
    names = group_and_deployment(command.deployment_id)
    return () if names is None else (group_subject(names[0]),)


def _refuse_rollout(command: RolloutCommand | SchedulerCommand, documents: Documents) -> None:
    names = group_and_deployment(command.deployment_id)
    if names is None or isinstance(command, SchedulerCommand):
        return
    group_name, deployment_name = names
    if isinstance(command, AbortRollout | RetryFailed):
        raise GroupDeploymentForbidden(command.deployment_id, f"cancel or retry it in its group {group_name!r}")
    group: GroupDocument | None = documents[group_subject(group_name)]
    deployment = None if group is None else group.deployment(deployment_name)
    if deployment is None or deployment.state is not UpdateState.ACTIVE:
        raise GroupDeploymentForbidden(command.deployment_id, "it has ended, which is final")


def _bring_back(command: RolloutCommand | SchedulerCommand, documents: Documents) -> Iterator[SubjectChange]:
    """Create the deployment of a rollback: the earlier content with the condition and priority of the failed deployment."""
    for rollback in rollbacks_of(command) if isinstance(command, AdvanceRollout) else ():
        name = command.deployment_id
        failed: DeploymentDocument | None = documents[name]
        target = documents[rollout_subject(name)].plan.rollback_to
        rollback_to: UpdateDocument | DeploymentDocument | None = documents[target]
        if failed is None or rollback_to is None or documents[rollback] is not None:
            raise RolloutForbidden(name, "its rollback target was deleted, or the rollback's deployment exists already")
        # An update's content has the schema version that a deployment has by default.
        schema_version = "1.0" if isinstance(rollback_to, UpdateDocument) else rollback_to.schema_version
        condition, priority, labels = failed.target_condition, failed.priority, {ROLLBACK_LABEL: name}
        event = DeploymentCreated(
            rollback_to.content, condition, priority, labels, {}, schema_version, scope=failed.scope
        )
        yield SubjectChange(rollback, event)


ROLLOUT_RULE = ForeignRule(subjects=_group_of, refuse=_refuse_rollout, follow=_bring_back)
"""Rejects abort and retry of an update's rollout, which belong to its group, and creates the deployment of a rollback.

Rollbacks are handled here because their content can be that of an update, which the rollout's decider does not know.
"""
