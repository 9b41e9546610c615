"""Our own paths of updates and groups (seed 004)."""

from typing import Annotated, Any, Self

from fastapi import Depends, Path, Query, Request

from events.rollout.plan_text import PlanText, plan_text
from events.rollout.sets import FleetSet
from events.rollout.state import State
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
from events.view_store.groups import Carried, DeviceState, GroupView, is_among
from services.api.context.api_context import Room
from services.api.context.groups import UpdateInPath, View, state_of, view_of
from services.api.context.pages import PageQuery, continuation_at
from services.api.context.request import author_of, room_of
from services.api.http.access import REGISTRY_READ, REGISTRY_WRITE, Access
from services.api.http.errors import BodyInvalid
from services.api.http.json_answer import AnswerBody, one_of
from services.api.http.request_costs import CONTENT
from services.api.v1.bodies import CancelBody, DeployBody, GroupBody, PolicyBody, UpdateImportBody
from services.api.v1.rollout_devices import failure_of
from services.api.v1.router import v1_router

router = v1_router(read=Access(REGISTRY_READ, at=True), write=Access(REGISTRY_WRITE, cost=CONTENT))

_UPDATE = "/updates/{provider}/{name}/{version}"
_GROUP = "/groups/{group}"
_DEPLOYMENT = f"{_GROUP}/deployments/{{deployment}}"

GroupId = Annotated[str, Path(description="The value of the tag ADUGroup, or any name.", examples=["north"])]
Deployment = Annotated[str, Path(description="Of your choice, once for each group.", examples=["1"])]


class UpdateAnswer(AnswerBody):
    """An update; `condition` says whom it is for."""

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
    def of(cls, document: UpdateDocument, **members: Any) -> Self:
        """As it was imported; `members` are those that a subclass adds."""
        update = document.update
        return cls(
            update=update.text,
            provider=update.provider,
            name=update.name,
            version=update.version,
            description=document.description,
            friendly_name=document.friendly_name,
            compatibility=document.compatibility,
            condition=document.condition,
            imported_at=document.imported_at,
            **members,
        )


class UpdateWithContent(UpdateAnswer):
    """An update with its content; references stand where secrets were."""

    content: dict[str, Any]


class GroupAnswer(AnswerBody):
    """A group; `condition` says who is in it."""

    group: str
    condition: str
    priority: int
    devices: int
    active: str | None
    deployments: list[str]

    @classmethod
    def of(cls, name: str, view: GroupView) -> Self:
        """A group by its name.

        Raises:
            GroupNotFound: there is no such group.
        """
        document = view.groups.get(name)
        active = next((carried for carried in view.carried(name) if carried.is_active), None)
        return cls(
            name,
            condition_of_group(name, document),
            (document or GroupDocument(0, 0)).priority,
            len(view.members(name)),
            None if active is None else active.deployment.id,
            [carried.deployment.id for carried in view.carried(name)],
        )


class RollbackPolicyAnswer(AnswerBody):
    """When the group goes back, and to which update; `null` to what each device had."""

    update: str | None
    percent: float
    count: int
    answered_min: int

    @classmethod
    def of(cls, policy: RollbackPolicy) -> Self:
        """As the deployment has it."""
        update = None if policy.update is None else policy.update.text
        return cls(update, policy.percent, policy.count, policy.answered_min)


class GroupRollback(AnswerBody):
    """What a deployment was rolled back to (an update, or what each device had), why, and how many devices run that.

    `deployment` is the deployment of the group that brings it, if there is one; `notBack` are devices that are not back, by reason.
    """

    to: str
    deployment: str | None
    reason: str
    at: int
    devices: int
    not_back: dict[str, int]


class GroupDeploymentAnswer(AnswerBody):
    """A deployment to a group; `carrier` is the ordinary deployment that it is made of, and `rollback` the one that takes it back.

    One that a rollback brought says in `rollbackOf` which one was rolled back.
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
    carrier: str
    rollout: State | None
    rollback: str | None
    rolled_back: GroupRollback | None
    rollback_of: str | None
    plan_text: PlanText | None
    counts: dict[DeviceState, int]


class UpdatedDevice(AnswerBody):
    """A device of a deployment, and why it stands so."""

    device_id: str
    state: DeviceState
    reason: str


class UpdatedDevices(AnswerBody):
    """Some devices of a deployment, and where to go on."""

    devices: list[UpdatedDevice]
    continuation: str | None


# -- updates


@router.get("/updates")
def list_updates(view: View) -> list[UpdateAnswer]:
    """All updates, the newest version first."""
    return list(map(UpdateAnswer.of, view.updates.values()))


@router.get(_UPDATE)
def show_update(view: View, update: UpdateInPath) -> UpdateWithContent:
    """An update with its content."""
    document = view.update(update)
    return UpdateWithContent.of(document, content=document.content)


@router.put(_UPDATE)
def import_update(request: Request, update: UpdateInPath, body: UpdateImportBody) -> UpdateAnswer:
    """Import an update: a manifest or a layer, which never changes."""
    compatibility = tuple(body.compatibility)
    command = ImportUpdate(update, body.content, compatibility, body.description, body.friendly_name)
    room_of(request).do(command, author_of(request))
    return UpdateAnswer.of(view_of(request).update(update))


@router.delete(_UPDATE, status_code=204)
def delete_update(request: Request, update: UpdateInPath) -> None:
    """Delete an update that no active deployment uses."""
    room_of(request).do(DeleteUpdate(update), author_of(request))


# -- groups


@router.get("/groups")
def list_groups(view: View) -> list[GroupAnswer]:
    """All groups with how many edge-capable devices they have: those of the tag, and those that were defined."""
    return [GroupAnswer.of(name, view) for name in view.names]


@router.get(_GROUP)
def show_group(view: View, group: GroupId) -> GroupAnswer:
    """A group."""
    return GroupAnswer.of(group, view)


@router.put(_GROUP)
def define_group(request: Request, group: GroupId, body: GroupBody) -> GroupAnswer:
    """Say who is in a group by a target condition; without one, by the tag."""
    room_of(request).do(DefineGroup(group, body.condition, body.priority), author_of(request))
    return GroupAnswer.of(group, view_of(request))


@router.delete(_GROUP, status_code=204)
def remove_group(request: Request, group: GroupId) -> None:
    """Forget a group and what was deployed to it; the devices of its deployments fall back to what else targets them."""
    room_of(request).do(RemoveGroup(group), author_of(request))


# -- deployments


@router.get(f"{_GROUP}/deployments")
def list_deployments(view: View, group: GroupId) -> list[GroupDeploymentAnswer]:
    """What was deployed to a group, in the order of that."""
    view.members(group)
    return [_deployment(one, view) for one in view.carried(group)]


@router.get(_DEPLOYMENT)
def show_deployment(view: View, group: GroupId, deployment: Deployment) -> GroupDeploymentAnswer:
    """A deployment, with how many of its devices are how far."""
    return _deployment(view.deployment(group, deployment), view)


@router.put(_DEPLOYMENT)
def deploy(
    request: Request, view: View, group: GroupId, deployment: Deployment, body: DeployBody
) -> GroupDeploymentAnswer:
    """Bring an update to a group, at once or later, all at once or in phases; what the group got until now is superseded."""
    command = DeployUpdate(
        group,
        deployment,
        _update_id(body.update),
        body.start_at if body.start_at > room_of(request).clock() else 0,
        None if body.policy is None else _policy(body.policy),
        body.plan,
        view.keepers(group),
        body.end_at,
    )
    room_of(request).do(command, author_of(request))
    return show_deployment(view_of(request), group, deployment)


@router.post(f"{_DEPLOYMENT}/retry")
def retry(request: Request, view: View, group: GroupId, deployment: Deployment) -> GroupDeploymentAnswer:
    """Let the devices that failed try again."""
    room_of(request).do(RetryUpdateDeployment(group, _commanded(view, group, deployment)), author_of(request))
    return show_deployment(view_of(request), group, deployment)


@router.post(f"{_DEPLOYMENT}/cancel")
def cancel(
    request: Request, view: View, group: GroupId, deployment: Deployment, body: CancelBody
) -> GroupDeploymentAnswer:
    """Stop a deployment for good: who has it keeps it, and nobody else gets it."""
    command = CancelUpdateDeployment(group, _commanded(view, group, deployment), body.reason, view.keepers(group))
    room_of(request).do(command, author_of(request))
    return show_deployment(view_of(request), group, deployment)


@router.delete(_DEPLOYMENT, status_code=204)
def delete_deployment(request: Request, view: View, group: GroupId, deployment: Deployment) -> None:
    """Forget a deployment that is over; its devices fall back to what else targets them."""
    room_of(request).do(DeleteUpdateDeployment(group, _commanded(view, group, deployment)), author_of(request))


@router.get(f"{_DEPLOYMENT}/devices")
def list_devices(
    request: Request,
    view: View,
    group: GroupId,
    deployment: Deployment,
    *,
    query: Annotated[PageQuery, Depends()],
    state: Annotated[str | None, Query(json_schema_extra={"enum": [state.value for state in DeviceState]})] = None,
) -> UpdatedDevices:
    """The devices of a deployment by how they stand to it, and why, page by page."""
    room, carried = room_of(request), view.deployment(group, deployment)
    states = view.states(carried)
    members = FleetSet.union(states.values()) if state is None else states[state_of(state)]
    devices, place = view.page(members, after=query.after(room), limit=query.limit)
    failures, back_to = view.failures(carried), carried.back_to

    def recorded(where: tuple[int, int]) -> str:
        if not carried.has_gone_back:
            return ""
        gone = f"the deployment was rolled back to {back_to}"
        return next((why for why, failed in failures.items() if is_among(where, failed)), gone)

    def line(device_id: str, where: tuple[int, int]) -> UpdatedDevice:
        state = next(state for state, members in states.items() if is_among(where, members))
        return UpdatedDevice(device_id, state, recorded(where) or _reason(room, carried, device_id, state))

    return UpdatedDevices([line(*device) for device in devices], continuation_at(room, place))


def _commanded(view: GroupView, group: str, deployment: str) -> str:
    """The deployment that a command on one of these is about: what a rollback brought goes with what was rolled back."""
    return next((one.commanded for one in view.carried(group) if one.deployment.id == deployment), deployment)


def _update_id(text: str) -> UpdateId:
    update = read_update(text)
    if update is None:
        raise BodyInvalid(f"an update is named as provider/name/version, not {text[:200]!r}")
    return update


def _policy(body: PolicyBody) -> RollbackPolicy:
    update = None if body.update is None else _update_id(body.update)
    return RollbackPolicy(update, body.percent, body.count, body.answered_min)


def _deployment(carried: Carried, view: GroupView) -> GroupDeploymentAnswer:
    deployment, rollout = carried.deployment, carried.rollout
    return GroupDeploymentAnswer(
        group=carried.group,
        deployment=deployment.id,
        update=deployment.update.text,
        state=carried.state,
        reason=deployment.reason or ("" if rollout is None else rollout.why),
        start_at=deployment.start_at,
        created_at=deployment.created_at,
        changed_at=deployment.changed_at,
        retries=deployment.retries,
        policy=RollbackPolicyAnswer.of(deployment.policy) if isinstance(deployment.policy, RollbackPolicy) else None,
        carrier=carried.carrier,
        rollout=None if rollout is None else rollout.state,
        rollback=None if rollout is None else rollout.rollback or None,
        rolled_back=_rollback(carried, view),
        rollback_of=carried.back_from or None,
        plan_text=None if rollout is None else plan_text(rollout.plan),
        counts={state: len(devices) for state, devices in view.states(carried).items()},
    )


def _rollback(carried: Carried, view: GroupView) -> GroupRollback | None:
    if carried.rollout is None or not carried.has_gone_back:
        return None
    back = carried.back
    return GroupRollback(
        carried.back_to,
        None if back is None else back.deployment.id,
        carried.rollout.rollback_reason,
        carried.rollout.rollback_at,
        len(view.back(carried)),
        {why: len(devices) for why, devices in as_sets(carried.rollout.not_back).items()},
    )


def _reason(room: Room, carried: Carried, device_id: str, state: DeviceState) -> str:
    match state:
        case DeviceState.SUCCEEDED:
            return "it answered that all is well"
        case DeviceState.IN_PROGRESS:
            return "it has not answered yet"
        case DeviceState.FAILED:
            return failure_of(room, device_id)
        case DeviceState.NOT_STARTED | DeviceState.CANCELED:
            state_text = "has not started" if carried.is_active else f"is {carried.state.lower()}"
            reasons = (line.text for line in room.view.passed_over(device_id) if line.deployment_id == carried.carrier)
            return next(reasons, f"the deployment {state_text}")
