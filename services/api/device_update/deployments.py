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
from services.api.context.groups import Groups, groups_of, state_of
from services.api.context.request import context_of, write
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
    read_filter,
    read_order,
    read_update_id,
    update_info,
)
from services.api.http.errors import BodyInvalid

router = device_update_router("/management/groups/{group}")

_DEPLOYMENT = "/deployments/{deployment}"
_SUBGROUP = "/deviceClassSubgroups/{device_class}"
_OF_CLASS = f"{_SUBGROUP}{_DEPLOYMENT}"
_ORDERS = {"startDate": "start", "startDateTime": "start"}


def deployment_named(request: Request, groups: Groups, group: str, deployment: str) -> DeployedUpdate:
    """The deployment that a path names.

    Raises:
        GroupDeploymentNotFound: the group has no such deployment, or the path names another class than the deployment's.
    """
    deployed = groups.deployment(group, deployment)
    device_class = class_of_update(deployed, groups)
    if request.path_params.get("device_class", device_class) != device_class:
        raise GroupDeploymentNotFound(group, deployment)
    return deployed


Named = Annotated[DeployedUpdate, Depends(deployment_named)]


@router.get("/deployments")
@router.get(f"{_SUBGROUP}/deployments")
def list_deployments(request: Request, groups: Groups, group: str, orderby: OrderBy = None) -> JsonObject:
    """The deployments of a group, or of a class within it, in the order in which they were made, or by start time."""
    device_class = request.path_params.get("device_class")
    if device_class is not None:
        condition_of(groups, device_class)
    groups.members(group)
    listed = [each for each in groups.deployed_updates(group) if device_class in {None, class_of_update(each, groups)}]
    if (order := read_order(orderby, _ORDERS)) is not None:
        listed.sort(key=lambda each: each.deployment.start_at or each.deployment.created_at, reverse=order[1])
    return list_page(request, listed, lambda deployed: _answer(deployed, groups))


@router.get(_DEPLOYMENT)
@router.get(_OF_CLASS)
def get_deployment(groups: Groups, deployed: Named) -> JsonObject:
    """One deployment."""
    return _answer(deployed, groups)


@router.put(_DEPLOYMENT)
def put_deployment(
    request: Request, groups: Groups, group: str, deployment: str, body: Annotated[Any, Body()]
) -> JsonObject:
    """Deploy an update to a group; a repeat of the request changes nothing."""
    if group not in groups.names:
        raise GroupNotFound(group)
    command = _command(group, deployment, body, now=context_of(request).clock())
    deployments = (deployed.deployment for deployed in groups.deployed_updates(group))
    existing = next((document for document in deployments if document.id == deployment), None)
    # The event names the devices that keep the deployment before: a replay must not depend on how the fleet's stream and those
    # of the partitions interleave (docs/decisions/0024).
    if existing is None or (existing.update, existing.policy or None) != (command.update, command.policy):
        write(request, msgspec.structs.replace(command, keepers=groups.keepers(group)))
    return _current(request, group, deployment)


@router.delete(_DEPLOYMENT, status_code=204)
@router.delete(_OF_CLASS, status_code=204)
def delete_deployment(request: Request, deployed: Named) -> None:
    """Delete a deployment that has ended; its devices get what else targets them."""
    write(request, DeleteUpdateDeployment(deployed.group, deployed.commanded))


@router.get(f"{_DEPLOYMENT}/status")
def get_status(groups: Groups, deployed: Named) -> JsonObject:
    """The status of a deployment and of its subgroup."""
    return {
        "groupId": deployed.group,
        "deploymentState": deployed.state,
        "subgroupStatus": [_subgroup_status(deployed, groups)],
        **_error(deployed),
    }


@router.get(f"{_OF_CLASS}/status")
def get_status_of_class(groups: Groups, deployed: Named) -> JsonObject:
    """The status of a deployment within its subgroup."""
    return _subgroup_status(deployed, groups)


@router.post(f"{_OF_CLASS}:cancel")
def cancel(request: Request, groups: Groups, deployed: Named) -> JsonObject:
    """Stop a deployment, for good."""
    keepers = groups.keepers(deployed.group)
    write(request, CancelUpdateDeployment(deployed.group, deployed.commanded, keepers=keepers))
    return _current(request, deployed.group, deployed.deployment.id)


@router.post(f"{_OF_CLASS}:retry")
def retry(request: Request, deployed: Named) -> JsonObject:
    """Retry a deployment on the devices on which it failed."""
    write(request, RetryUpdateDeployment(deployed.group, deployed.commanded))
    return _current(request, deployed.group, deployed.deployment.id)


@router.get(f"{_OF_CLASS}/devicestates")
def list_device_states(request: Request, groups: Groups, deployed: Named, filter_: Filter = None) -> JsonObject:
    """The devices of a deployment, each with its state."""
    selection = read_filter(filter_, ("deviceId", "deviceState"))
    states = groups.states(deployed)
    members = FleetSet.union(states.values())
    if "deviceState" in selection:
        members = states[state_of(selection["deviceState"])]
    if "deviceId" in selection:
        location = device_location(request, str(selection["deviceId"]))
        members = NO_DEVICES if location is None else members & FleetSet.one(*location)

    def shown(device_id: str, location: tuple[int, int]) -> JsonObject:
        return {
            "deviceId": device_id,
            "deviceState": next(state.value for state, in_state in states.items() if is_among(location, in_state)),
            "retryCount": deployed.deployment.retries,
            "movedOnToNewDeployment": False,
        }

    return device_page(request, groups, members, shown)


def _current(request: Request, group: str, deployment: str) -> JsonObject:
    # Read again: the projection of the request is from before the command.
    groups = groups_of(request)
    return _answer(groups.deployment(group, deployment), groups)


def _answer(deployed: DeployedUpdate, groups: GroupProjection) -> JsonObject:
    deployment, policy, policy_answer = deployed.deployment, deployed.deployment.policy, None
    if isinstance(policy, RollbackPolicy):
        failure = present(
            devicesFailedPercentage=policy.percent,
            devicesFailedCount=policy.count,
            devicesAnsweredMinimum=policy.answered_min or None,
        )
        back_to = None if policy.update is None else update_info(policy.update, groups)
        policy_answer = present(update=back_to, failure=failure)
    return present(
        groupId=deployed.group,
        deploymentId=deployment.id,
        startDateTime=time_text(deployment.start_at or deployment.created_at),
        update=update_info(deployment.update, groups),
        deviceClassSubgroups=[class_of_update(deployed, groups)],
        isCanceled=deployed.state == "Canceled",
        isRetried=deployment.retries > 0,
        # A rollback is listed as a deployment of its own: both say so (docs/guides/updates.md).
        isCloudInitiatedRollback=deployed.has_gone_back or bool(deployed.back_from),
        rollbackPolicy=policy_answer,
    )


def _subgroup_status(deployed: DeployedUpdate, groups: GroupProjection) -> JsonObject:
    """The numbers of a deployment's devices by state; the total includes those that wait for their turn in a rollout."""
    states = groups.states(deployed)
    return {
        "groupId": deployed.group,
        "deviceClassId": class_of_update(deployed, groups),
        "deploymentState": deployed.state,
        "totalDevices": sum(map(len, states.values())),
        "devicesInProgressCount": len(states[DeviceState.IN_PROGRESS]),
        "devicesCompletedFailedCount": len(states[DeviceState.FAILED]),
        "devicesCompletedSucceededCount": len(states[DeviceState.SUCCEEDED]),
        "devicesCanceledCount": len(states[DeviceState.CANCELED]),
        **_error(deployed),
    }


def _error(deployed: DeployedUpdate) -> JsonObject:
    rollout = deployed.rollout
    if rollout is None or not deployed.has_gone_back:
        return {}
    message = f"rolled back to {deployed.back_to}: {rollout.rollback_reason}"
    return {"error": {"code": "RolledBack", "message": message, "occurredDateTime": time_text(rollout.rollback_at)}}


def _command(group: str, deployment: str, body: Json, *, now: int) -> DeployUpdate:
    """The command of a body. A start time in the past starts the deployment at once."""
    match body:
        case {"groupId": str(group_id), "deploymentId": str(name), "startDateTime": str(start), "update": update}:
            if (group_id, name) != (group, deployment):
                raise BodyInvalid("groupId and deploymentId must be those of the path")
        case _:
            raise BodyInvalid("a deployment requires deploymentId, groupId, startDateTime and update")
    try:
        time = dt.datetime.fromisoformat(start)
    except ValueError:
        raise BodyInvalid(f"startDateTime is a time as in 2030-01-31T12:00:00Z, not {start[:80]!r}") from None
    start_at = round((time if time.tzinfo else time.replace(tzinfo=dt.UTC)).timestamp() * 1000)
    update_id = read_update_id(update, "update.updateId")
    policy = None if body.get("rollbackPolicy") is None else _policy(body["rollbackPolicy"])
    return DeployUpdate(group, deployment, update_id, start_at if start_at > now else 0, policy)


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
            back_to = read_update_id(update, "rollbackPolicy.update.updateId")
            return RollbackPolicy(back_to, float(percent), count, answered)
        case _:
            raise BodyInvalid(
                "rollbackPolicy requires update, and failure with devicesFailedPercentage and devicesFailedCount"
            )
