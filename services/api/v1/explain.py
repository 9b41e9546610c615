"""Why a device has what it has, and does not get what it does not: one verdict for each deployment, with its reason."""

from typing import Annotated

from fastapi import Query, Request, Response

from events.deployment.errors import DeploymentNotFound
from events.deployment.facts import DeploymentDeleted
from events.device.errors import DeviceNotFound
from events.log.keys import FLEET
from events.rollout.turn import Turn, turn
from events.view_store.deployments import deployments
from events.view_store.explaining import ENTRIES_MAX, Explaining, Explanation
from events.view_store.leading import of_deployment
from events.views import telling
from events.views.explained import Led, Reason, Weighed
from services.api.context.deployments import deployments_seen
from services.api.context.request import caller_of, room_of
from services.api.http.access import TWIN_READ, Access
from services.api.http.json_answer import JsonAnswer
from services.api.http.openapi import answers
from services.api.http.path_names import DeviceId
from services.api.http.request_costs import LONG
from services.api.http.similar_names import near
from services.api.v1 import described_explain
from services.api.v1.explanation import OF_ROLLOUTS, device_shape, line_shape
from services.api.v1.router import v1_router

router = v1_router()

LOOK_BACK_MAX = 10_000_000
_NEAR_AMONG = 20_000


@router.get("/devices/{device_id}/explain", response_model=None, responses=answers(described_explain.Explanation))
@Access(TWIN_READ, scope="device", at=True, cost=LONG)
def explain(
    request: Request,
    device_id: DeviceId,
    deployment: Annotated[str | None, Query(description="This deployment alone.")] = None,
    look_back: Annotated[
        int,
        Query(
            alias="lookBack",
            ge=0,
            le=LOOK_BACK_MAX,
            description="Over how many facts of its partition the ones that led here are looked for.",
        ),
    ] = ENTRIES_MAX,
) -> Response:
    """Why a device has what it has: of each deployment the verdict and its reason, and the facts that led there.

    Whoever never was gets a 404 that names devices called alike; whoever is retired, or not known to the views yet, an answer that
    says so. Secrets show as `***`.
    """
    room = room_of(request)
    explaining = Explaining(room.log, room.view, room.views, streams=room.streams, deeds=room.deeds)
    found = explaining.explain(device_id, deployment=deployment, entries_max=look_back)
    if found is None:
        raise DeviceNotFound(device_id, near=_near(request, device_id))
    weighed = _seen(request, found)
    if deployment is not None:
        weighed = tuple(one for one in weighed if one.id == deployment)
        if not weighed and not found.document.retired:
            raise DeploymentNotFound(deployment, why=_why_not(request, deployment))
    hidden = frozenset(name for name in found.deployments if not _is_theirs(request, found, name))
    context = telling.Context(
        found.device_id,
        found.subject,
        found.standpoint,
        found.deployments,
        room.clock(),
        _turns(request, found, weighed),
        hidden,
        caller_of(request).scope is not None,
    )
    lines = [line_shape(one, context, _led(request, explaining, found, one)) for one in weighed]
    return JsonAnswer({**device_shape(found, context, weighed, deployment or ""), "deployments": lines})


def _led(request: Request, explaining: Explaining, found: Explanation, one: Weighed) -> tuple[Led, ...]:
    if _is_theirs(request, found, one.id):
        return found.led(one, explaining.admitted(found, one.id) if one.applies else None)
    # How a rollout goes tells of devices that they do not reach.
    return tuple(led for led in found.led(one) if led.act not in OF_ROLLOUTS)


def _is_theirs(request: Request, found: Explanation, deployment_id: str) -> bool:
    """Whether the caller may know how a deployment is rolled out: whoever is scoped, where all its devices are theirs."""
    scope = caller_of(request).scope
    return scope is None or found.deployments[deployment_id].document.scope == scope.text


def _near(request: Request, device_id: str) -> list[str]:
    """Who is called alike, of the devices that the caller reaches."""
    room = room_of(request)
    names, _ = room.view.devices(limit=_NEAR_AMONG, within=room.within(caller_of(request)))
    return near(device_id, names)


def _why_not(request: Request, deployment_id: str) -> str:
    """What became of a deployment, or what it may be called; nothing for whoever is scoped, who could learn of others by it."""
    room = room_of(request)
    if caller_of(request).scope is not None:
        return ""
    deeds = room.deeds.of(deployment_id, upto=room.log.head(FLEET))
    if deeds and deeds[-1].kind == DeploymentDeleted.__name__:
        return of_deployment(deeds[-1]).says
    alike = near(deployment_id, (name for name, _ in deployments(room.log)))
    return f"did you mean {' or '.join(map(repr, alike))}?" if alike else ""


def _seen(request: Request, found: Explanation) -> tuple[Weighed, ...]:
    """What the caller sees of it: whoever is scoped, their own deployments and those that target somebody of theirs."""
    if caller_of(request).scope is None or all(one.targeted for one in found.weighed):
        return found.weighed
    seen = {name for name, _, _ in deployments_seen(request)}
    return tuple(one for one in found.weighed if one.targeted or one.id in seen)


def _turns(request: Request, found: Explanation, weighed: tuple[Weighed, ...]) -> dict[str, Turn]:
    """Why rollouts have not admitted the device; to whoever is scoped, of their own deployments alone: others' tell of devices."""
    room, at = room_of(request), found.standpoint
    waiting = {
        one.id: rollout
        for one in weighed
        if Reason.NOT_ADMITTED in {obstacle.reason for obstacle in (one.obstacle, one.then) if obstacle is not None}
        and (rollout := found.deployments[one.id].rollout) is not None
        and rollout.admits
        and _is_theirs(request, found, one.id)
    }
    judged = room.judging.judged(waiting, room.clock())
    turns = {}
    for name, rollout in waiting.items():
        order = None
        if at.ordinal is not None:
            order = room.judging.order(name, rollout, number=at.number, ordinal=at.ordinal)
        turns[name] = turn(
            rollout, found.subject.twin, enabled=found.subject.enabled, order=order, waits=judged[name].says
        )
    return turns
