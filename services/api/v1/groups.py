"""`/v1/groups`: groups of devices, and deployments of updates to them (seed 004)."""

from typing import Annotated, Self

from fastapi import Path, Query, Request

from events.projection_store.groups import DeployedUpdate, DeviceState, GroupProjection, is_among
from events.rollout.plan_text import PlanText, plan_text
from events.rollout.rollout_counts import as_sets
from events.rollout.sets import FleetSet
from events.rollout.state import RolloutState
from events.update.commands import (
    CancelUpdateDeployment,
    DefineGroup,
    DeleteUpdateDeployment,
    DeployUpdate,
    RemoveGroup,
    RetryUpdateDeployment,
)
from events.update.events import RollbackPolicy
from events.update.names import UpdateId, read_update
from events.update.state import GroupDocument, condition_of_group
from services.api.context.api_context import ApiContext
from services.api.context.groups import Groups, groups_of, state_of
from services.api.context.pages import PageInQuery, continuation_at
from services.api.context.request import context_of, write
from services.api.http.access import REGISTRY_READ, REGISTRY_WRITE, Access
from services.api.http.errors import BodyInvalid
from services.api.http.json_answer import AnswerBody, one_of
from services.api.http.request_costs import CONTENT
from services.api.v1.bodies import CancelBody, DeployBody, GroupBody, PolicyBody
from services.api.v1.rollout_devices import failure_of
from services.api.v1.rollouts import sizes_of
from services.api.v1.router import v1_router

router = v1_router(read=Access(REGISTRY_READ, at=True), write=Access(REGISTRY_WRITE, cost=CONTENT))

_GROUP = "/groups/{group}"
_DEPLOYMENT = f"{_GROUP}/deployments/{{deployment}}"

GroupId = Annotated[str, Path(description="The value of the tag ADUGroup, or any other name.", examples=["north"])]
Deployment = Annotated[str, Path(description="An id of your choice, unique in its group.", examples=["1"])]


class GroupAnswer(AnswerBody):
    """A group. Its devices are those of `condition`; `devices` is their number."""

    group: str
    condition: str
    priority: int
    devices: int
    active: str | None
    deployments: list[str]

    @classmethod
    def of(cls, name: str, group_projection: GroupProjection) -> Self:
        """A group by its name.

        Raises:
            GroupNotFound: there is no such group.
        """
        document, deployed = group_projection.groups.get(name), group_projection.deployed_updates(name)
        return cls(
            name,
            condition_of_group(name, document),
            (document or GroupDocument(0, 0)).priority,
            len(group_projection.members(name)),
            next((deployed_update.deployment.id for deployed_update in deployed if deployed_update.is_active), None),
            [deployed_update.deployment.id for deployed_update in deployed],
        )


class RollbackPolicyAnswer(AnswerBody):
    """When the group is rolled back, and to which update; `null` means to what each device had."""

    update: str | None
    percent: float
    count: int
    answered_min: int

    @classmethod
    def of(cls, policy: RollbackPolicy) -> Self:
        """The policy of a deployment."""
        update = None if policy.update is None else policy.update.text
        return cls(update, policy.percent, policy.count, policy.answered_min)


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


# -- groups


@router.get("/groups")
def list_groups(group_projection: Groups) -> list[GroupAnswer]:
    """All groups, of the tag and defined ones, with the number of edge-capable devices of each."""
    return [GroupAnswer.of(name, group_projection) for name in group_projection.names]


@router.get(_GROUP)
def show_group(group_projection: Groups, group: GroupId) -> GroupAnswer:
    """A group."""
    return GroupAnswer.of(group, group_projection)


@router.put(_GROUP)
def define_group(request: Request, group: GroupId, body: GroupBody) -> GroupAnswer:
    """Define the devices of a group by a target condition, or by the tag `ADUGroup` if there is none."""
    write(request, DefineGroup(group, body.condition, body.priority))
    return GroupAnswer.of(group, groups_of(request))


@router.delete(_GROUP, status_code=204)
def remove_group(request: Request, group: GroupId) -> None:
    """Delete a group and its deployments. Its devices get what the remaining deployments give them."""
    write(request, RemoveGroup(group))


# -- deployments


@router.get(f"{_GROUP}/deployments")
def list_deployments(group_projection: Groups, group: GroupId) -> list[GroupDeploymentAnswer]:
    """The deployments to a group, oldest first."""
    group_projection.members(group)  # An unknown group is a 404, and not an empty list.
    return [
        _deployment(deployed_update, group_projection) for deployed_update in group_projection.deployed_updates(group)
    ]


@router.get(_DEPLOYMENT)
def show_deployment(group_projection: Groups, group: GroupId, deployment: Deployment) -> GroupDeploymentAnswer:
    """A deployment, with the number of its devices in each state."""
    return _deployment(group_projection.deployment(group, deployment), group_projection)


@router.put(_DEPLOYMENT)
def deploy(
    request: Request, group_projection: Groups, group: GroupId, deployment: Deployment, body: DeployBody
) -> GroupDeploymentAnswer:
    """Deploy an update to a group: now or later, to all devices or in phases. It supersedes the active deployment."""
    command = DeployUpdate(
        group,
        deployment,
        _update_id(body.update),
        body.start_at if body.start_at > context_of(request).clock() else 0,
        None if body.policy is None else _policy(body.policy),
        body.plan,
        group_projection.keepers(group),
        body.end_at,
    )
    write(request, command)
    return show_deployment(groups_of(request), group, deployment)


@router.post(f"{_DEPLOYMENT}/retry")
def retry(request: Request, group_projection: Groups, group: GroupId, deployment: Deployment) -> GroupDeploymentAnswer:
    """Let the failed devices retry."""
    commanded = _commanded(group_projection, group, deployment)
    write(request, RetryUpdateDeployment(group, commanded))
    return show_deployment(groups_of(request), group, deployment)


@router.post(f"{_DEPLOYMENT}/cancel")
def cancel(
    request: Request, group_projection: Groups, group: GroupId, deployment: Deployment, body: CancelBody
) -> GroupDeploymentAnswer:
    """Cancel a deployment for good. Devices that have the update keep it, and no other device gets it."""
    commanded = _commanded(group_projection, group, deployment)
    command = CancelUpdateDeployment(group, commanded, body.reason, group_projection.keepers(group))
    write(request, command)
    return show_deployment(groups_of(request), group, deployment)


@router.delete(_DEPLOYMENT, status_code=204)
def delete_deployment(request: Request, group_projection: Groups, group: GroupId, deployment: Deployment) -> None:
    """Delete a deployment that is over. Its devices get what the remaining deployments give them."""
    commanded = _commanded(group_projection, group, deployment)
    write(request, DeleteUpdateDeployment(group, commanded))


@router.get(f"{_DEPLOYMENT}/devices")
def list_devices(
    request: Request,
    group_projection: Groups,
    group: GroupId,
    deployment: Deployment,
    *,
    query: PageInQuery,
    state: Annotated[str | None, Query(json_schema_extra={"enum": [state.value for state in DeviceState]})] = None,
) -> UpdatedDevices:
    """The devices of a deployment with the state of each and the reason, page by page."""
    context, deployed_update = context_of(request), group_projection.deployment(group, deployment)
    states = group_projection.states(deployed_update)
    members = FleetSet.union(states.values()) if state is None else states[state_of(state)]
    devices, last_position = group_projection.page(members, after=query.after(context), limit=query.limit)
    failures, back_to = group_projection.failures(deployed_update), deployed_update.back_to

    # After a rollback no device has the deployment, so that only the record of the rollback knows the reasons.
    def recorded(where: tuple[int, int]) -> str:
        if not deployed_update.has_gone_back:
            return ""
        gone = f"the deployment was rolled back to {back_to}"
        return next((why for why, failed in failures.items() if is_among(where, failed)), gone)

    def line(device_id: str, where: tuple[int, int]) -> UpdatedDevice:
        state = next(state for state, members in states.items() if is_among(where, members))
        return UpdatedDevice(device_id, state, recorded(where) or _reason(context, deployed_update, device_id, state))

    return UpdatedDevices([line(*device) for device in devices], continuation_at(context, last_position))


def _commanded(group_projection: GroupProjection, group: str, deployment: str) -> str:
    """The deployment that a command is for."""
    # A deployment that a rollback created has no record of its own: commands go to the one that was rolled back
    # (decision 0034).
    deployed = group_projection.deployed_updates(group)
    return next((update.commanded for update in deployed if update.deployment.id == deployment), deployment)


def _update_id(text: str) -> UpdateId:
    update = read_update(text)
    if update is None:
        raise BodyInvalid(f"update must be provider/name/version, not {text[:200]!r}")
    return update


def _policy(body: PolicyBody) -> RollbackPolicy:
    update = None if body.update is None else _update_id(body.update)
    return RollbackPolicy(update, body.percent, body.count, body.answered_min)


def _deployment(deployed_update: DeployedUpdate, group_projection: GroupProjection) -> GroupDeploymentAnswer:
    deployment, rollout = deployed_update.deployment, deployed_update.rollout
    return GroupDeploymentAnswer(
        group=deployed_update.group,
        deployment=deployment.id,
        update=deployment.update.text,
        state=deployed_update.state,
        reason=deployment.reason or ("" if rollout is None else rollout.why),
        start_at=deployment.start_at,
        created_at=deployment.created_at,
        changed_at=deployment.changed_at,
        retries=deployment.retries,
        policy=RollbackPolicyAnswer.of(deployment.policy) if isinstance(deployment.policy, RollbackPolicy) else None,
        update_deployment=deployed_update.update_deployment,
        rollout=None if rollout is None else rollout.state,
        rollback=None if rollout is None else rollout.rollback or None,
        rolled_back=_rollback(deployed_update, group_projection),
        rollback_of=deployed_update.back_from or None,
        plan_text=None if rollout is None else plan_text(rollout.plan),
        counts={state: len(devices) for state, devices in group_projection.states(deployed_update).items()},
    )


def _rollback(deployed_update: DeployedUpdate, group_projection: GroupProjection) -> GroupRollback | None:
    if deployed_update.rollout is None or not deployed_update.has_gone_back:
        return None
    back = deployed_update.back
    return GroupRollback(
        deployed_update.back_to,
        None if back is None else back.deployment.id,
        deployed_update.rollout.rollback_reason,
        deployed_update.rollout.rollback_at,
        len(group_projection.back(deployed_update)),
        sizes_of(as_sets(deployed_update.rollout.not_back)),
    )


def _reason(context: ApiContext, deployed_update: DeployedUpdate, device_id: str, state: DeviceState) -> str:
    match state:
        case DeviceState.SUCCEEDED:
            return "it answered that all is well"
        case DeviceState.IN_PROGRESS:
            return "it has not answered yet"
        case DeviceState.FAILED:
            return failure_of(context, device_id)
        case DeviceState.NOT_STARTED | DeviceState.CANCELED:
            state_text = "has not started" if deployed_update.is_active else f"is {deployed_update.state.lower()}"
            reasons = (
                line.text
                for line in context.fleet_projection.not_applied(device_id)
                if line.deployment_id == deployed_update.update_deployment
            )
            return next(reasons, f"the deployment {state_text}")
