"""The update service's paths of deployments to groups; a deployment is for one device class, that of its update."""

import datetime as dt
from typing import Annotated, Any

import msgspec
from fastapi import Body, Depends, Request

from events.canonical import Json, JsonObject
from events.device.times import time_text
from events.projection_store.groups import DeployedUpdate, DeviceState, GroupProjection, is_among
from events.rollout.sets import NO_DEVICES, FleetSet
from events.update.commands import CancelUpdateDeployment, DeleteUpdateDeployment, DeployUpdate, RetryUpdateDeployment
from events.update.errors import GroupDeploymentNotFound, GroupNotFound
from events.update.events import RollbackPolicy
from events.update.names import UpdateId
from services.api.context.groups import Groups, groups_of, state_of
from services.api.context.request import context_of, write
from services.api.device_update.filters import read_filter, read_order
from services.api.device_update.lists import (
    Filter,
    OrderBy,
    class_of_update,
    condition_of,
    device_location,
    device_page,
    device_update_router,
    list_page,
    present,
    update_info,
)
from services.api.http.errors import BodyInvalid

router = device_update_router("/management/groups/{group}")

_DEPLOYMENT = "/deployments/{deployment}"
_SUBGROUP = "/deviceClassSubgroups/{device_class}"
_OF_CLASS = f"{_SUBGROUP}{_DEPLOYMENT}"
_ORDERS = {"startDate": "start", "startDateTime": "start"}


def deployment_named(request: Request, group_projection: Groups, group: str, deployment: str) -> DeployedUpdate:
    """The deployment that a path names.

    Raises:
        GroupDeploymentNotFound: the group has no such deployment, or the path names another class than the deployment's.
    """
    deployed_update = group_projection.deployment(group, deployment)
    device_class = class_of_update(deployed_update, group_projection)
    if request.path_params.get("device_class", device_class) != device_class:
        raise GroupDeploymentNotFound(group, deployment)
    return deployed_update


Named = Annotated[DeployedUpdate, Depends(deployment_named)]


@router.get("/deployments")
@router.get(f"{_SUBGROUP}/deployments")
def list_deployments(request: Request, group_projection: Groups, group: str, orderby: OrderBy = None) -> JsonObject:
    """The deployments of a group, or of a class within it, in the order in which they were made, or by start time."""
    device_class = request.path_params.get("device_class")
    if device_class is not None:
        condition_of(group_projection, device_class)
    group_projection.members(group)
    deployed_updates = [
        deployed
        for deployed in group_projection.deployed_updates(group)
        if device_class in {None, class_of_update(deployed, group_projection)}
    ]
    order = read_order(orderby, _ORDERS)
    if order is not None:
        deployed_updates.sort(
            key=lambda deployed: deployed.deployment.start_at or deployed.deployment.created_at, reverse=order[1]
        )
    return list_page(request, deployed_updates, lambda deployed: _answer(deployed, group_projection))


@router.get(_DEPLOYMENT)
@router.get(_OF_CLASS)
def get_deployment(group_projection: Groups, deployed_update: Named) -> JsonObject:
    """One deployment."""
    return _answer(deployed_update, group_projection)


@router.put(_DEPLOYMENT)
def put_deployment(
    request: Request, group_projection: Groups, group: str, deployment: str, body: Annotated[Any, Body()]
) -> JsonObject:
    """Deploy an update to a group; a repeat of the request changes nothing."""
    if group not in group_projection.names:
        raise GroupNotFound(group)
    command = _command(group, deployment, body, now=context_of(request).clock())
    deployments = (deployed.deployment for deployed in group_projection.deployed_updates(group))
    existing = next((document for document in deployments if document.id == deployment), None)
    # The event names the devices that keep the deployment before: a replay must not depend on how the fleet's stream and those
    # of the partitions interleave (docs/decisions/0024).
    if existing is None or (existing.update, existing.policy or None) != (command.update, command.policy):
        keeping = msgspec.structs.replace(command, keepers=group_projection.keepers(group))
        write(request, keeping)
    return _current(request, group, deployment)


@router.delete(_DEPLOYMENT, status_code=204)
@router.delete(_OF_CLASS, status_code=204)
def delete_deployment(request: Request, deployed_update: Named) -> None:
    """Delete a deployment that has ended; its devices get what else targets them."""
    write(request, DeleteUpdateDeployment(deployed_update.group, deployed_update.commanded))


@router.get(f"{_DEPLOYMENT}/status")
def get_status(group_projection: Groups, deployed_update: Named) -> JsonObject:
    """The status of a deployment and of its subgroup."""
    return {
        "groupId": deployed_update.group,
        "deploymentState": deployed_update.state,
        "subgroupStatus": [_subgroup_status(deployed_update, group_projection)],
        **_error(deployed_update),
    }


@router.get(f"{_OF_CLASS}/status")
def get_status_of_class(group_projection: Groups, deployed_update: Named) -> JsonObject:
    """The status of a deployment within its subgroup."""
    return _subgroup_status(deployed_update, group_projection)


@router.post(f"{_OF_CLASS}:cancel")
def cancel(request: Request, group_projection: Groups, deployed_update: Named) -> JsonObject:
    """Stop a deployment, for good."""
    command = CancelUpdateDeployment(
        deployed_update.group, deployed_update.commanded, keepers=group_projection.keepers(deployed_update.group)
    )
    write(request, command)
    return _current(request, deployed_update.group, deployed_update.deployment.id)


@router.post(f"{_OF_CLASS}:retry")
def retry(request: Request, deployed_update: Named) -> JsonObject:
    """Retry a deployment on the devices on which it failed."""
    write(request, RetryUpdateDeployment(deployed_update.group, deployed_update.commanded))
    return _current(request, deployed_update.group, deployed_update.deployment.id)


@router.get(f"{_OF_CLASS}/devicestates")
def list_device_states(
    request: Request, group_projection: Groups, deployed_update: Named, filter_: Filter = None
) -> JsonObject:
    """The devices of a deployment, each with its state."""
    selection = read_filter(filter_, ("deviceId", "deviceState"))
    states = group_projection.states(deployed_update)
    members = FleetSet.union(states.values())
    if "deviceState" in selection:
        members = states[state_of(selection["deviceState"])]
    if "deviceId" in selection:
        location = device_location(request, str(selection["deviceId"]))
        members = NO_DEVICES if location is None else members & FleetSet.one(*location)

    def shown(device_id: str, location: tuple[int, int]) -> JsonObject:
        state = next(state for state, in_state in states.items() if is_among(location, in_state))
        retries = deployed_update.deployment.retries
        return {
            "deviceId": device_id,
            "deviceState": state.value,
            "retryCount": retries,
            "movedOnToNewDeployment": False,
        }

    return device_page(request, group_projection, members, shown)


def _current(request: Request, group: str, deployment: str) -> JsonObject:
    # Read again: the projection of the request is from before the command.
    group_projection = groups_of(request)
    return _answer(group_projection.deployment(group, deployment), group_projection)


def _answer(deployed_update: DeployedUpdate, group_projection: GroupProjection) -> JsonObject:
    deployment, policy = deployed_update.deployment, deployed_update.deployment.policy
    return present(
        groupId=deployed_update.group,
        deploymentId=deployment.id,
        startDateTime=time_text(deployment.start_at or deployment.created_at),
        update=update_info(deployment.update, group_projection),
        deviceClassSubgroups=[class_of_update(deployed_update, group_projection)],
        isCanceled=deployed_update.state == "Canceled",
        isRetried=deployment.retries > 0,
        # A rollback is listed as a deployment of its own: both say so (docs/guides/updates.md).
        isCloudInitiatedRollback=deployed_update.has_gone_back or bool(deployed_update.back_from),
        rollbackPolicy=_policy_answer(policy, group_projection) if isinstance(policy, RollbackPolicy) else None,
    )


def _policy_answer(policy: RollbackPolicy, group_projection: GroupProjection) -> JsonObject:
    return present(
        update=None if policy.update is None else update_info(policy.update, group_projection),
        failure=present(
            devicesFailedPercentage=policy.percent,
            devicesFailedCount=policy.count,
            devicesAnsweredMinimum=policy.answered_min or None,
        ),
    )


def _subgroup_status(deployed_update: DeployedUpdate, group_projection: GroupProjection) -> JsonObject:
    """The numbers of a deployment's devices by state; the total includes those that wait for their turn in a rollout."""
    states = group_projection.states(deployed_update)
    return {
        "groupId": deployed_update.group,
        "deviceClassId": class_of_update(deployed_update, group_projection),
        "deploymentState": deployed_update.state,
        "totalDevices": sum(map(len, states.values())),
        "devicesInProgressCount": len(states[DeviceState.IN_PROGRESS]),
        "devicesCompletedFailedCount": len(states[DeviceState.FAILED]),
        "devicesCompletedSucceededCount": len(states[DeviceState.SUCCEEDED]),
        "devicesCanceledCount": len(states[DeviceState.CANCELED]),
        **_error(deployed_update),
    }


def _error(deployed_update: DeployedUpdate) -> JsonObject:
    rollout = deployed_update.rollout
    if rollout is None or not deployed_update.has_gone_back:
        return {}
    message = f"rolled back to {deployed_update.back_to}: {rollout.rollback_reason}"
    return {"error": {"code": "RolledBack", "message": message, "occurredDateTime": time_text(rollout.rollback_at)}}


def _command(group: str, deployment: str, body: Json, *, now: int) -> DeployUpdate:
    """The command of a body. A start time in the past starts the deployment at once."""
    match body:
        case {"groupId": str(group_id), "deploymentId": str(name), "startDateTime": str(start), "update": update}:
            if (group_id, name) != (group, deployment):
                raise BodyInvalid("groupId and deploymentId must be those of the path")
        case _:
            raise BodyInvalid("a deployment requires deploymentId, groupId, startDateTime and update")
    start_at, policy = _time(start), body.get("rollbackPolicy")
    return DeployUpdate(
        group,
        deployment,
        _update_id(update, "update"),
        start_at if start_at > now else 0,
        None if policy is None else _policy(policy),
    )


def _time(text: str) -> int:
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        raise BodyInvalid(f"startDateTime is a time as in 2030-01-31T12:00:00Z, not {text[:80]!r}") from None
    return round((time if time.tzinfo else time.replace(tzinfo=dt.UTC)).timestamp() * 1000)


def _update_id(body: Json, location: str) -> UpdateId:
    match body:
        case {"updateId": {"provider": str(provider), "name": str(name), "version": str(version)}}:
            return UpdateId(provider, name, version)
        case _:
            raise BodyInvalid(f"{location}.updateId requires provider, name and version")


def _policy(body: Json) -> RollbackPolicy:
    match body:
        case {
            "update": update,
            "failure": {
                "devicesFailedPercentage": int() | float() as percent,
                "devicesFailedCount": int(count),
                **optional,
            },
        } if isinstance(answered := optional.get("devicesAnsweredMinimum", 0), int):
            return RollbackPolicy(_update_id(update, "rollbackPolicy.update"), float(percent), count, answered)
        case _:
            raise BodyInvalid(
                "rollbackPolicy requires update, and failure with devicesFailedPercentage and devicesFailedCount"
            )
