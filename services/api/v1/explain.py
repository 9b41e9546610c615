"""`/v1/devices/{device_id}/explain`: why a device has its configuration, with one verdict for each deployment."""

from typing import Annotated, Any

import msgspec
from fastapi import Query, Request, Response

from events.canonical import JsonObject
from events.deployment.errors import DeploymentNotFound
from events.deployment.facts import DeploymentDeleted
from events.device.errors import DeviceNotFound
from events.explain import verdict_text
from events.explain.answer_text import answer
from events.explain.audience import Audience
from events.explain.cause import Cause, of_deployment
from events.explain.device_report import DeviceReport, report_text
from events.explain.explainer import ENTRIES_MAX, Explainer
from events.explain.explanation import Explanation
from events.explain.judged_condition import Judged
from events.explain.rollout_turn import Turn, turn
from events.explain.verdict import Contest, Obstacle, Weighed
from events.explain.verdict_text import ExplainContext
from events.log.keys import FLEET
from events.log.keys import name as stream_name
from events.query.text import printed, printed_path
from events.query.tree import EVERYBODY, And, Comparison, Constant, IsDefined, Not, Or, PathOf
from events.secrets.references import mask
from events.update.names import carried, is_carrier
from events.view_store.deployments import deployments
from events.view_store.fleet_view import Effective
from events.view_store.port import Blocked
from services.api.context.deployments import deployments_seen
from services.api.context.request import caller_of, room_of
from services.api.http.access import TWIN_READ, Access
from services.api.http.json_answer import JsonAnswer
from services.api.http.openapi import answers
from services.api.http.path_names import DeviceId
from services.api.http.request_costs import LONG
from services.api.http.similar_names import near
from services.api.v1 import described_explain
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
    """Why a device has its configuration: for each deployment the verdict, its reason, and the events that led there.

    An unknown device id gets a 404 with similar ids. The answer says so where the device is retired, or not known to the workers
    yet. Secrets show as `***`.
    """
    room, scope = room_of(request), caller_of(request).scope
    explainer = Explainer(room.log, room.view, room.views, streams=room.streams, history=room.deployment_history)
    explanation = explainer.explain(device_id, deployment=deployment, entries_max=look_back)
    if explanation is None:
        raise DeviceNotFound(device_id, near=_near(request, device_id))
    explanation = msgspec.structs.replace(explanation, weighed=_seen(request, explanation, deployment))
    audience = Audience(None if scope is None else scope.text)
    context = ExplainContext(
        device_id,
        explanation.subject,
        explanation.standpoint,
        explanation.deployments,
        room.clock(),
        _turns(request, explanation, audience),
        audience,
    )
    lines = [_line(each, context, explainer.causes(explanation, each, audience)) for each in explanation.weighed]
    return JsonAnswer({**_device(explanation, context, deployment or ""), "deployments": lines})


def _near(request: Request, device_id: str) -> list[str]:
    """Similar ids, of the devices that the caller reaches."""
    room = room_of(request)
    names, _ = room.view.devices(limit=_NEAR_AMONG, within=room.within(caller_of(request)))
    return near(device_id, names)


def _seen(request: Request, explanation: Explanation, asked: str | None) -> tuple[Weighed, ...]:
    """What the caller asks for and sees: a scoped caller, their own deployments and those that target a device of theirs.

    Raises:
        DeploymentNotFound: the caller asks for a deployment that is not there, or that they do not see.
    """
    weighed = explanation.weighed
    if caller_of(request).scope is not None and not all(each.targeted for each in weighed):
        seen = {name for name, _, _ in deployments_seen(request)}
        weighed = tuple(each for each in weighed if each.targeted or each.id in seen)
    if asked is None:
        return weighed
    weighed = tuple(each for each in weighed if each.id == asked)
    if not weighed and not explanation.document.retired:
        raise DeploymentNotFound(asked, why=_why_not(request, asked))
    return weighed


def _why_not(request: Request, deployment_id: str) -> str:
    """How a deployment was deleted, or similar names; empty for a scoped caller, who could learn about other devices."""
    room = room_of(request)
    if caller_of(request).scope is not None:
        return ""
    history = room.deployment_history.of(deployment_id, upto=room.log.head(FLEET))
    if history and history[-1].kind == DeploymentDeleted.__name__:
        return of_deployment(history[-1]).says
    similar = near(deployment_id, (name for name, _ in deployments(room.log)))
    return f"did you mean {' or '.join(map(repr, similar))}?" if similar else ""


def _turns(request: Request, explanation: Explanation, audience: Audience) -> dict[str, Turn]:
    """Why rollouts have not admitted the device, by deployment."""
    room, at, subject = room_of(request), explanation.standpoint, explanation.subject
    waiting = explanation.waiting(audience)
    judged = room.judging.judged(waiting, room.clock())
    turns = {}
    for name, rollout in waiting.items():
        order = None
        if at.ordinal is not None:
            order = room.judging.order(name, rollout, number=at.number, ordinal=at.ordinal)
        turns[name] = turn(rollout, subject.twin.row, enabled=subject.enabled, order=order, waits=judged[name].says)
    return turns


# -- the answer as JSON


def _device(explanation: Explanation, context: ExplainContext, asked: str) -> JsonObject:
    """The members about the device itself."""
    at, effective, document = explanation.standpoint, explanation.effective, explanation.document
    return {
        "deviceId": explanation.device_id,
        "says": answer(explanation, context, asked=asked),
        "state": "retired" if document.retired else "registered" if effective is None else "known",
        "edgeCapable": document.edge,
        "enabled": document.enabled,
        "runs": None if effective is None else _runs(explanation, effective, context.audience),
        "asOf": {
            "stream": stream_name(at.number),
            "partition": at.vector.partition,
            "fleet": at.vector.fleet,
            "heads": {"partition": at.head.partition, "fleet": at.head.fleet},
            "isBehind": at.is_behind,
            "blocked": None if explanation.blocked is None else _blocked(explanation.blocked, context.audience),
        },
        "contests": [_contest(each) for each in explanation.contests],
        "reported": None if explanation.reported.at < 0 else _reported(explanation.reported),
        "facts": [_cause(each) for each in explanation.causes_of_device()],
        "undecided": [_cause(each) for each in explanation.undecided()],
        "lookedBackTo": explanation.traced.back_to,
    }


def _runs(explanation: Explanation, effective: Effective, audience: Audience) -> JsonObject:
    row, change = effective.row, explanation.change
    return {
        "standing": row.standing.value,
        "reason": row.reason or None,
        "layers": [layer.id for layer in row.stack],
        "wanted": [layer.id for layer in row.wanted],
        "before": [layer.id for layer in change.was.stack],
        "since": effective.since,
        "outcome": effective.outcome,
        "cause": effective.cause,
        "ledBy": [_cause(each) for each in explanation.causes_of_change(audience)],
    }


def _blocked(blocked: Blocked, audience: Audience) -> JsonObject:
    # What stops a partition can be about a device outside of the caller's scope.
    error = None if audience.scope is not None else blocked.error
    return {"at": f"{stream_name(blocked.stream)}:{blocked.position}", "since": blocked.at, "error": error}


def _reported(report: DeviceReport) -> JsonObject:
    names = sorted({**report.desired, **report.modules})
    return {
        "says": report_text(report),
        "at": report.at,
        "version": report.version,
        "wantedVersion": report.wanted,
        "code": report.code,
        "description": report.description or None,
        "standing": report.standing,
        "hub": None
        if report.hub is None
        else {"version": report.hub.version, "wantedVersion": report.hub.wanted, "code": report.hub.code},
        "undelivered": list(report.undelivered),
        "stale": report.is_stale,
        "modules": {
            name: {"desired": report.desired.get(name), "runtimeStatus": report.modules.get(name)} for name in names
        },
    }


def _line(weighed: Weighed, context: ExplainContext, causes: tuple[Cause, ...]) -> JsonObject:
    """One verdict, with the events that led to it."""
    known, turn_ = context.deployments[weighed.id], context.turns.get(weighed.id)
    group = carried(weighed.id) if is_carrier(weighed.id) else None
    why = "" if weighed.obstacle is None else verdict_text.because(weighed, context)
    return {
        "id": weighed.id,
        "group": None if group is None else group[0],
        "module": weighed.module or None,
        "kind": weighed.kind.name.lower(),
        "layered": weighed.layered,
        "priority": weighed.priority,
        "verdict": weighed.verdict.value,
        "says": verdict_text.verdict(weighed, context, why=why),
        "because": why or None,
        "layer": weighed.place or None,
        "obstacle": _obstacle(weighed.obstacle),
        "ifTargeted": _obstacle(weighed.then),
        "targeted": weighed.targeted,
        "appliedCount": verdict_text.is_counted(weighed, known),
        "notes": list(verdict_text.notes(weighed, known)),
        "turn": None if turn_ is None else _turn(turn_),
        "targetCondition": known.document.target_condition,
        "condition": None if weighed.condition is None else _tree(weighed.condition),
        "scope": None if weighed.scope is None or weighed.scope.term == EVERYBODY else _tree(weighed.scope),
        "facts": [_cause(each) for each in causes],
    }


def _turn(one: Turn) -> JsonObject:
    return {
        "state": one.state,
        "phase": one.phase,
        "phases": one.phases,
        "admitted": one.admitted,
        "comesWith": one.comes_with or None,
        "place": None if one.order is None else one.order.place,
        "of": None if one.order is None else one.order.of,
        "waits": one.waits,
    }


def _obstacle(one: Obstacle | None) -> JsonObject | None:
    return None if one is None else {"reason": one.reason.value, "by": one.by or None}


def _cause(one: Cause) -> JsonObject:
    return {
        "stream": one.stream,
        "position": one.position,
        "at": one.at,
        "by": one.by,
        "act": one.act,
        "cause": one.cause or None,
        "says": one.says,
    }


_TRUTHS = {True: "true", False: "false", None: "unknown"}


def _tree(judged: Judged) -> JsonObject:
    term = judged.term
    shown: JsonObject = {"text": printed(term) or "(nobody)", "truth": _TRUTHS[judged.truth]}
    match term:
        case And() | Or():
            joined = "and" if isinstance(term, And) else "or"
            return {**shown, joined: [_tree(one) for one in judged.terms]}
        case Not():
            return {**shown, "not": _tree(judged.terms[0])}
        case Comparison(PathOf(path), op, Constant(literal)):
            return {**shown, "property": printed_path(path), "operator": op.value, "wanted": literal, **_found(judged)}
        case IsDefined(path):
            return {**shown, "property": printed_path(path), "operator": "is_defined", **_found(judged)}
        case _:
            return shown


def _found(judged: Judged) -> JsonObject:
    value: Any = judged.value
    return {"found": judged.found, "value": mask(value), "comparable": judged.comparable}


def _contest(one: Contest) -> JsonObject:
    winner, *losers = ({"deployment": side.deployment, "value": mask(side.value)} for side in (one.winner, *one.losers))
    return {"module": one.module, "path": one.path, "winner": winner, "losers": losers}
