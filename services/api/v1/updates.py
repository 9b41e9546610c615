"""Our own paths of updates and groups (seed 004)."""

from typing import Annotated

import msgspec
from fastapi import Path, Query, Request

from events.canonical import JsonObject
from events.rollout.plan_text import plan_text
from events.rollout.sets import FleetSet
from events.rollout.tally import as_sets
from events.update.commands import (
    CancelUpdateDeployment,
    DefineGroup,
    DeleteUpdate,
    DeleteUpdateDeployment,
    DeployUpdate,
    ImportUpdate,
    RemoveGroup,
    RetryUpdateDeployment,
)
from events.update.facts import RollbackPolicy
from events.update.names import UpdateId, read_update
from events.update.state import GroupDocument, UpdateDocument, condition_of_group
from events.view_store.groups import Carried, DeviceState, GroupView, is_among, sizes
from services.api.context.api_context import Room
from services.api.context.groups import View, state_of, view_of
from services.api.context.pages import place_of
from services.api.context.request import author_of, room_of
from services.api.http.access import REGISTRY_READ, REGISTRY_WRITE, Access
from services.api.http.errors import BodyInvalid
from services.api.http.openapi import answers
from services.api.http.request_costs import CONTENT
from services.api.v1 import described_updates
from services.api.v1.bodies import CancelBody, DeployBody, GroupBody, UpdateImportBody
from services.api.v1.rollout_devices import failure_of
from services.api.v1.router import v1_router

router = v1_router(read=Access(REGISTRY_READ, at=True), write=Access(REGISTRY_WRITE, cost=CONTENT))

PAGE_MAX = 1000
_UPDATE = "/updates/{provider}/{name}/{version}"
_GROUP = "/groups/{group}"
_DEPLOYMENT = f"{_GROUP}/deployments/{{deployment}}"

Provider = Annotated[str, Path(description="Who made it.", examples=["contoso"])]
UpdateName = Annotated[str, Path(description="What it is.", examples=["camera"])]
Version = Annotated[str, Path(description="Two to four numbers.", examples=["1.0"])]
GroupId = Annotated[str, Path(description="The value of the tag ADUGroup, or any name.", examples=["north"])]
Deployment = Annotated[str, Path(description="Of your choice, once for each group.", examples=["1"])]


# -- updates


@router.get("/updates", response_model=None, responses=answers(list[described_updates.Update]))
def list_updates(view: View) -> list[JsonObject]:
    """All updates, the newest version first."""
    return [_update(one) for one in view.updates.values()]


@router.get(_UPDATE, response_model=None, responses=answers(described_updates.UpdateWithContent))
def show_update(view: View, provider: Provider, name: UpdateName, version: Version) -> JsonObject:
    """An update with its content."""
    found = view.update(UpdateId(provider, name, version))
    return {**_update(found), "content": found.content}


@router.put(_UPDATE, response_model=None, responses=answers(described_updates.Update))
def import_update(
    request: Request, provider: Provider, name: UpdateName, version: Version, body: UpdateImportBody
) -> JsonObject:
    """Import an update: a manifest or a layer, which never changes."""
    update = UpdateId(provider, name, version)
    compatibility = tuple(body.compatibility)
    room_of(request).do(
        ImportUpdate(update, body.content, compatibility, body.description, body.friendly_name), author_of(request)
    )
    return _update(view_of(request).update(update))


@router.delete(_UPDATE, status_code=204)
def delete_update(request: Request, provider: Provider, name: UpdateName, version: Version) -> None:
    """Delete an update that no active deployment uses."""
    room_of(request).do(DeleteUpdate(UpdateId(provider, name, version)), author_of(request))


# -- groups


@router.get("/groups", response_model=None, responses=answers(list[described_updates.Group]))
def list_groups(view: View) -> list[JsonObject]:
    """All groups with how many edge-capable devices they have: those of the tag, and those that were defined."""
    return [_group(name, view) for name in view.names]


@router.get(_GROUP, response_model=None, responses=answers(described_updates.Group))
def show_group(view: View, group: GroupId) -> JsonObject:
    """A group."""
    return _group(group, view)


@router.put(_GROUP, response_model=None, responses=answers(described_updates.Group))
def define_group(request: Request, group: GroupId, body: GroupBody) -> JsonObject:
    """Say who is in a group by a target condition; without one, by the tag."""
    room_of(request).do(DefineGroup(group, body.condition, body.priority), author_of(request))
    return _group(group, view_of(request))


@router.delete(_GROUP, status_code=204)
def remove_group(request: Request, group: GroupId) -> None:
    """Forget a group and what was deployed to it; the devices of its deployments fall back to what else targets them."""
    room_of(request).do(RemoveGroup(group), author_of(request))


# -- deployments


@router.get(f"{_GROUP}/deployments", response_model=None, responses=answers(list[described_updates.GroupDeployment]))
def list_deployments(view: View, group: GroupId) -> list[JsonObject]:
    """What was deployed to a group, in the order of that."""
    view.members(group)
    return [_deployment(one, view) for one in view.carried(group)]


@router.get(_DEPLOYMENT, response_model=None, responses=answers(described_updates.GroupDeployment))
def show_deployment(view: View, group: GroupId, deployment: Deployment) -> JsonObject:
    """A deployment, with how many of its devices are how far."""
    return _deployment(view.deployment(group, deployment), view)


@router.put(_DEPLOYMENT, response_model=None, responses=answers(described_updates.GroupDeployment))
def deploy(request: Request, view: View, group: GroupId, deployment: Deployment, body: DeployBody) -> JsonObject:
    """Bring an update to a group, at once or later, all at once or in phases; what the group got until now is superseded."""
    policy = body.policy
    plan = None if body.plan is None else body.plan.plan
    command = DeployUpdate(
        group,
        deployment,
        _asked(body.update),
        body.start_at if body.start_at > room_of(request).clock() else 0,
        None
        if policy is None
        else RollbackPolicy(
            None if policy.update is None else _asked(policy.update), policy.percent, policy.count, policy.answered_min
        ),
        plan,
        view.keepers(group),
        body.end_at,
    )
    room_of(request).do(command, author_of(request))
    return show_deployment(view_of(request), group, deployment)


@router.post(f"{_DEPLOYMENT}/retry", response_model=None, responses=answers(described_updates.GroupDeployment))
def retry(request: Request, view: View, group: GroupId, deployment: Deployment) -> JsonObject:
    """Let the devices that failed try again."""
    room_of(request).do(RetryUpdateDeployment(group, _commanded(view, group, deployment)), author_of(request))
    return show_deployment(view_of(request), group, deployment)


@router.post(f"{_DEPLOYMENT}/cancel", response_model=None, responses=answers(described_updates.GroupDeployment))
def cancel(request: Request, view: View, group: GroupId, deployment: Deployment, body: CancelBody) -> JsonObject:
    """Stop a deployment for good: who has it keeps it, and nobody else gets it."""
    command = CancelUpdateDeployment(group, _commanded(view, group, deployment), body.reason, view.keepers(group))
    room_of(request).do(command, author_of(request))
    return show_deployment(view_of(request), group, deployment)


@router.delete(_DEPLOYMENT, status_code=204)
def delete_deployment(request: Request, view: View, group: GroupId, deployment: Deployment) -> None:
    """Forget a deployment that is over; its devices fall back to what else targets them."""
    room_of(request).do(DeleteUpdateDeployment(group, _commanded(view, group, deployment)), author_of(request))


@router.get(f"{_DEPLOYMENT}/devices", response_model=None, responses=answers(described_updates.DevicesInStates))
def list_devices(
    request: Request,
    view: View,
    group: GroupId,
    deployment: Deployment,
    *,
    state: Annotated[str | None, Query(json_schema_extra={"enum": [one.value for one in DeviceState]})] = None,
    top: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
    continuation: Annotated[str | None, Query()] = None,
) -> JsonObject:
    """The devices of a deployment by how they stand to it, and why, page by page."""
    room, carried = room_of(request), view.deployment(group, deployment)
    states = view.states(carried)
    members = FleetSet.union(states.values()) if state is None else states[state_of(state)]
    found, place = view.page(members, after=place_of(room.continuations.open(continuation)), limit=top)
    failures, back_to = view.failures(carried), carried.back_to

    def recorded(where: tuple[int, int]) -> str:
        if not carried.has_gone_back:
            return ""
        gone = f"the deployment was rolled back to {back_to}"
        return next((why for why, devices in failures.items() if is_among(where, devices)), gone)

    return {
        "devices": [
            {"deviceId": name, "state": one.value, "reason": recorded(where) or _reason(room, carried, name, one)}
            for name, where in found
            for one in [next(one for one, some in states.items() if is_among(where, some))]
        ],
        "continuation": None if place is None else room.continuations.seal(f"{place[0]}:{place[1]}"),
    }


def _commanded(view: GroupView, group: str, deployment: str) -> str:
    """The deployment that a command on one of these is about: what a rollback brought goes with what was rolled back."""
    return next((one.commanded for one in view.carried(group) if one.deployment.id == deployment), deployment)


def _asked(text: str) -> UpdateId:
    found = read_update(text)
    if found is None:
        raise BodyInvalid(f"an update is named as provider/name/version, not {text[:200]!r}")
    return found


def _update(document: UpdateDocument) -> JsonObject:
    update = document.update
    return {
        "update": update.text,
        "provider": update.provider,
        "name": update.name,
        "version": update.version,
        "description": document.description,
        "friendlyName": document.friendly_name,
        "compatibility": list(document.compatibility),
        "condition": document.condition,
        "importedAt": document.imported_at,
    }


def _group(name: str, view: GroupView) -> JsonObject:
    document = view.groups.get(name)
    active = next((one for one in view.carried(name) if one.is_active), None)
    return {
        "group": name,
        "condition": condition_of_group(name, document),
        "priority": (document or GroupDocument(0, 0)).priority,
        "devices": len(view.members(name)),
        "active": None if active is None else active.deployment.id,
        "deployments": [one.deployment.id for one in view.carried(name)],
    }


def _deployment(carried: Carried, view: GroupView) -> JsonObject:
    one, rollout = carried.deployment, carried.rollout
    policy = one.policy if isinstance(one.policy, RollbackPolicy) else None
    return {
        "group": carried.group,
        "deployment": one.id,
        "update": one.update.text,
        "state": carried.state,
        "reason": one.reason or ("" if rollout is None else rollout.why),
        "startAt": one.start_at,
        "createdAt": one.created_at,
        "changedAt": one.changed_at,
        "retries": one.retries,
        "policy": None
        if policy is None
        else {
            "update": None if policy.update is None else policy.update.text,
            "percent": policy.percent,
            "count": policy.count,
            "answeredMin": policy.answered_min,
        },
        "carrier": carried.carrier,
        "rollout": None if rollout is None else rollout.state.value,
        "rollback": (rollout.rollback or None) if rollout is not None else None,
        "rolledBack": _rolled_back(carried, view),
        "rollbackOf": carried.back_from or None,
        "planText": None if rollout is None else msgspec.to_builtins(plan_text(rollout.plan)),
        "counts": sizes(view.states(carried)),
    }


def _rolled_back(carried: Carried, view: GroupView) -> JsonObject | None:
    """What a deployment was rolled back to, why, and how many devices run that."""
    if carried.rollout is None or not carried.has_gone_back:
        return None
    back = carried.back
    return {
        "to": carried.back_to,
        "deployment": None if back is None else back.deployment.id,
        "reason": carried.rollout.rollback_reason,
        "at": carried.rollout.rollback_at,
        "devices": len(view.back(carried)),
        "notBack": {why: len(devices) for why, devices in as_sets(carried.rollout.not_back).items()},
    }


def _reason(room: Room, carried: Carried, device_id: str, state: DeviceState) -> str:
    match state:
        case DeviceState.SUCCEEDED:
            return "it answered that all is well"
        case DeviceState.IN_PROGRESS:
            return "it has not answered yet"
        case DeviceState.FAILED:
            return failure_of(room, device_id)
        case DeviceState.NOT_STARTED | DeviceState.CANCELED:
            why = (one for one in room.view.passed_over(device_id) if one.deployment_id == carried.carrier)
            waits = (
                "the deployment has not started" if carried.is_active else f"the deployment is {carried.state.lower()}"
            )
            found = next(why, None)
            return waits if found is None else f"{found.why.value}{f': {found.by}' if found.by else ''}"
