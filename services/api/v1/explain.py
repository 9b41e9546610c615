"""`/v1/devices/{device_id}/explain`: why a device has its configuration, with a verdict for each deployment."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Query, Request
from msgspec import UNSET, UnsetType, field

from events.deployment.errors import DeploymentNotFound
from events.deployment.events import DeploymentDeleted
from events.device.errors import DeviceNotFound
from events.explain import cause, explanation_text
from events.explain.cause import Cause
from events.explain.device_report import DeviceReport
from events.explain.explainer import ENTRIES_MAX, Explainer
from events.explain.explanation import Explanation
from events.explain.judged_condition import Judged, PropertyType
from events.explain.rollout_turn import Turn, turn
from events.explain.verdict import Contest, Obstacle, Reason, Verdict, Weighed
from events.fleet.assignments import AssignmentStatus
from events.log.keys import FLEET
from events.log.keys import name as stream_name
from events.manifest.document import KIND_NAMES, KindName
from events.projection_store.fleet_projection import Effective
from events.query.text import printed, printed_path
from events.query.tree import MATCH_ALL, And, Comparison, Constant, IsDefined, Not, Or, PathOf
from events.secrets.references import mask
from events.update.names import group_and_deployment
from services.api.context.deployments import deployments_seen
from services.api.context.request import caller_of, context_of, reach_of
from services.api.http.access import TWIN_READ, Access
from services.api.http.json_answer import AnswerBody
from services.api.http.path_names import DeviceId
from services.api.http.request_costs import LONG
from services.api.http.similar_names import near
from services.api.v1.devices import AsOf
from services.api.v1.router import v1_router

router = v1_router()
READ_BACK_MAX = 10_000_000
_READ_BACK = "How many events of the device's partition are searched for causes, back from the newest."
# A search for similar ids compares the unknown id with each of these: with a million it would hold the interpreter.
_NEAR_AMONG = 20_000


class ExplainedStop(AnswerBody):
    """Where a partition is stopped, since when (milliseconds) and why."""

    at: str
    since: int
    error: str | None


class ExplainedAsOf(AnswerBody):
    """The position of the projections behind the answer, and that of the log."""

    stream: str
    partition: int
    fleet: int
    heads: AsOf
    is_behind: bool
    blocked: ExplainedStop | None


class ExplainedAssignment(AnswerBody):
    """The device's assignment, the layers before its last change, and the events of that change. `since` is in milliseconds."""

    status: AssignmentStatus
    reason: str | None
    layers: list[str]
    wanted: list[str]
    before: list[str]
    since: int
    assignment_change: int
    cause: str
    causes: tuple[Cause, ...]


class ExplainedTerm(AnswerBody, kw_only=True):
    """A term of a condition with its truth on the twin of the device or of the module.

    A compound term has `and`, `or` or `not`. A comparison has the `property`, the `wanted` value, and in `found` the type of
    the twin's `value`, or `missing`. `comparable` is false if the types differ: the comparison is then unknown.
    """

    text: str
    truth: Literal["true", "false", "unknown"]
    all_of: list["ExplainedTerm"] | UnsetType = field(name="and", default=UNSET)
    any_of: list["ExplainedTerm"] | UnsetType = field(name="or", default=UNSET)
    negated: "ExplainedTerm | UnsetType" = field(name="not", default=UNSET)
    property: str | UnsetType = UNSET
    operator: str | UnsetType = UNSET
    wanted: Any = UNSET
    found: PropertyType | UnsetType = UNSET
    value: Any = UNSET
    comparable: bool | UnsetType = UNSET


class ExplainedDeployment(AnswerBody):
    """The verdict of a deployment on the device, or on one of its modules.

    `ifTargeted` is the obstacle that would remain if the condition were true. `appliedCount` is whether the hub's count of
    that name includes the device. `events` are the last changes of the properties and of the deployment.
    """

    id: str
    group: str | None
    module: str | None
    kind: KindName
    layered: bool
    priority: int
    verdict: Verdict
    says: str
    because: str | None
    layer: int | None
    obstacle: Obstacle | None
    if_targeted: Obstacle | None
    targeted: bool
    applied_count: bool
    notes: list[str]
    turn: Turn | None
    target_condition: str
    condition: ExplainedTerm | None
    scope: ExplainedTerm | None
    events: tuple[Cause, ...]


class DeviceExplanation(AnswerBody):
    """Why a device has its configuration, and why deployments are not applied.

    `says` is the answer in a sentence. `state` is `registered` while the projections do not know the device. `events` are
    the last changes of the device apart from its twin, `undecided` those that workers have not applied. Events before the
    position `readBackTo` were not searched.
    """

    device_id: str
    says: str
    state: Literal["known", "registered", "retired"]
    edge_capable: bool
    enabled: bool
    runs: ExplainedAssignment | None
    as_of: ExplainedAsOf
    contests: tuple[Contest, ...]
    reported: DeviceReport | None
    events: tuple[Cause, ...]
    undecided: tuple[Cause, ...]
    read_back_to: int
    deployments: list[ExplainedDeployment]


@router.get("/devices/{device_id}/explain")
@Access(TWIN_READ, scope="device", at=True, cost=LONG)
def explain(
    request: Request,
    device_id: DeviceId,
    deployment: Annotated[str | None, Query(description="Only this deployment.")] = None,
    read_back: Annotated[int, Query(alias="readBack", ge=0, le=READ_BACK_MAX, description=_READ_BACK)] = ENTRIES_MAX,
) -> DeviceExplanation:
    """Why a device has its configuration: for each deployment the verdict, its reason, and the events that led to it.

    An unknown device id gets a 404 with similar ids. The answer says if the device is retired, or unknown to the workers.
    Secrets appear as `***`.
    """
    context, scope = context_of(request), caller_of(request).scope
    explainer = Explainer(
        context.log, context.fleet_projection, context.projections, context.streams, context.deployment_history
    )
    scope_text = None if scope is None else scope.text
    explanation = explainer.explain(
        device_id, now=context.clock(), scope=scope_text, deployment=deployment, entries_max=read_back
    )
    if explanation is None:
        names, _ = context.fleet_projection.devices(limit=_NEAR_AMONG, within=reach_of(request))
        raise DeviceNotFound(device_id, near=near(device_id, names))
    explanation = msgspec.structs.replace(explanation, weighed=_seen(request, explanation, deployment))
    explanation = msgspec.structs.replace(explanation, turns=_turns(request, explanation))
    lines = [_deployment(each, explanation, explainer.causes(explanation, each)) for each in explanation.weighed]
    effective, document = explanation.effective, explanation.document
    return DeviceExplanation.filled(
        explanation,
        says=explanation_text.answer(explanation, deployment_id=deployment or ""),
        state="retired" if document.retired else "registered" if effective is None else "known",
        edge_capable=document.edge,
        enabled=document.enabled,
        runs=None if effective is None else _assignment(explanation, effective),
        as_of=_as_of(explanation),
        events=cause.of_identity_and_reports(explanation),
        undecided=tuple(cause.of_device(explanation.standpoint.number, each) for each in explanation.traced.undecided),
        read_back_to=explanation.traced.back_to,
        deployments=lines,
    )


def _seen(request: Request, explanation: Explanation, deployment_id: str | None) -> tuple[Weighed, ...]:
    """The deployments that the caller can see, or only the requested one.

    A caller with a scope sees its own deployments and those that target a device of the scope.

    Raises:
        DeploymentNotFound: the requested deployment does not exist, or the caller cannot see it.
    """
    weighed = explanation.weighed
    # `deployments_seen` counts every deployment within the scope. All that target this device are seen without that.
    if caller_of(request).scope is not None and not all(each.targeted for each in weighed):
        seen = {name for name, _, _ in deployments_seen(request)}
        weighed = tuple(each for each in weighed if each.targeted or each.id in seen)
    if deployment_id is None:
        return weighed
    weighed = tuple(each for each in weighed if each.id == deployment_id)
    if not weighed and not explanation.document.retired:
        if caller_of(request).scope is not None:
            # Names and authors of deployments outside of the scope would tell about devices outside.
            raise DeploymentNotFound(deployment_id)
        context = context_of(request)
        history = context.deployment_history.of(deployment_id, upto=context.log.head(FLEET))
        if history and history[-1].kind == DeploymentDeleted.__name__:
            raise DeploymentNotFound(deployment_id, why=cause.of_deployment(history[-1]).says)
        similar = near(deployment_id, context.log.ranked_deployments().by_id)
        hint = f"did you mean {' or '.join(map(repr, similar))}?" if similar else ""
        raise DeploymentNotFound(deployment_id, why=hint)
    return weighed


def _turns(request: Request, explanation: Explanation) -> dict[str, Turn]:
    """Why rollouts have not admitted the device, by deployment, as far as the caller may know them."""
    api_context, at, subject = context_of(request), explanation.standpoint, explanation.subject
    waiting = {
        weighed.id: logged.rollout
        for weighed in explanation.weighed
        if Reason.NOT_ADMITTED in {each.reason for each in (weighed.obstacle, weighed.then) if each is not None}
        and (logged := explanation.deployments[weighed.id]).rollout is not None
        and logged.rollout.admits
        and explanation.may_know_rollout(logged)
    }
    judged = api_context.rollout_states.judged(waiting, explanation.now)
    turns = {}
    for name, rollout in waiting.items():
        order = None
        if at.ordinal is not None:
            order = api_context.rollout_states.order(name, rollout, number=at.number, ordinal=at.ordinal)
        turns[name] = turn(rollout, subject.twin, enabled=subject.enabled, order=order, waits=judged[name].says)
    return turns


def _assignment(explanation: Explanation, effective: Effective) -> ExplainedAssignment:
    assignment = effective.assignment
    return ExplainedAssignment.filled(
        effective,
        status=assignment.status,
        reason=assignment.reason or None,
        layers=[layer.id for layer in assignment.stack],
        wanted=[layer.id for layer in assignment.wanted],
        before=[layer.id for layer in explanation.change.was.stack],
        since=effective.at,
        causes=cause.of_last_change(explanation),
    )


def _as_of(explanation: Explanation) -> ExplainedAsOf:
    at, blocked, stop = explanation.standpoint, explanation.blocked, None
    if blocked is not None:
        # What stops a partition can be about a device outside of the caller's scope.
        error = None if explanation.scope is not None else blocked.error
        stop = ExplainedStop(f"{stream_name(blocked.stream)}:{blocked.position}", blocked.at, error)
    heads, vector = AsOf(at.head.partition, at.head.fleet), at.vector
    return ExplainedAsOf(stream_name(at.number), vector.partition, vector.fleet, heads, at.is_behind, stop)


def _deployment(weighed: Weighed, explanation: Explanation, causes: tuple[Cause, ...]) -> ExplainedDeployment:
    """The verdict of a deployment, with the events that led to it."""
    deployment, group = explanation.deployments[weighed.id], group_and_deployment(weighed.id)
    is_counted = explanation_text.is_counted(weighed, deployment)
    why = "" if weighed.obstacle is None else explanation_text.because(weighed, explanation)
    return ExplainedDeployment.filled(
        weighed,
        group=None if group is None else group[0],
        module=weighed.module or None,
        kind=KIND_NAMES[weighed.kind],
        says=explanation_text.verdict(weighed, explanation, why=why),
        because=why or None,
        layer=weighed.rank or None,
        if_targeted=weighed.then,
        applied_count=is_counted,
        notes=[explanation_text.NOT_COUNTED] if weighed.applies and not is_counted else [],
        turn=explanation.turns.get(weighed.id),
        target_condition=deployment.document.target_condition,
        condition=None if weighed.condition is None else _term(weighed.condition),
        scope=None if weighed.scope is None or weighed.scope.term == MATCH_ALL else _term(weighed.scope),
        events=causes,
    )


_TRUTHS: Mapping[bool | None, Literal["true", "false", "unknown"]] = {True: "true", False: "false", None: "unknown"}


def _term(judged: Judged) -> ExplainedTerm:
    term = judged.term
    explained = ExplainedTerm(text=printed(term) or "(no device)", truth=_TRUTHS[judged.truth])
    match term:
        case And():
            explained.all_of = [_term(part) for part in judged.terms]
        case Or():
            explained.any_of = [_term(part) for part in judged.terms]
        case Not():
            explained.negated = _term(judged.terms[0])
        case Comparison(PathOf(path), op, Constant(literal)):
            explained.property, explained.operator, explained.wanted = printed_path(path), op.value, literal
        case IsDefined(path):
            explained.property, explained.operator = printed_path(path), "is_defined"
        case _:
            pass
    if judged.actual_type:
        explained.found, explained.value = judged.actual_type, mask(judged.value)
        explained.comparable = judged.comparable
    return explained
