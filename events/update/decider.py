"""The decider of updates and groups: a command becomes events that are appended together, or is rejected."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

import msgspec
from msgspec import UNSET
from typing_extensions import override

from events.decider import CommandAuthor, Decider, Documents, ForeignRule, SubjectChange, prefix_of
from events.deployment.commands import DeploymentCommand
from events.deployment.events import (
    AdmissionChanged,
    DeploymentCreated,
    DeploymentDeleted,
    DeploymentEvent,
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
from events.rollout.events import RolloutAborted, RolloutCreated, RolloutDeleted, RolloutEvent, RolloutStarted
from events.rollout.plan import EVERY_DEVICE, Failure, Gate, OnFailure, Phase, RolloutPlan
from events.rollout.state import ROLLOUT, RolloutDocument, RolloutState
from events.rollout.state import subject_of as rollout_subject
from events.update.commands import (
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
    group_and_deployment,
    group_subject,
    is_update,
    is_update_deployment,
    update_deployment_of,
)
from events.update.rules import check
from events.update.state import (
    GroupDeployment,
    GroupDocument,
    UpdateDocument,
    UpdateState,
    condition_of_group,
    decode_group,
    decode_update,
    evolve_group,
    evolve_update,
    to_go_back_to,
)

# Deleting a group deletes all its deployments in one append, so their number is limited.
DEPLOYMENTS_MAX = 80
"""The deployments of a group, past ones included."""

GROUP_LABEL, UPDATE_LABEL, DEPLOYMENT_LABEL = "twinfold.group", "twinfold.update", "twinfold.deployment"
"""The labels of the deployment of an update."""

ROLLBACK_LABEL = "twinfold.rollback-of"
"""The label of the deployment that a rollback creates."""

Subject = str
Events = Iterator[tuple[Subject, UpdateEvent | GroupEvent | DeploymentEvent | RolloutEvent]]

_GOING_ON = {RolloutState.CREATED, RolloutState.RUNNING, RolloutState.PAUSED}


class UpdateDocuments(msgspec.Struct, frozen=True, eq=False):
    """The existing documents that a command is decided on, by name."""

    updates: Mapping[str, UpdateDocument] = {}
    groups: Mapping[str, GroupDocument] = {}
    deployments: Mapping[str, DeploymentDocument] = {}
    rollouts: Mapping[str, RolloutDocument] = {}
    """By deployment."""


def needs(command: UpdateCommand, documents: UpdateDocuments) -> Iterator[str]:
    """The deployments that a command is decided on, as far as the loaded documents name them."""
    if isinstance(command, OfUpdate):
        return
    group = documents.groups.get(command.group)
    concerned = (
        set()
        if group is None
        else {deployment.id for deployment in group.deployments if _concerns(command, deployment)}
    )
    if not isinstance(command, DefineGroup | RemoveGroup):
        concerned.add(command.deployment)
    for name in sorted(concerned):
        update_deployment = update_deployment_of(command.group, name)
        yield update_deployment
        rollout = documents.rollouts.get(update_deployment)
        if rollout is not None and rollout.rollback:
            yield rollout.rollback


def _concerns(command: OfGroup, deployment: GroupDeployment) -> bool:
    return isinstance(command, RemoveGroup) or (
        isinstance(command, DeployUpdate) and deployment.state is UpdateState.ACTIVE
    )


def decide(command: UpdateCommand, documents: UpdateDocuments, *, by: str) -> Events:
    """The events, with their subjects, that a checked command of the author `by` becomes.

    Raises:
        UpdateError: the current state does not allow the command.
    """
    match command:
        case ImportUpdate(update):
            if update.text in documents.updates:
                raise UpdateExists(update.text)
            yield (
                update.subject,
                UpdateImported(
                    update, command.content, command.compatibility, command.description, command.friendly_name
                ),
            )
        case DeleteUpdate(update):
            _check_unused(command, documents)
            yield update.subject, UpdateDeleted()
        case _:
            yield from _decide_on_group(command, documents, by)


def _check_unused(command: DeleteUpdate, documents: UpdateDocuments) -> None:
    name = command.update.text
    if name not in documents.updates:
        raise UpdateNotFound(name)
    for group, document in documents.groups.items():
        active = document.active
        if active is not None and command.update in {active.update, active.policy and active.policy.update}:
            raise UpdateInUse(name, group, active.id)


def _decide_on_group(command: OfGroup, documents: UpdateDocuments, by: str) -> Events:
    group, subject = documents.groups.get(command.group), group_subject(command.group)
    match command:
        case DefineGroup(_, condition, priority):
            _check_idle(command.group, group)
            if group is None or (group.condition, group.priority) != (condition, priority):
                yield subject, GroupDefined(condition, priority)
        case RemoveGroup():
            if group is None:
                raise GroupNotFound(command.group)
            _check_idle(command.group, group)
            yield subject, GroupRemoved()
            for removed in group.deployments:
                yield from _delete(update_deployment_of(command.group, removed.id), documents)
        case DeployUpdate():
            yield from _deploy(command, group, documents, by)
        case CancelUpdateDeployment(_, name, reason, keepers):
            _require_active(group, command)
            yield subject, UpdateDeploymentCanceled(name, reason)
            yield from _close(update_deployment_of(command.group, name), documents, keepers, reason or "canceled")
        case RetryUpdateDeployment(_, name):
            _require_active(group, command)
            yield subject, UpdateDeploymentRetried(name)
            yield from _retry(update_deployment_of(command.group, name), name, documents, by)
        case DeleteUpdateDeployment(_, name):
            if group is None or (deployment := group.deployment(name)) is None:
                raise GroupDeploymentNotFound(command.group, name)
            if deployment.state is UpdateState.ACTIVE:
                raise GroupDeploymentForbidden(name, "it is active; cancel it first")
            yield subject, UpdateDeploymentDeleted(name)
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


def _deploy(command: DeployUpdate, group: GroupDocument | None, documents: UpdateDocuments, by: str) -> Events:
    name, update_deployment = command.deployment, update_deployment_of(command.group, command.deployment)
    update = documents.updates.get(command.update.text)
    if update is None:
        raise UpdateNotFound(command.update.text)
    back_to = None if command.policy is None else command.policy.update
    if back_to is not None and back_to.text not in documents.updates:
        raise UpdateNotFound(back_to.text)
    if group is not None and group.deployment(name) is not None:
        raise GroupDeploymentExists(command.group, name)
    if update_deployment in documents.deployments:
        raise GroupDeploymentForbidden(name, f"deployment {update_deployment!r} exists already; choose another id")
    if group is not None and len(group.deployments) >= DEPLOYMENTS_MAX:
        raise GroupInvalid(command.group, "deployments", f"must be at most {DEPLOYMENTS_MAX}; delete past deployments")
    policy = UNSET if command.policy is None else command.policy
    # The deployment holds a copy of the content: an update that is deleted at the same time may be gone afterwards.
    yield group_subject(command.group), UpdateDeployed(name, command.update, command.start_at, policy)
    yield (
        update_deployment,
        DeploymentCreated(
            update.content,
            both(condition_of_group(command.group, group), update.condition),
            (group or GroupDocument(0, 0)).priority,
            {GROUP_LABEL: command.group, UPDATE_LABEL: command.update.text, DEPLOYMENT_LABEL: name},
            admission=NotStarted(),
            schedule=Schedule(command.start_at, command.end_at) if command.start_at or command.end_at else UNSET,
        ),
    )
    yield rollout_subject(update_deployment), RolloutCreated(plan_of(command.policy, command.plan), by)
    if not command.start_at:
        yield rollout_subject(update_deployment), RolloutStarted()
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
    update_deployment: str, documents: UpdateDocuments, keepers: Mapping[str, dict[str, str]], reason: str
) -> Events:
    """Stop an update's deployment, and that of its rollback, for further devices; devices that have them keep them."""
    rollout = documents.rollouts.get(update_deployment)
    if rollout is not None and (rollout.state in _GOING_ON or rollout.rollback_asked):
        yield rollout_subject(update_deployment), RolloutAborted(reason)
    if rollout is not None and rollout.state is RolloutState.CREATED:
        yield update_deployment, AdmissionChanged(Ended())
    for name in _existing(update_deployment, documents):
        if is_open(name, documents):
            # The event names the devices: a replay must not depend on how the streams of fleet and partition interleave.
            if name not in keepers:
                raise GroupDeploymentForbidden(name, "`keepers` must name the devices that keep it, by deployment")
            yield name, AdmissionChanged(Kept(keepers[name]))


def is_open(name: str, documents: UpdateDocuments) -> bool:
    """Whether a deployment admits every device that its condition is true for."""
    rollout = documents.rollouts.get(name)
    everyone = documents.deployments[name].admission == Everyone()
    return everyone if rollout is None else rollout.state is RolloutState.COMPLETED


def _retry(update_deployment: str, name: str, documents: UpdateDocuments, by: str) -> Events:
    try:
        event = rollout_decide.decide(
            RetryFailed(update_deployment),
            documents.rollouts.get(update_deployment),
            documents.deployments.get(update_deployment),
            by=by,
        )
    except RolloutError as error:
        raise GroupDeploymentForbidden(name, str(error)) from error
    yield rollout_subject(update_deployment), event


def _delete(update_deployment: str, documents: UpdateDocuments) -> Events:
    for name in _existing(update_deployment, documents):
        yield name, DeploymentDeleted()
    if update_deployment in documents.rollouts:
        yield rollout_subject(update_deployment), RolloutDeleted()


def _existing(update_deployment: str, documents: UpdateDocuments) -> list[str]:
    """An update's deployment and that of its rollback, as far as they exist."""
    rollout = documents.rollouts.get(update_deployment)
    names = (update_deployment, "" if rollout is None else rollout.rollback)
    return [name for name in names if name in documents.deployments]


class _DocumentsByName(Mapping[str, Any]):
    """The existing documents whose subjects have a prefix, by the subject without it."""

    def __init__(self, documents: Documents, prefix: str) -> None:
        self._documents, self._prefix = documents, prefix

    @override
    def __getitem__(self, name: str) -> Any:
        document = self._documents.get(self._prefix + name)
        if document is None:
            raise KeyError(name)
        return document

    @override
    def __iter__(self) -> Iterator[str]:
        names = (subject for subject in self._documents if prefix_of(subject) == self._prefix)
        return (name.removeprefix(self._prefix) for name in names if self._documents[name] is not None)

    @override
    def __len__(self) -> int:
        return sum(1 for _ in self)


def _by_name(documents: Documents) -> UpdateDocuments:
    return UpdateDocuments(*(_DocumentsByName(documents, prefix) for prefix in (UPDATE, GROUP, "", ROLLOUT)))


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
    for name in needs(command, _by_name(documents)):
        yield name
        yield rollout_subject(name)


def _decide(command: UpdateCommand, documents: Documents, author: CommandAuthor) -> Iterator[SubjectChange]:
    for subject, event in decide(command, _by_name(documents), by=author.by):
        yield SubjectChange(subject, event)


def _evolve(document: GroupDocument | None, event: UpdateEvent | GroupEvent, version: int, at: int, _: str) -> object:
    if isinstance(event, UpdateEvent):
        return evolve_update(event, version=version, at=at)
    return evolve_group(document, event, version=version, at=at)


DECIDER = Decider(
    get_args(UpdateCommand),
    (*get_args(UpdateEvent), *get_args(GroupEvent)),
    subjects=_subjects_of,
    check=check,
    decide=_decide,
    evolve=_evolve,
    decode=lambda subject, data: decode_update(data) if is_update(subject) else decode_group(data),
    prefixes=(UPDATE, GROUP),
    also=_also,
    # Any group can have an active deployment that uses the update, so all groups are loaded.
    families=lambda command: (GROUP,) if isinstance(command, DeleteUpdate) else (),
)


def _refuse_deployment(command: DeploymentCommand, _: Documents) -> None:
    if is_update_deployment(command.deployment_id):
        raise GroupDeploymentForbidden(
            command.deployment_id, "ids that begin with update+ belong to groups; change the deployment of the group"
        )


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
        rollback_to: UpdateDocument | DeploymentDocument | None = documents[
            documents[rollout_subject(name)].plan.rollback_to
        ]
        if failed is None or rollback_to is None or documents[rollback] is not None:
            raise RolloutForbidden(name, "its rollback target was deleted, or the rollback's deployment exists already")
        content, schema_version = to_go_back_to(rollback_to)
        event = DeploymentCreated(
            content,
            failed.target_condition,
            failed.priority,
            {ROLLBACK_LABEL: name},
            {},
            schema_version,
            scope=failed.scope,
        )
        yield SubjectChange(rollback, event)


ROLLOUT_RULE = ForeignRule(subjects=_group_of, refuse=_refuse_rollout, follow=_bring_back)
"""Rejects abort and retry of an update's rollout, which belong to its group, and creates the deployment of a rollback.

Rollbacks are handled here because their content can be that of an update, which the rollout's decider does not know.
"""
