"""`/v1/rollouts` and `/v1/deployments/{id}/rollout`: deployments that reach their devices in phases, and these devices."""

# `camel_json` and `camel_schema` write structs of the domain as they are: one definition for the log, the answer and the
# description, where a copy of each would have to follow every change.

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from fastapi import Body, Query, Request
from msgspec import UNSET

from events.deployment.state import DeploymentDocument
from events.device.identifiers import AGENT, HUB
from events.explain.deployment_history import RolloutAct, evidence_of
from events.fleet.answers import NOT_RUNNING, OK
from events.fleet.assignments import AssignmentStatus
from events.log.fleet_documents import deployments_of, rollouts_of
from events.log.keys import FLEET, partition_of
from events.member_names import camel_json, camel_schema, snake_case
from events.projection_store.groups import is_among
from events.rollout import commands, rollout_text
from events.rollout.errors import RolloutNotFound
from events.rollout.events import RecordedCounts
from events.rollout.plan import Gate, RolloutPlan
from events.rollout.plan_text import PlanText, plan_text
from events.rollout.planner import Judgement
from events.rollout.rollout_counts import ANSWERED_FAILURE, as_sets, recorded_counts
from events.rollout.rollout_text import progress
from events.rollout.sets import FleetSet
from events.rollout.state import RolloutDocument, RolloutState
from services.api.context.api_context import ApiContext
from services.api.context.deployments import deployment_of, deployment_seen
from services.api.context.groups import first_with
from services.api.context.pages import DevicePage, PageInQuery, continuation_at, page
from services.api.context.request import caller_of, context_of, write
from services.api.context.rollout_state import says
from services.api.http.access import REGISTRY_READ, REGISTRY_WRITE, Access
from services.api.http.errors import BodyInvalid, NotFound
from services.api.http.json_answer import AnswerBody, one_of
from services.api.http.path_names import ACTS, TALLIED, ActName, RolledOutId, TalliedName
from services.api.http.request_costs import CONTENT, LONG
from services.api.v1.bodies import ActBody, PlanBody
from services.api.v1.devices import AsOf, layers_of
from services.api.v1.router import v1_router

router = v1_router(read=Access(REGISTRY_READ, scope="handler", at=True), write=Access(REGISTRY_WRITE, scope="handler"))

HISTORY_MAX = 10_000
_NO_REASON = ActBody()

RolloutCounts = Annotated[dict[str, Any], msgspec.Meta(extra_json_schema=camel_schema(RecordedCounts))]
"""The numbers of devices that a rollout is judged by (docs/guides/rollouts.md). Each is the length of a list of devices."""


class RolloutLine(AnswerBody):
    """A rollout in a list. `phase` counts from 1.

    If the deployment has ended, `counts` are those at its end. They are `null` if the rollout is over and its devices keep
    the deployment.
    """

    id: str
    state: RolloutState
    phase: int
    phases: int
    counts: RolloutCounts | None
    says: str


class RolloutPhase(AnswerBody):
    """A phase: the devices that it admits, its gate, and its state with the reason.

    A phase that was open at the end of the rollout has the state of the rollout. `counts` are those at which the phase
    passed or ended, or those of now.
    """

    number: int
    name: str
    admits: str
    gate: Annotated[dict[str, Any], msgspec.Meta(extra_json_schema=camel_schema(Gate))]
    approval: bool
    approved: bool
    state: Annotated[
        str, one_of("waiting", "open", "passed", "not opened", "aborted", "rolling back", "rolled back", "halted")
    ]
    reason: str | None
    counts: RolloutCounts | None


class JudgedAct(AnswerBody):
    """The last act that was decided on counts, with these counts and the positions of all partitions that they are from."""

    act: str
    at: int
    counts: RolloutCounts
    as_of: list[AsOf]


class RolloutAnswer(AnswerBody):
    """A rollout. `rollback` is the deployment that a rollback created. Times are in milliseconds, 0 for not yet.

    Once the deployment has ended, `counts` and the numbers of devices by reason are those at its end. `notBack` has the
    number of devices that a rollback did not bring back, by reason.
    """

    id: str
    state: RolloutState
    says: str
    plan_text: PlanText
    author: str
    phase: int
    phases: list[RolloutPhase]
    counts: RolloutCounts
    plan: Annotated[dict[str, Any], msgspec.Meta(extra_json_schema=camel_schema(RolloutPlan))]
    created_at: int
    started_at: int
    changed_at: int
    reason: str
    rollback: str | None
    back_to: str | None
    not_back: dict[str, int]
    failed_by: dict[str, int]
    not_applied_by: dict[str, int]
    evidence: JudgedAct | None
    history: list[Annotated[dict[str, Any], msgspec.Meta(extra_json_schema=camel_schema(RolloutAct))]]


@router.get("/rollouts")
@Access(REGISTRY_READ, scope="handler", at=True, cost=LONG)
def list_rollouts(request: Request) -> list[RolloutLine]:
    """All rollouts, each with its phase, its counts, and a sentence that says what it waits for."""
    context = context_of(request)
    rollouts = rollouts_of(context.log, context.log.ranked_deployments().by_id)
    documents = deployments_of(context.log, rollouts)
    owned = {name for name, document in documents.items() if caller_of(request).owns(document)}
    return lines_of(context, {name: rollout for name, rollout in rollouts.items() if name in owned}, documents)


@router.put("/deployments/{name}/rollout")
@Access(REGISTRY_WRITE, scope="handler", cost=CONTENT)
def create_rollout(request: Request, name: RolledOutId, body: Annotated[PlanBody, Body()]) -> RolloutAnswer:
    """Create the rollout of a deployment that has not started. It begins with `start`, or at the deployment's time."""
    write(request, commands.CreateRollout(name, body))
    return rollout(request, name)


@router.get("/deployments/{name}/rollout")
def rollout(
    request: Request, name: RolledOutId, history: Annotated[int, Query(ge=0, le=HISTORY_MAX)] = 100
) -> RolloutAnswer:
    """A rollout: its plan, the state of each phase, its counts, what it waits for, and its last acts."""
    context, (document, judged) = context_of(request), _judged(request, name)
    plan = document.plan
    acts = context.deployment_history.acts(name, upto=context.log.head(FLEET))
    passed = {act.phase: act for act in acts if act.act == "PhasePassed"}
    evidence = None
    if act := next((act for act in reversed(acts) if act.counts is not None), None):
        vectors = [AsOf(*vector) for vector in evidence_of(context.log, act).vectors]
        evidence = JudgedAct(act.act, act.at, camel_json(act.counts), vectors)
    return RolloutAnswer.filled(
        document,
        id=name,
        says=says(document, judged, deployment_of(context, name).admission),
        plan_text=plan_text(plan),
        phase=document.phase + 1,
        phases=[
            _phase(document, number, judged.counts, passed.get(number)) for number in range(1, len(plan.phases) + 1)
        ],
        counts=camel_json(judged.counts),
        plan=camel_json(plan),
        rollback=document.rollback or None,
        back_to=rollout_text.back_to(document) if document.rollback_at else None,
        not_back=sizes_of(as_sets(document.not_back)),
        failed_by=sizes_of(judged.rollout_counts.failed_by),
        not_applied_by=sizes_of(judged.rollout_counts.not_applied_by),
        evidence=evidence,
        history=camel_json(acts[max(0, len(acts) - history) :]),
    )


def sizes_of(sets: Mapping[str, FleetSet]) -> dict[str, int]:
    """The number of devices by reason."""
    return {reason: len(devices) for reason, devices in sets.items()}


@router.post("/deployments/{name}/rollout/{act}")
def do(request: Request, name: RolledOutId, act: ActName, body: ActBody = _NO_REASON) -> RolloutAnswer:
    """Start, pause, resume, abort or roll back a rollout, approve or skip a phase, or let failed devices retry."""
    if act not in ACTS:
        raise NotFound(f"a rollout has no act {act[:40]!r}; allowed are {', '.join(ACTS)}")
    document = rollout_seen(request, name)
    # The next phase that waits for an approval, or the phase that opens next if there is none.
    waiting = (
        number
        for number, phase in enumerate(document.plan.phases)
        if phase.approval and number > document.phase and number not in document.approved
    )
    next_phase = next(waiting, min(document.phase + 1, len(document.plan.phases) - 1))
    # Phases count from 1 in bodies and answers, as in sentences, and from 0 in commands and documents.
    phase = None if body.phase is None else body.phase - 1
    by_act: dict[str, commands.RolloutCommand] = {
        "start": commands.StartRollout(name),
        "pause": commands.PauseRollout(name, body.reason),
        "resume": commands.ResumeRollout(name),
        "approve": commands.ApprovePhase(name, next_phase if phase is None else phase),
        "skip": commands.SkipPhase(name, max(0, document.phase) if phase is None else phase),
        "retry": commands.RetryFailed(name),
        "abort": commands.AbortRollout(name, body.reason),
        "rollback": commands.RollBack(name, body.reason),
    }
    write(request, by_act[act])
    return rollout(request, name)


@router.get("/deployments/{name}/rollout/devices/{which}")
def devices(request: Request, name: RolledOutId, which: TalliedName, query: PageInQuery) -> DevicePage:
    """The devices of one of a rollout's counts, page by page."""
    if which not in TALLIED:
        raise NotFound(f"a rollout has no count {which[:40]!r}; allowed are {', '.join(TALLIED)}")
    context, (_, judged) = context_of(request), _judged(request, name)
    members = getattr(judged.rollout_counts, snake_case(which))
    return page(
        context, context.fleet_projection.page_of(members.of_partition, after=query.after(context), limit=query.limit)
    )


def rollout_seen(request: Request, name: str) -> RolloutDocument:
    """The document of a rollout.

    Raises:
        DeploymentNotFound, RolloutNotFound: it does not exist, or the caller cannot see it.
    """
    context = context_of(request)
    is_owned = caller_of(request).owns(deployment_of(context, name))
    rollout = rollouts_of(context.log, [name]).get(name)
    if not is_owned:
        # A caller with a scope can see a deployment that targets its devices, but a rollout counts devices outside as well.
        deployment_seen(request, name)
    if rollout is None or not is_owned:
        raise RolloutNotFound(name)
    return rollout


def _judged(request: Request, name: str) -> tuple[RolloutDocument, Judgement]:
    """A rollout, also as the scheduler would judge it now."""
    context, document = context_of(request), rollout_seen(request, name)
    return document, context.rollout_states.judged({name: document}, context.clock())[name]


def lines_of(
    context: ApiContext, rollouts: Mapping[str, RolloutDocument], documents: Mapping[str, DeploymentDocument]
) -> list[RolloutLine]:
    """Rollouts as lines of a list. A rollout that is over has the counts of its end."""
    # To judge a rollout takes the sets of all partitions, and nothing can change for one that is over.
    current = {name: document for name, document in rollouts.items() if document.is_active or not document.is_over}
    judged, lines = context.rollout_states.judged(current, context.clock()), []
    for name, document in rollouts.items():
        admission, judgement = documents[name].admission, judged.get(name)
        counts = recorded_counts(document) if judgement is None else judgement.counts
        text = progress(document, admission) if judgement is None else says(document, judgement, admission)
        phases = len(document.plan.phases)
        lines.append(RolloutLine(name, document.state, document.phase + 1, phases, camel_json(counts), text))
    return lines


def _phase(document: RolloutDocument, number: int, now: RecordedCounts, passed: RolloutAct | None) -> RolloutPhase:
    """A phase by its number, from 1. `passed` is the act by which it passed, if it did."""
    phase, state = document.plan.phases[number - 1], document.phase_state(number - 1)
    # In any other state the rollout ended in this phase: only then is the reason of the rollout that of the phase.
    is_last = state not in {"open", "passed", "waiting", "not opened"}
    counts = now if state == "open" or is_last else None if passed is None else passed.counts
    reason = document.reason if is_last else None if passed is None else passed.reason
    gate = msgspec.structs.replace(phase.gate, success_percent=document.plan.required_percent(phase.gate))
    admits = str(phase.count) if phase.count is not None else phase.condition or ""
    return RolloutPhase.filled(
        phase,
        number=number,
        admits=admits if phase.percent is None else f"{phase.percent:g}%",
        gate=camel_json(gate),
        approved=number - 1 in document.approved,
        state=state,
        reason=reason or None,
        counts=camel_json(counts),
    )


# -- devices


_COUNTED_STATES = ("healthy", "already", "failed", "silent", "pending", "outranked", "notApplied")
STATES = (*_COUNTED_STATES, "notAdmitted", "notBack")
"""The states of a device in a rollout. `notBack` is in addition to another state: a rollback did not reach the device."""
State = Annotated[str | None, Query(json_schema_extra={"enum": list(STATES)})]
_REASONS = {
    "healthy": "it answered that all is well",
    "already": "it had the same configuration before it was admitted",
    "silent": "it has not answered for a long time",
    "pending": "it has not answered yet",
    "notAdmitted": "it was not admitted",
}


class RunningAssignment(AnswerBody):
    """What a device has now: the deployments of its configuration, the base first.

    There are none if the configuration was set on the device alone, or restored by a rollback.
    """

    status: Annotated[str, one_of(*(status.value for status in AssignmentStatus), "nothing")]
    deployments: list[str]
    configuration: str


class RolloutDevice(AnswerBody):
    """The state of a device in a rollout, and the reason. `notBack` says why a rollback did not bring it back, if it did not."""

    device_id: str
    state: Annotated[str, one_of(*STATES[:-1])]
    reason: str
    not_back: str | None
    runs: RunningAssignment


class RolloutDevices(AnswerBody):
    """Devices of a rollout, and the continuation of the next page; `null` on the last page."""

    devices: list[RolloutDevice]
    continuation: str | None


@router.get("/deployments/{name}/rollout/devices")
def list_devices(request: Request, name: RolledOutId, query: PageInQuery, state: State = None) -> RolloutDevices:
    """The devices that a rollout targets or has admitted, with the state of each and the reason, page by page.

    Once the deployment has ended, the states are those at its end. `runs` is always what a device has now.
    """
    if state is not None and state not in STATES:
        raise BodyInvalid(f"state must be one of {', '.join(STATES)}, not {state[:40]!r}")
    context, (document, judged) = context_of(request), _judged(request, name)
    rollout_counts, not_back = judged.rollout_counts, as_sets(document.not_back)
    by_state: dict[str, FleetSet] = {each: getattr(rollout_counts, snake_case(each)) for each in _COUNTED_STATES}
    by_state["notAdmitted"] = rollout_counts.target - rollout_counts.admitted
    by_reason = {**rollout_counts.failed_by, **rollout_counts.not_applied_by}
    selected = by_state.values() if state is None else not_back.values() if state == "notBack" else [by_state[state]]
    device_ids, last_position = context.fleet_projection.page_of(
        FleetSet.union(selected).of_partition, after=query.after(context), limit=query.limit
    )
    # After the end, the twin and the projections say nothing of this rollout any more: only what was recorded counts.
    is_live, lines = document.results is UNSET, []
    for device_id in device_ids:
        device = context.fleet_projection.assignment(device_id)
        if device is None:
            continue  # The device was retired after the page of ids was read.
        location, assignment = (partition_of(device_id, context.log.partitions), device.ordinal), device.assignment
        state_now = next(each for each, devices in by_state.items() if is_among(location, devices))
        reason = first_with(location, by_reason)
        if reason == ANSWERED_FAILURE and is_live:
            reason = failure_of(context, device_id)
        elif state_now == "outranked":
            layers = context.fleet_projection.not_applied(device_id) if is_live else ()
            reason = next((layer.text for layer in layers if layer.deployment_id == name), "another deployment won")
        status = assignment.status.value if assignment.was_assigned else "nothing"
        runs = RunningAssignment(status, layers_of(assignment), assignment.configuration)
        why_not_back = first_with(location, not_back)
        lines.append(RolloutDevice(device_id, state_now, reason or _REASONS[state_now], why_not_back, runs))
    return RolloutDevices(lines, continuation_at(context, last_position))


def failure_of(context: ApiContext, device_id: str) -> str:
    """The reason of a device's failure, as its system modules report it."""
    for module_id, who in ((AGENT, "it"), (HUB, "its $edgeHub")):
        twin = context.twins.module(device_id, module_id)
        last_status = None if twin is None else twin["properties"]["reported"].get("lastDesiredStatus")
        if isinstance(last_status, dict) and (code := last_status.get("code")) not in (None, OK, NOT_RUNNING):
            text = last_status.get("description")
            return f"{who} answered {code}{f': {text}' if text else ''}"
    return "a module is not as it should be"
