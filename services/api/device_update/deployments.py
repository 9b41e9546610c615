"""The update service's paths of deployments to groups; a deployment is for one class, that of its update."""

import datetime as dt
from typing import Annotated, Any

import msgspec
from fastapi import Body, Depends, Request

from events.canonical import Json, JsonObject
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
from events.view_store.groups import Carried, GroupView, is_among
from services.api.context.groups import View, state_of, view_of
from services.api.context.request import author_of, room_of
from services.api.device_update import shapes
from services.api.device_update.filters import read_filter, read_order
from services.api.device_update.lists import Filter, OrderBy, condition_of, devices_listed, listed, place_of
from services.api.device_update.router import device_update_router
from services.api.http.errors import BodyInvalid

router = device_update_router("/management/groups/{group}")

_DEPLOYMENT = "/deployments/{deployment}"
_SUBGROUP = "/deviceClassSubgroups/{device_class}"
_OF_CLASS = f"{_SUBGROUP}{_DEPLOYMENT}"
_ORDERS = {"startDate": "start", "startDateTime": "start"}


def of_class(view: View, group: str, device_class: str, deployment: str) -> Carried:
    """The deployment that a path names, if it is for the class that the path names.

    Raises:
        GroupDeploymentNotFound: it is not, or there is none.
    """
    found = view.deployment(group, deployment)
    if shapes.class_of_update(found, view) != device_class:
        raise GroupDeploymentNotFound(group, deployment)
    return found


OfClass = Annotated[Carried, Depends(of_class)]


@router.get("/deployments")
def list_deployments(request: Request, view: View, group: str, orderby: OrderBy = None) -> JsonObject:
    """What was deployed to a group, in the order of that, or by when it starts."""
    view.members(group)
    return _listed(request, view, view.carried(group), orderby)


@router.get(f"{_SUBGROUP}/deployments")
def list_of_class(request: Request, view: View, group: str, device_class: str, orderby: OrderBy = None) -> JsonObject:
    """What was deployed to a class within a group."""
    condition_of(view, device_class)
    view.members(group)
    found = [one for one in view.carried(group) if shapes.class_of_update(one, view) == device_class]
    return _listed(request, view, found, orderby)


@router.get(_DEPLOYMENT)
def get_deployment(view: View, group: str, deployment: str) -> JsonObject:
    """One deployment."""
    return shapes.deployment(view.deployment(group, deployment), view)


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
    return get_deployment(view_of(request), group, deployment)


@router.delete(_DEPLOYMENT, status_code=204)
def delete_deployment(request: Request, view: View, group: str, deployment: str) -> None:
    """Forget a deployment that is over; its devices fall back to what else targets them."""
    commanded = view.deployment(group, deployment).commanded
    room_of(request).do(DeleteUpdateDeployment(group, commanded), author_of(request))


@router.get(f"{_DEPLOYMENT}/status")
def get_status(view: View, group: str, deployment: str) -> JsonObject:
    """How a deployment fares."""
    return shapes.status(view.deployment(group, deployment), view)


@router.get(_OF_CLASS)
def get_of_class(view: View, carried: OfClass) -> JsonObject:
    """One deployment."""
    return shapes.deployment(carried, view)


@router.delete(_OF_CLASS, status_code=204)
def delete_of_class(request: Request, carried: OfClass) -> None:
    """Forget a deployment that is over."""
    room_of(request).do(DeleteUpdateDeployment(carried.group, carried.commanded), author_of(request))


@router.get(f"{_OF_CLASS}/status")
def get_status_of_class(view: View, carried: OfClass) -> JsonObject:
    """How a deployment fares."""
    return shapes.subgroup_status(carried, view)


@router.post(f"{_OF_CLASS}:cancel")
def cancel(request: Request, view: View, carried: OfClass) -> JsonObject:
    """Stop a deployment, for good."""
    group, name = carried.group, carried.deployment.id
    command = CancelUpdateDeployment(group, carried.commanded, keepers=view.keepers(group))
    room_of(request).do(command, author_of(request))
    return get_deployment(view_of(request), group, name)


@router.post(f"{_OF_CLASS}:retry")
def retry(request: Request, carried: OfClass) -> JsonObject:
    """Let those who failed try again."""
    group, name = carried.group, carried.deployment.id
    room_of(request).do(RetryUpdateDeployment(group, carried.commanded), author_of(request))
    return get_deployment(view_of(request), group, name)


@router.get(f"{_OF_CLASS}/devicestates")
def list_device_states(request: Request, view: View, carried: OfClass, filter_: Filter = None) -> JsonObject:
    """The devices of a deployment, with how far each is."""
    wanted = read_filter(filter_, ("deviceId", "deviceState"))
    states = view.states(carried)
    members = FleetSet.union(states.values())
    if "deviceState" in wanted:
        members = states[state_of(wanted["deviceState"])]
    if "deviceId" in wanted:
        place = place_of(request, str(wanted["deviceId"]))
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


def _listed(request: Request, view: GroupView, found: list[Carried], orderby: str | None) -> JsonObject:
    order = read_order(orderby, _ORDERS)
    if order is not None:
        found = sorted(found, key=lambda one: one.deployment.start_at or one.deployment.created_at, reverse=order[1])
    return listed(request, found, lambda one: shapes.deployment(one, view))


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
