"""What may happen to updates and groups: a command becomes events that stand in the log together, or is refused."""

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import msgspec
from msgspec import UNSET
from typing_extensions import override

from events.decider import CommandAuthor, Decider, Documents, ForeignRule, SubjectChange, prefix_of
from events.deployment.commands import DeploymentCommand
from events.deployment.decider import PRIORITY_MAX, TIME_MAX
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
from events.manifest.document import ContentKind, kind_of
from events.manifest.validate import validate
from events.query.condition import parse_condition
from events.query.errors import ConditionInvalid
from events.rollout import decider as rollout_decide
from events.rollout.commands import (
    AbortRollout,
    AdvanceRollout,
    CreateRollout,
    RetryFailed,
    RolloutCommand,
    SchedulerCommand,
)
from events.rollout.decider import rollbacks_of
from events.rollout.errors import PlanInvalid, RolloutError, RolloutForbidden
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
from events.update.compatibility import both, problem_of
from events.update.errors import (
    GroupBusy,
    GroupDeploymentExists,
    GroupDeploymentForbidden,
    GroupDeploymentNotFound,
    GroupInvalid,
    GroupNotFound,
    UpdateExists,
    UpdateInUse,
    UpdateInvalid,
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
    UPDATE_DEPLOYMENT_CHARACTERS_MAX,
    deployed_update,
    group_subject,
    is_group_name,
    is_name,
    is_update,
    is_update_deployment,
    update_deployment_of,
)
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

DEPLOYMENTS_MAX = 80
"""Of one group, those that are over included; so that they are removed in one step."""

TEXT_CHARACTERS_MAX = 512
_PERCENT_MAX = 100.0
_COUNT_MAX = 2**31 - 1

GROUP_LABEL, UPDATE_LABEL, DEPLOYMENT_LABEL = "twinfold.group", "twinfold.update", "twinfold.deployment"
"""What a deployment is labelled with that carries an update."""

ROLLBACK_LABEL = "twinfold.rollback-of"
"""What a deployment is labelled with that a rollback brings."""

Subject = str
Events = Iterator[tuple[Subject, UpdateEvent | GroupEvent | DeploymentEvent | RolloutEvent]]

_GOING_ON = {RolloutState.CREATED, RolloutState.RUNNING, RolloutState.PAUSED}


class UpdateDocuments(msgspec.Struct, frozen=True, eq=False):
    """What a command is decided on, as far as it needs it: documents by their names, those that are there."""

    updates: Mapping[str, UpdateDocument] = {}
    groups: Mapping[str, GroupDocument] = {}
    deployments: Mapping[str, DeploymentDocument] = {}
    rollouts: Mapping[str, RolloutDocument] = {}
    """By deployment."""


def check(command: UpdateCommand) -> None:
    """Refuse what no state could allow.

    Raises:
        UpdateInvalid, GroupInvalid, ManifestInvalid: names the element and the rule.
    """
    match command:
        case ImportUpdate() | DeleteUpdate():
            _check_update(command)
        case _:
            _check_group(command)


def _check_update(command: OfUpdate) -> None:
    name = command.update.text
    if command.update.problem:
        raise UpdateInvalid(name, command.update.problem)
    if isinstance(command, DeleteUpdate):
        return
    if kind_of(command.content) is not ContentKind.EDGE:
        raise UpdateInvalid(name, "`content` is a manifest or a layer, in modulesContent")
    validate(command.content)
    for member in ("description", "friendly_name"):
        if len(getattr(command, member)) > TEXT_CHARACTERS_MAX:
            raise UpdateInvalid(name, f"`{member}` has at most {TEXT_CHARACTERS_MAX} characters")
    if problem := problem_of(command.compatibility):
        raise UpdateInvalid(name, problem)


def _check_group(command: OfGroup) -> None:
    name = command.group

    def rule(element: str, holds: object, text: str) -> None:
        if not holds:
            raise GroupInvalid(name, element, text)

    rule("id", is_group_name(name), "has 1 to 128 ASCII letters, digits and . _ ~ -, is not . or .., or is $default")
    match command:
        case DefineGroup(_, condition, priority):
            rule("priority", 0 <= priority <= PRIORITY_MAX, f"is 0 to {PRIORITY_MAX}")
            try:
                parse_condition(condition)
            except ConditionInvalid as error:
                raise GroupInvalid(name, "condition", f"is no target condition: {error}") from error
        case RemoveGroup():
            pass
        case _:
            rule(
                "deployment",
                is_name(command.deployment),
                "has 1 to 128 ASCII letters, digits and . _ ~ -, and is not . or ..",
            )
    if isinstance(command, CancelUpdateDeployment):
        rule("reason", len(command.reason) <= TEXT_CHARACTERS_MAX, f"has at most {TEXT_CHARACTERS_MAX} characters")
    if isinstance(command, DeployUpdate):
        long = len(update_deployment_of(name, command.deployment)) > UPDATE_DEPLOYMENT_CHARACTERS_MAX
        rule("deployment", not long, "and `group` have too long names together")
        rule("start_at", 0 <= command.start_at <= TIME_MAX, "is a time from 1970 to the year 9999, in milliseconds")
        rule("end_at", 0 <= command.end_at <= TIME_MAX, "is a time from 1970 to the year 9999, in milliseconds")
        start = dt.datetime.fromtimestamp(command.start_at / 1000, dt.UTC)
        later = not command.end_at or command.start_at < command.end_at
        rule("end_at", later, f"must be after `start_at` ({start:%Y-%m-%d %H:%M} UTC)")
        if policy := command.policy:
            rule("policy.percent", 0 <= policy.percent <= _PERCENT_MAX, "is 0 to 100")
            rule("policy.count", 1 <= policy.count <= _COUNT_MAX, "is a positive number")
            rule("policy.answered_min", 0 <= policy.answered_min <= _COUNT_MAX, "is not negative")
            rule("policy.update", policy.update != command.update, "is another update than the one deployed")
        if command.plan is not None:
            rule("plan.rollback_to", not command.plan.rollback_to, "is given by `policy.update`")
            try:
                rollout_decide.check(CreateRollout(update_deployment_of(name, command.deployment), command.plan))
            except PlanInvalid as error:
                raise GroupInvalid(name, f"plan.{error.element}", error.rule) from error


def needs(command: UpdateCommand, status: UpdateDocuments) -> Iterator[str]:
    """The deployments that a command is decided on, as far as what was loaded until now tells."""
    if isinstance(command, OfUpdate):
        return
    group = status.groups.get(command.group)
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
        rollout = status.rollouts.get(update_deployment)
        if rollout is not None and rollout.rollback:
            yield rollout.rollback


def _concerns(command: OfGroup, deployment: GroupDeployment) -> bool:
    return isinstance(command, RemoveGroup) or (
        isinstance(command, DeployUpdate) and deployment.state is UpdateState.ACTIVE
    )


def decide(command: UpdateCommand, status: UpdateDocuments, *, by: str) -> Events:
    """The events, with their subjects, that a checked command `by` somebody becomes.

    An update that is deployed while it is deleted may be gone afterwards: its content stands in the deployment.

    Raises:
        UpdateError: the command may not happen as things stand.
    """
    match command:
        case ImportUpdate(update):
            if update.text in status.updates:
                raise UpdateExists(update.text)
            yield (
                update.subject,
                UpdateImported(
                    update, command.content, command.compatibility, command.description, command.friendly_name
                ),
            )
        case DeleteUpdate(update):
            _check_unused(command, status)
            yield update.subject, UpdateDeleted()
        case _:
            yield from _decide_on_group(command, status, by)


def _check_unused(command: DeleteUpdate, status: UpdateDocuments) -> None:
    name = command.update.text
    if name not in status.updates:
        raise UpdateNotFound(name)
    for group, document in status.groups.items():
        active = document.active
        if active is not None and command.update in {active.update, active.policy and active.policy.update}:
            raise UpdateInUse(name, group, active.id)


def _decide_on_group(command: OfGroup, status: UpdateDocuments, by: str) -> Events:
    group, subject = status.groups.get(command.group), group_subject(command.group)
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
                yield from _delete(update_deployment_of(command.group, removed.id), status)
        case DeployUpdate():
            yield from _deploy(command, group, status, by)
        case CancelUpdateDeployment(_, name, reason, keepers):
            _of(group, command)
            yield subject, UpdateDeploymentCanceled(name, reason)
            yield from _close(update_deployment_of(command.group, name), status, keepers, reason or "canceled")
        case RetryUpdateDeployment(_, name):
            _of(group, command)
            yield subject, UpdateDeploymentRetried(name)
            yield from _retry(update_deployment_of(command.group, name), name, status, by)
        case DeleteUpdateDeployment(_, name):
            if group is None or (deployment := group.deployment(name)) is None:
                raise GroupDeploymentNotFound(command.group, name)
            if deployment.state is UpdateState.ACTIVE:
                raise GroupDeploymentForbidden(name, "it is active; cancel it first")
            yield subject, UpdateDeploymentDeleted(name)
            yield from _delete(update_deployment_of(command.group, name), status)


def _check_idle(name: str, group: GroupDocument | None) -> None:
    if group is not None and group.active is not None:
        raise GroupBusy(name, group.active.id)


def _of(group: GroupDocument | None, command: CancelUpdateDeployment | RetryUpdateDeployment) -> None:
    """Insist that a deployment is active: no command reaches one that is over (seed 004, Deployment lifecycle)."""
    deployment = None if group is None else group.deployment(command.deployment)
    if deployment is None:
        raise GroupDeploymentNotFound(command.group, command.deployment)
    if deployment.state is not UpdateState.ACTIVE:
        raise GroupDeploymentForbidden(command.deployment, f"it is {deployment.state.value}, for good")


def _deploy(command: DeployUpdate, group: GroupDocument | None, status: UpdateDocuments, by: str) -> Events:
    name, update_deployment = command.deployment, update_deployment_of(command.group, command.deployment)
    update = status.updates.get(command.update.text)
    if update is None:
        raise UpdateNotFound(command.update.text)
    back_to = None if command.policy is None else command.policy.update
    if back_to is not None and back_to.text not in status.updates:
        raise UpdateNotFound(back_to.text)
    if group is not None and group.deployment(name) is not None:
        raise GroupDeploymentExists(command.group, name)
    if update_deployment in status.deployments:
        raise GroupDeploymentForbidden(name, f"{update_deployment!r} is there already; choose another id")
    if group is not None and len(group.deployments) >= DEPLOYMENTS_MAX:
        raise GroupInvalid(command.group, "deployments", f"are at most {DEPLOYMENTS_MAX}; delete some that are over")
    policy = UNSET if command.policy is None else command.policy
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
    created = RolloutCreated(plan_of(command.policy, command.plan), by)
    yield rollout_subject(update_deployment), created
    if not command.start_at:
        yield rollout_subject(update_deployment), RolloutStarted()
    if group is not None and group.active is not None:
        superseded = update_deployment_of(command.group, group.active.id)
        yield from _close(superseded, status, command.keepers, f"superseded by {name}")


def plan_of(policy: RollbackPolicy | None, plan: RolloutPlan | None = None) -> RolloutPlan:
    """How an update reaches a group: all at once where no plan is given, and failing as the policy says.

    Without a policy nothing that fails stops it, and it is through when everyone was admitted; with one, when everyone has answered.
    No share of successes is asked for: what fails is for the thresholds alone to judge.
    """
    if plan is None:
        gate = Gate(success_percent=0.0, answered_min=0 if policy is None else EVERY_DEVICE)
        plan = RolloutPlan((Phase(percent=100.0, gate=gate),))
    if policy is None:
        return plan
    failure = Failure(policy.percent, policy.count, policy.answered_min, OnFailure.ROLL_BACK)
    back_to = "" if policy.update is None else policy.update.subject
    return msgspec.structs.replace(plan, failure=failure, rollback_to=back_to, restore=not back_to)


def _close(
    update_deployment: str, status: UpdateDocuments, keepers: Mapping[str, dict[str, str]], reason: str
) -> Events:
    """Nobody else gets what a deployment carries, nor what it went back to; who has it keeps it."""
    rollout = status.rollouts.get(update_deployment)
    if rollout is not None and (rollout.state in _GOING_ON or rollout.rollback_asked):
        yield rollout_subject(update_deployment), RolloutAborted(reason)
    if rollout is not None and rollout.state is RolloutState.CREATED:
        yield update_deployment, AdmissionChanged(Ended())
    for name in (update_deployment, "" if rollout is None else rollout.rollback):
        if name in status.deployments and is_open(name, status):
            if name not in keepers:
                raise GroupDeploymentForbidden(name, "say who keeps it: keepers has the devices of each deployment")
            yield name, AdmissionChanged(Kept(keepers[name]))


def is_open(name: str, status: UpdateDocuments) -> bool:
    """Whether whoever comes under a deployment's condition gets it by that alone."""
    rollout = status.rollouts.get(name)
    everyone = status.deployments[name].admission == Everyone()
    return everyone if rollout is None else rollout.state is RolloutState.COMPLETED


def _retry(update_deployment: str, name: str, status: UpdateDocuments, by: str) -> Events:
    try:
        event = rollout_decide.decide(
            RetryFailed(update_deployment),
            status.rollouts.get(update_deployment),
            status.deployments.get(update_deployment),
            by=by,
        )
    except RolloutError as error:
        raise GroupDeploymentForbidden(name, str(error)) from error
    yield rollout_subject(update_deployment), event


def _delete(update_deployment: str, status: UpdateDocuments) -> Events:
    rollout = status.rollouts.get(update_deployment)
    for name in (update_deployment, "" if rollout is None else rollout.rollback):
        if name in status.deployments:
            yield name, DeploymentDeleted()
    if rollout is not None:
        yield rollout_subject(update_deployment), RolloutDeleted()


class _Named(Mapping[str, Any]):
    """The documents that are there whose subjects begin with a prefix, by what follows that."""

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


def _status(documents: Documents) -> UpdateDocuments:
    return UpdateDocuments(*(_Named(documents, prefix) for prefix in (UPDATE, GROUP, "", ROLLOUT)))


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
    for name in needs(command, _status(documents)):
        yield name
        yield rollout_subject(name)


def _decide(command: UpdateCommand, documents: Documents, author: CommandAuthor) -> Iterator[SubjectChange]:
    for subject, event in decide(command, _status(documents), by=author.by):
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
    # Any group can have a deployment that uses the update.
    families=lambda command: (GROUP,) if isinstance(command, DeleteUpdate) else (),
)


def _refuse_deployment(command: DeploymentCommand, _: Documents) -> None:
    if is_update_deployment(command.deployment_id):
        raise GroupDeploymentForbidden(
            command.deployment_id, "deployments that begin with update+ carry updates; their groups change them"
        )


DEPLOYMENT_RULE = ForeignRule(refuse=_refuse_deployment)
"""What groups say of commands on deployments: those that carry an update are changed as deployments of their group."""


def _group_of(command: RolloutCommand | SchedulerCommand) -> tuple[str, ...]:
    names = deployed_update(command.deployment_id)
    return () if names is None else (group_subject(names[0]),)


def _refuse_rollout(command: RolloutCommand | SchedulerCommand, documents: Documents) -> None:
    names = deployed_update(command.deployment_id)
    if names is None or isinstance(command, SchedulerCommand):
        return
    group_name, deployment_name = names
    if isinstance(command, AbortRollout | RetryFailed):
        raise GroupDeploymentForbidden(command.deployment_id, f"cancel and retry it as one of the group {group_name!r}")
    group: GroupDocument | None = documents[group_subject(group_name)]
    deployment = None if group is None else group.deployment(deployment_name)
    if deployment is None or deployment.state is not UpdateState.ACTIVE:
        raise GroupDeploymentForbidden(command.deployment_id, "it is over, for good")


def _bring_back(command: RolloutCommand | SchedulerCommand, documents: Documents) -> Iterator[SubjectChange]:
    """The deployment of a rollback: the content to go back to, for the devices and in the place of the one that failed."""
    for rollback in rollbacks_of(command) if isinstance(command, AdvanceRollout) else ():
        name = command.deployment_id
        failed: DeploymentDocument | None = documents[name]
        rollback_to: UpdateDocument | DeploymentDocument | None = documents[
            documents[rollout_subject(name)].plan.rollback_to
        ]
        if failed is None or rollback_to is None or documents[rollback] is not None:
            raise RolloutForbidden(name, "what it goes back to went away, or its deployment is there already")
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
"""What groups say of commands on the rollout of an update: its end and its retries are the group's.

And what a rollback brings, as that can be the content of an update.
"""
