"""The update service's paths of deployments to groups; a deployment is for one class, that of its update."""

import datetime as dt
from typing import Annotated, Any

import msgspec
from fastapi import Body, Depends, Request

from events.canonical import Json, JsonObject
from events.device.times import time_text
from events.rollout.sets import NOBODY, FleetSet
from events.update.commands import (
    CancelUpdateDeployment,
    DeleteUpdateDeployment,
    DeployUpdate,
    RetryUpdateDeployment,
)
from events.update.errors import GroupDeploymentNotFound, GroupNotFound
from events.update.facts import RollbackPolicy
from events.update.names import UpdateId
from events.view_store.groups import Carried, DeviceState, GroupView, is_among
from services.api.context.groups import View, state_of, view_of
from services.api.context.request import author_of, room_of
from services.api.device_update.filters import read_filter, read_order
from services.api.device_update.lists import (
    Filter,
    OrderBy,
    class_of_update,
    condition_of,
    device_place,
    device_update_router,
    devices_listed,
    listed,
    update_info,
)
from services.api.http.errors import BodyInvalid

router = device_update_router("/management/groups/{group}")

_DEPLOYMENT = "/deployments/{deployment}"
_SUBGROUP = "/deviceClassSubgroups/{device_class}"
_OF_CLASS = f"{_SUBGROUP}{_DEPLOYMENT}"
_ORDERS = {"startDate": "start", "startDateTime": "start"}


def deployment_named(request: Request, view: View, group: str, deployment: str) -> Carried:
    """The deployment that a path names, if it is for the class that the path names, where it does.

    Raises:
        GroupDeploymentNotFound: it is not, or there is none.
    """
    carried = view.deployment(group, deployment)
    device_class = class_of_update(carried, view)
    if request.path_params.get("device_class", device_class) != device_class:
        raise GroupDeploymentNotFound(group, deployment)
    return carried


Named = Annotated[Carried, Depends(deployment_named)]


@router.get("/deployments")
@router.get(f"{_SUBGROUP}/deployments")
def list_deployments(request: Request, view: View, group: str, orderby: OrderBy = None) -> JsonObject:
    """What was deployed to a group, or to a class within it, in the order of that, or by when it starts."""
    device_class = request.path_params.get("device_class")
    if device_class is not None:
        condition_of(view, device_class)
    view.members(group)
    found = [one for one in view.carried(group) if device_class in {None, class_of_update(one, view)}]
    order = read_order(orderby, _ORDERS)
    if order is not None:
        found = sorted(found, key=lambda one: one.deployment.start_at or one.deployment.created_at, reverse=order[1])
    return listed(request, found, lambda one: _answer(one, view))


@router.get(_DEPLOYMENT)
@router.get(_OF_CLASS)
def get_deployment(view: View, carried: Named) -> JsonObject:
    """One deployment."""
    return _answer(carried, view)


@router.put(_DEPLOYMENT)
def put_deployment(
    request: Request, view: View, group: str, deployment: str, body: Annotated[Any, Body()]
) -> JsonObject:
    """Deploy an update to a group; sending the same again changes nothing."""
    if group not in view.names:
        raise GroupNotFound(group)
    command = _command(group, deployment, body, now=room_of(request).clock())
    there = next((one.deployment for one in view.carried(group) if one.deployment.id == deployment), None)
    if there is None or (there.update, there.policy or None) != (command.update, command.policy):
        keeping = msgspec.structs.replace(command, keepers=view.keepers(group))
        room_of(request).do(keeping, author_of(request))
    return _as_it_is_now(request, group, deployment)


@router.delete(_DEPLOYMENT, status_code=204)
@router.delete(_OF_CLASS, status_code=204)
def delete_deployment(request: Request, carried: Named) -> None:
    """Forget a deployment that is over; its devices fall back to what else targets them."""
    room_of(request).do(DeleteUpdateDeployment(carried.group, carried.commanded), author_of(request))


@router.get(f"{_DEPLOYMENT}/status")
def get_status(view: View, carried: Named) -> JsonObject:
    """How a deployment fares, with its one subgroup."""
    return {
        "groupId": carried.group,
        "deploymentState": carried.state,
        "subgroupStatus": [_subgroup_status(carried, view)],
        **_error(carried),
    }


@router.get(f"{_OF_CLASS}/status")
def get_status_of_class(view: View, carried: Named) -> JsonObject:
    """How a deployment fares."""
    return _subgroup_status(carried, view)


@router.post(f"{_OF_CLASS}:cancel")
def cancel(request: Request, view: View, carried: Named) -> JsonObject:
    """Stop a deployment, for good."""
    command = CancelUpdateDeployment(carried.group, carried.commanded, keepers=view.keepers(carried.group))
    room_of(request).do(command, author_of(request))
    return _as_it_is_now(request, carried.group, carried.deployment.id)


@router.post(f"{_OF_CLASS}:retry")
def retry(request: Request, carried: Named) -> JsonObject:
    """Let those who failed try again."""
    room_of(request).do(RetryUpdateDeployment(carried.group, carried.commanded), author_of(request))
    return _as_it_is_now(request, carried.group, carried.deployment.id)


@router.get(f"{_OF_CLASS}/devicestates")
def list_device_states(request: Request, view: View, carried: Named, filter_: Filter = None) -> JsonObject:
    """The devices of a deployment, with how far each is."""
    wanted = read_filter(filter_, ("deviceId", "deviceState"))
    states = view.states(carried)
    members = FleetSet.union(states.values())
    if "deviceState" in wanted:
        members = states[state_of(wanted["deviceState"])]
    if "deviceId" in wanted:
        place = device_place(request, str(wanted["deviceId"]))
        members = NOBODY if place is None else members & FleetSet.one(*place)

    def shown(device_id: str, place: tuple[int, int]) -> JsonObject:
        state = next(state for state, some in states.items() if is_among(place, some))
        retries = carried.deployment.retries
        return {
            "deviceId": device_id,
            "deviceState": state.value,
            "retryCount": retries,
            "movedOnToNewDeployment": False,
        }

    return devices_listed(request, view, members, shown)


def _as_it_is_now(request: Request, group: str, deployment: str) -> JsonObject:
    view = view_of(request)
    return _answer(view.deployment(group, deployment), view)


def _answer(carried: Carried, view: GroupView) -> JsonObject:
    """A deployment of a group."""
    one = carried.deployment
    return {
        "groupId": carried.group,
        "deploymentId": one.id,
        "startDateTime": time_text(one.start_at or one.created_at),
        "update": update_info(one.update, view),
        "deviceClassSubgroups": [class_of_update(carried, view)],
        "isCanceled": carried.state == "Canceled",
        "isRetried": one.retries > 0,
        "isCloudInitiatedRollback": carried.has_gone_back or bool(carried.back_from),
        **({"rollbackPolicy": _policy_answer(one.policy, view)} if isinstance(one.policy, RollbackPolicy) else {}),
    }


def _policy_answer(policy: RollbackPolicy, view: GroupView) -> JsonObject:
    failure: JsonObject = {"devicesFailedPercentage": policy.percent, "devicesFailedCount": policy.count}
    if policy.answered_min:
        failure["devicesAnsweredMinimum"] = policy.answered_min
    back_to = {} if policy.update is None else {"update": update_info(policy.update, view)}
    return {**back_to, "failure": failure}


def _subgroup_status(carried: Carried, view: GroupView) -> JsonObject:
    """How many devices of a deployment are how far; the total has those as well who wait for their turn."""
    states = view.states(carried)
    return {
        "groupId": carried.group,
        "deviceClassId": class_of_update(carried, view),
        "deploymentState": carried.state,
        "totalDevices": sum(map(len, states.values())),
        "devicesInProgressCount": len(states[DeviceState.IN_PROGRESS]),
        "devicesCompletedFailedCount": len(states[DeviceState.FAILED]),
        "devicesCompletedSucceededCount": len(states[DeviceState.SUCCEEDED]),
        "devicesCanceledCount": len(states[DeviceState.CANCELED]),
        **_error(carried),
    }


def _error(carried: Carried) -> JsonObject:
    rollout = carried.rollout
    if rollout is None or not carried.has_gone_back:
        return {}
    message = f"rolled back to {carried.back_to}: {rollout.rollback_reason}"
    return {"error": {"code": "RolledBack", "message": message, "occurredDateTime": time_text(rollout.rollback_at)}}


def _command(group: str, deployment: str, body: Json, *, now: int) -> DeployUpdate:
    """The command that a body becomes; what is to begin by now begins at once."""
    match body:
        case {"groupId": str(group_id), "deploymentId": str(name), "startDateTime": str(start), "update": said}:
            if (group_id, name) != (group, deployment):
                raise BodyInvalid("groupId and deploymentId are those of the path")
        case _:
            raise BodyInvalid("a deployment has deploymentId, groupId, startDateTime and update")
    start_at, policy = _time(start), body.get("rollbackPolicy")
    return DeployUpdate(
        group,
        deployment,
        _update_id(said, "update"),
        start_at if start_at > now else 0,
        None if policy is None else _policy(policy),
    )


def _time(text: str) -> int:
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise BodyInvalid(f"startDateTime is a time as 2030-01-31T12:00:00Z, not {text[:80]!r}") from None
    return round((found if found.tzinfo else found.replace(tzinfo=dt.UTC)).timestamp() * 1000)


def _update_id(said: Json, place: str) -> UpdateId:
    match said:
        case {"updateId": {"provider": str(provider), "name": str(name), "version": str(version)}}:
            return UpdateId(provider, name, version)
        case _:
            raise BodyInvalid(f"{place}.updateId has provider, name and version")


def _policy(said: Json) -> RollbackPolicy:
    match said:
        case {
            "update": update,
            "failure": {
                "devicesFailedPercentage": int() | float() as percent,
                "devicesFailedCount": int(count),
                **others,
            },
        } if isinstance(answered := others.get("devicesAnsweredMinimum", 0), int):
            return RollbackPolicy(_update_id(update, "rollbackPolicy.update"), float(percent), count, answered)
        case _:
            raise BodyInvalid(
                "rollbackPolicy has update, and failure with devicesFailedPercentage and devicesFailedCount"
            )
