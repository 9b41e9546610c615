"""`/v1/updates` and `/v1/groups`: updates, groups of devices, and deployments of updates to them (seed 004)."""

from typing import Annotated, Any, Self

from fastapi import Path, Query, Request

from events.projection_store.groups import DeployedUpdate, DeviceState, GroupProjection, is_among
from events.rollout.plan_text import PlanText, plan_text
from events.rollout.rollout_counts import as_sets
from events.rollout.sets import FleetSet
from events.rollout.state import RolloutState
from events.update import commands
from events.update.events import RollbackPolicy
from events.update.names import UpdateId, read_update
from events.update.state import GroupDocument, UpdateDocument, condition_of_group
from services.api.context.groups import Groups, UpdateInPath, first_with, groups_of, state_of
from services.api.context.pages import PageInQuery, continuation_at
from services.api.context.request import context_of, write
from services.api.http.access import REGISTRY_READ, REGISTRY_WRITE, Access
from services.api.http.errors import BodyInvalid
from services.api.http.json_answer import AnswerBody, one_of
from services.api.http.request_costs import CONTENT
from services.api.v1.bodies import CancelBody, DeployBody, GroupBody, UpdateImportBody
from services.api.v1.rollouts import failure_of, sizes_of
from services.api.v1.router import v1_router

router = v1_router(read=Access(REGISTRY_READ, at=True), write=Access(REGISTRY_WRITE, cost=CONTENT))
_UPDATE = "/updates/{provider}/{name}/{version}"


class UpdateAnswer(AnswerBody):
    """An update. `condition` is the condition on the devices that it is compatible with."""

    update: str
    provider: str
    name: str
    version: str
    description: str
    friendly_name: str
    compatibility: tuple[dict[str, str], ...]
    condition: str
    imported_at: int

    @classmethod
    def of(cls, document: UpdateDocument) -> Self:
        """An imported update."""
        update = document.update
        return cls.filled(
            document, update=update.text, provider=update.provider, name=update.name, version=update.version
        )


class UpdateWithContent(UpdateAnswer):
    """An update with its content. Secrets appear as references."""

    content: dict[str, Any]


@router.get("/updates")
def list_updates(groups: Groups) -> list[UpdateAnswer]:
    """All updates, the highest version first."""
    return list(map(UpdateAnswer.of, groups.updates.values()))


@router.get(_UPDATE)
def show_update(groups: Groups, update: UpdateInPath) -> UpdateWithContent:
    """An update with its content."""
    return UpdateWithContent.of(groups.update(update))


@router.put(_UPDATE)
def import_update(request: Request, update: UpdateInPath, body: UpdateImportBody) -> UpdateAnswer:
    """Import an update: a manifest or a layer. An update never changes."""
    compatibility = tuple(body.compatibility)
    write(request, commands.ImportUpdate(update, body.content, compatibility, body.description, body.friendly_name))
    return UpdateAnswer.of(groups_of(request).update(update))


@router.delete(_UPDATE, status_code=204)
def delete_update(request: Request, update: UpdateInPath) -> None:
    """Delete an update that no active deployment uses."""
    write(request, commands.DeleteUpdate(update))


# -- groups


_GROUP = "/groups/{group}"
_DEPLOYMENT = f"{_GROUP}/deployments/{{deployment}}"

GroupId = Annotated[str, Path(description="The value of the tag ADUGroup, or any other name.", examples=["north"])]
State = Annotated[str | None, Query(json_schema_extra={"enum": [state.value for state in DeviceState]})]
Deployment = Annotated[str, Path(description="An id of your choice, unique in its group.", examples=["1"])]


class GroupAnswer(AnswerBody):
    """A group. Its devices are those of `condition`; `devices` is their number."""

    group: str
    condition: str
    priority: int
    devices: int
    active: str | None
    deployments: list[str]


class RollbackPolicyAnswer(AnswerBody):
    """When the group is rolled back, and to which update; `null` means to what each device had."""

    update: str | None
    percent: float
    count: int
    answered_min: int


class GroupRollback(AnswerBody):
    """What a deployment was rolled back to (an update, or what each device had), why, and how many devices have it.

    `deployment` is the deployment of the group that deploys it, if there is one. `notBack` has the number of devices that
    do not have it, by reason.
    """

    to: str
    deployment: str | None
    reason: str
    at: int
    devices: int
    not_back: dict[str, int]


class GroupDeploymentAnswer(AnswerBody):
    """A deployment to a group. `updateDeployment` is the ordinary deployment behind it, `rollback` the one that replaces it.

    A deployment that a rollback created has in `rollbackOf` the deployment that was rolled back.
    """

    group: str
    deployment: str
    update: str
    state: Annotated[
        str, one_of("Active", "Inactive", "RollingBack", "RolledBack", "RollbackFailed", "Superseded", "Canceled")
    ]
    reason: str
    start_at: int
    created_at: int
    changed_at: int
    retries: int
    policy: RollbackPolicyAnswer | None
    update_deployment: str
    rollout: RolloutState | None
    rollback: str | None
    rolled_back: GroupRollback | None
    rollback_of: str | None
    plan_text: PlanText | None
    counts: dict[DeviceState, int]


class UpdatedDevice(AnswerBody):
    """A device of a deployment, its state, and the reason."""

    device_id: str
    state: DeviceState
    reason: str


class UpdatedDevices(AnswerBody):
    """Devices of a deployment, and the continuation of the next page; `null` on the last page."""

    devices: list[UpdatedDevice]
    continuation: str | None


@router.get("/groups")
def list_groups(groups: Groups) -> list[GroupAnswer]:
    """All groups, of the tag and defined ones, with the number of edge-capable devices of each."""
    return [show_group(groups, name) for name in groups.names]


@router.get(_GROUP)
def show_group(groups: Groups, group: GroupId) -> GroupAnswer:
    """A group."""
    document, deployed_updates = groups.groups.get(group), groups.deployed_updates(group)
    return GroupAnswer(
        group,
        condition_of_group(group, document),
        (document or GroupDocument(0, 0)).priority,
        len(groups.members(group)),
        next((deployed.deployment.id for deployed in deployed_updates if deployed.is_active), None),
        [deployed.deployment.id for deployed in deployed_updates],
    )


@router.put(_GROUP)
def define_group(request: Request, group: GroupId, body: GroupBody) -> GroupAnswer:
    """Define the devices of a group by a target condition, or by the tag `ADUGroup` if there is none."""
    write(request, commands.DefineGroup(group, body.condition, body.priority))
    return show_group(groups_of(request), group)


@router.delete(_GROUP, status_code=204)
def remove_group(request: Request, group: GroupId) -> None:
    """Delete a group and its deployments. Its devices get what the remaining deployments give them."""
    write(request, commands.RemoveGroup(group))


# -- deployments


@router.get(f"{_GROUP}/deployments")
def list_deployments(groups: Groups, group: GroupId) -> list[GroupDeploymentAnswer]:
    """The deployments to a group, oldest first."""
    groups.members(group)  # An unknown group is a 404, and not an empty list.
    return [_deployment(deployed, groups) for deployed in groups.deployed_updates(group)]


@router.get(_DEPLOYMENT)
def show_deployment(groups: Groups, group: GroupId, deployment: Deployment) -> GroupDeploymentAnswer:
    """A deployment, with the number of its devices in each state."""
    return _deployment(groups.deployment(group, deployment), groups)


@router.put(_DEPLOYMENT)
def deploy(
    request: Request, groups: Groups, group: GroupId, deployment: Deployment, body: DeployBody
) -> GroupDeploymentAnswer:
    """Deploy an update to a group: now or later, to all devices or in phases. It supersedes the active deployment."""
    update, policy = _update_id(body.update), None
    if body.policy is not None:
        back_to = None if body.policy.update is None else _update_id(body.policy.update)
        policy = RollbackPolicy(back_to, body.policy.percent, body.policy.count, body.policy.answered_min)
    start_at = body.start_at if body.start_at > context_of(request).clock() else 0
    keepers = groups.keepers(group)
    write(request, commands.DeployUpdate(group, deployment, update, start_at, policy, body.plan, keepers, body.end_at))
    return show_deployment(groups_of(request), group, deployment)


@router.post(f"{_DEPLOYMENT}/retry")
def retry(request: Request, groups: Groups, group: GroupId, deployment: Deployment) -> GroupDeploymentAnswer:
    """Let the failed devices retry."""
    write(request, commands.RetryUpdateDeployment(group, _commanded(groups, group, deployment)))
    return show_deployment(groups_of(request), group, deployment)


@router.post(f"{_DEPLOYMENT}/cancel")
def cancel(
    request: Request, groups: Groups, group: GroupId, deployment: Deployment, body: CancelBody
) -> GroupDeploymentAnswer:
    """Cancel a deployment for good. Devices that have the update keep it, and no other device gets it."""
    commanded = _commanded(groups, group, deployment)
    write(request, commands.CancelUpdateDeployment(group, commanded, body.reason, groups.keepers(group)))
    return show_deployment(groups_of(request), group, deployment)


@router.delete(_DEPLOYMENT, status_code=204)
def delete_deployment(request: Request, groups: Groups, group: GroupId, deployment: Deployment) -> None:
    """Delete a deployment that is over. Its devices get what the remaining deployments give them."""
    write(request, commands.DeleteUpdateDeployment(group, _commanded(groups, group, deployment)))


@router.get(f"{_DEPLOYMENT}/devices")
def list_devices(
    request: Request, groups: Groups, group: GroupId, deployment: Deployment, *, query: PageInQuery, state: State = None
) -> UpdatedDevices:
    """The devices of a deployment with the state of each and the reason, page by page."""
    context, deployed = context_of(request), groups.deployment(group, deployment)
    states, failures = groups.states(deployed), groups.failures(deployed)
    members = FleetSet.union(states.values()) if state is None else states[state_of(state)]
    devices, last_position = groups.page(members, after=query.after(context), limit=query.limit)
    state_text = "has not started" if deployed.is_active else f"is {deployed.state.lower()}"
    rolled_back, lines = f"the deployment was rolled back to {deployed.back_to}", []
    for device_id, location in devices:
        state_now = next(each for each, members in states.items() if is_among(location, members))
        if deployed.has_gone_back:
            # No device has the deployment, so that only the record of the rollback knows the reasons.
            reason = first_with(location, failures) or rolled_back
        elif state_now is DeviceState.FAILED:
            reason = failure_of(context, device_id)
        elif state_now in _REASONS:
            reason = _REASONS[state_now]
        else:
            not_applied = context.fleet_projection.not_applied(device_id)
            reasons = (line.text for line in not_applied if line.deployment_id == deployed.update_deployment)
            reason = next(reasons, f"the deployment {state_text}")
        lines.append(UpdatedDevice(device_id, state_now, reason))
    return UpdatedDevices(lines, continuation_at(context, last_position))


_REASONS = {DeviceState.SUCCEEDED: "it answered that all is well", DeviceState.IN_PROGRESS: "it has not answered yet"}


def _commanded(groups: GroupProjection, group: str, deployment: str) -> str:
    """The deployment that a command is for."""
    # A deployment that a rollback created has no record of its own: commands go to the one that was rolled back
    # (decision 0034).
    deployed = groups.deployed_updates(group)
    return next((update.commanded for update in deployed if update.deployment.id == deployment), deployment)


def _update_id(text: str) -> UpdateId:
    update = read_update(text)
    if update is None:
        raise BodyInvalid(f"update must be provider/name/version, not {text[:200]!r}")
    return update


def _deployment(deployed: DeployedUpdate, groups: GroupProjection) -> GroupDeploymentAnswer:
    deployment, rollout, policy = deployed.deployment, deployed.rollout, deployed.deployment.policy
    policy_answer, rolled_back = None, None
    if isinstance(policy, RollbackPolicy):
        back_to = None if policy.update is None else policy.update.text
        policy_answer = RollbackPolicyAnswer.filled(policy, update=back_to)
    if rollout is not None and deployed.has_gone_back:
        back = deployed.back
        rolled_back = GroupRollback(
            deployed.back_to,
            None if back is None else back.deployment.id,
            rollout.rollback_reason,
            rollout.rollback_at,
            len(groups.back(deployed)),
            sizes_of(as_sets(rollout.not_back)),
        )
    return GroupDeploymentAnswer.filled(
        deployment,
        group=deployed.group,
        deployment=deployment.id,
        update=deployment.update.text,
        state=deployed.state,
        reason=deployment.reason or ("" if rollout is None else rollout.why),
        policy=policy_answer,
        update_deployment=deployed.update_deployment,
        rollout=None if rollout is None else rollout.state,
        rollback=None if rollout is None else rollout.rollback or None,
        rolled_back=rolled_back,
        rollback_of=deployed.back_from or None,
        plan_text=None if rollout is None else plan_text(rollout.plan),
        counts={state: len(devices) for state, devices in groups.states(deployed).items()},
    )
