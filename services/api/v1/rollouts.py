"""`/v1/rollouts` and `/v1/deployments/{id}/rollout`: deployments that reach their devices in phases."""

# `camel_json` and `camel_schema` write structs of the domain as they are: one definition for the log, the answer and the
# description, where a copy of each would have to follow every change.

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from fastapi import Body, Query, Request

from events.deployment.state import DeploymentDocument
from events.explain.deployment_history import RolloutAct, evidence_of
from events.log.fleet_documents import deployments, rollouts_of
from events.log.keys import FLEET
from events.member_names import camel_json, camel_schema, snake_case
from events.rollout import rollout_text
from events.rollout.commands import (
    AbortRollout,
    ApprovePhase,
    CreateRollout,
    PauseRollout,
    ResumeRollout,
    RetryFailed,
    RollBack,
    RolloutCommand,
    SkipPhase,
    StartRollout,
)
from events.rollout.errors import RolloutNotFound
from events.rollout.events import RecordedCounts
from events.rollout.plan import Gate, Phase, RolloutPlan
from events.rollout.plan_text import PlanText, plan_text
from events.rollout.planner import Judgement
from events.rollout.rollout_counts import as_sets, recorded_counts
from events.rollout.rollout_text import progress
from events.rollout.sets import FleetSet
from events.rollout.state import RolloutDocument, RolloutState
from services.api.context.api_context import ApiContext
from services.api.context.deployments import deployment_of, deployment_seen
from services.api.context.pages import DevicePage, PageInQuery, page
from services.api.context.request import author_of, caller_of, context_of
from services.api.context.rollout_state import says
from services.api.http.access import REGISTRY_READ, REGISTRY_WRITE, Access
from services.api.http.errors import NotFound
from services.api.http.json_answer import AnswerBody, one_of
from services.api.http.path_names import ACTS, TALLIED, ActName, RolledOutId, TalliedName
from services.api.http.request_costs import CONTENT, LONG
from services.api.v1.bodies import ActBody
from services.api.v1.device_assignment import AsOf
from services.api.v1.plan_body import PlanBody
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
    documents = dict(deployments(context.log))
    owned = [name for name, document in documents.items() if caller_of(request).owns(document)]
    return lines_of(context, rollouts_of(context.log, owned), documents)


@router.put("/deployments/{name}/rollout")
@Access(REGISTRY_WRITE, scope="handler", cost=CONTENT)
def create_rollout(request: Request, name: RolledOutId, body: Annotated[PlanBody, Body()]) -> RolloutAnswer:
    """Create the rollout of a deployment that has not started. It begins with `start`, or at the deployment's time."""
    context_of(request).do(CreateRollout(name, body), author_of(request))
    return rollout(request, name)


@router.get("/deployments/{name}/rollout")
def rollout(
    request: Request, name: RolledOutId, history: Annotated[int, Query(ge=0, le=HISTORY_MAX)] = 100
) -> RolloutAnswer:
    """A rollout: its plan, the state of each phase, its counts, what it waits for, and its last acts."""
    context, document = context_of(request), rollout_seen(request, name)
    judged, plan = judged_rollout(context, name, document), document.plan
    acts = context.deployment_history.acts(name, upto=context.log.head(FLEET))
    passed = {act.phase: act for act in acts if act.act == "PhasePassed"}
    return RolloutAnswer(
        id=name,
        state=document.state,
        says=says(document, judged, deployment_of(context, name).admission),
        plan_text=plan_text(plan),
        author=document.author,
        phase=document.phase + 1,
        phases=[
            _phase(document, number, judged.counts, passed.get(number)) for number in range(1, len(plan.phases) + 1)
        ],
        counts=camel_json(judged.counts),
        plan=camel_json(plan),
        created_at=document.created_at,
        started_at=document.started_at,
        changed_at=document.changed_at,
        reason=document.reason,
        rollback=document.rollback or None,
        back_to=rollout_text.back_to(document) if document.rollback_at else None,
        not_back=sizes_of(as_sets(document.not_back)),
        failed_by=sizes_of(judged.rollout_counts.failed_by),
        not_applied_by=sizes_of(judged.rollout_counts.not_applied_by),
        evidence=_evidence(context, acts),
        history=camel_json(acts[max(0, len(acts) - history) :]),
    )


def sizes_of(sets: Mapping[str, FleetSet]) -> dict[str, int]:
    """The number of devices by reason."""
    return {reason: len(devices) for reason, devices in sets.items()}


def _evidence(context: ApiContext, acts: Sequence[RolloutAct]) -> JudgedAct | None:
    judged = next((act for act in reversed(acts) if act.counts is not None), None)
    if judged is None:
        return None
    vectors = evidence_of(context.log, judged).vectors
    return JudgedAct(judged.act, judged.at, camel_json(judged.counts), [AsOf(*vector) for vector in vectors])


@router.post("/deployments/{name}/rollout/{act}")
def do(request: Request, name: RolledOutId, act: ActName, body: ActBody = _NO_REASON) -> RolloutAnswer:
    """Start, pause, resume, abort or roll back a rollout, approve or skip a phase, or let failed devices retry."""
    if act not in ACTS:
        raise NotFound(f"a rollout has no act {act[:40]!r}; allowed are {', '.join(ACTS)}")
    command = _command(act, name, body, rollout_seen(request, name))
    context_of(request).do(command, author_of(request))
    return rollout(request, name)


@router.get("/deployments/{name}/rollout/devices/{which}")
def devices(request: Request, name: RolledOutId, which: TalliedName, query: PageInQuery) -> DevicePage:
    """The devices of one of a rollout's counts, page by page."""
    if which not in TALLIED:
        raise NotFound(f"a rollout has no count {which[:40]!r}; allowed are {', '.join(TALLIED)}")
    context = context_of(request)
    members = getattr(judged_rollout(context, name, rollout_seen(request, name)).rollout_counts, snake_case(which))
    return page(
        context, context.fleet_projection.page_of(members.of_partition, after=query.after(context), limit=query.limit)
    )


def _command(act: str, name: str, body: ActBody, document: RolloutDocument) -> RolloutCommand:
    # Phases count from 1 in bodies and answers, as in sentences, and from 0 in commands and documents.
    match act:
        case "start":
            return StartRollout(name)
        case "pause":
            return PauseRollout(name, body.reason)
        case "resume":
            return ResumeRollout(name)
        case "approve":
            return ApprovePhase(name, _next_approval(document) if body.phase is None else body.phase - 1)
        case "skip":
            return SkipPhase(name, max(0, document.phase) if body.phase is None else body.phase - 1)
        case "retry":
            return RetryFailed(name)
        case "abort":
            return AbortRollout(name, body.reason)
        case _:
            return RollBack(name, body.reason)


def _next_approval(document: RolloutDocument) -> int:
    """The next phase (from 0) that waits for an approval, or the phase that opens next if there is none."""
    without_approval = (
        number
        for number, phase in enumerate(document.plan.phases)
        if phase.approval and number > document.phase and number not in document.approved
    )
    return next(without_approval, min(document.phase + 1, len(document.plan.phases) - 1))


def rollout_seen(request: Request, name: str) -> RolloutDocument:
    """The document of a rollout.

    Raises:
        DeploymentNotFound, RolloutNotFound: it does not exist, or the caller cannot see it.
    """
    context = context_of(request)
    document = deployment_of(context, name)
    rollout = rollouts_of(context.log, [name]).get(name)
    if not caller_of(request).owns(document):
        # A caller with a scope can see a deployment that targets its devices, but a rollout counts devices outside as well.
        deployment_seen(request, name)
        raise RolloutNotFound(name)
    if rollout is None:
        raise RolloutNotFound(name)
    return rollout


def judged_rollout(context: ApiContext, name: str, document: RolloutDocument) -> Judgement:
    """A rollout as the scheduler would judge it now."""
    return context.rollout_states.judged({name: document}, context.clock())[name]


def lines_of(
    context: ApiContext, rollouts: Mapping[str, RolloutDocument], documents: Mapping[str, DeploymentDocument]
) -> list[RolloutLine]:
    """Rollouts as lines of a list. A rollout that is over has the counts of its end."""
    # To judge a rollout takes the sets of all partitions, and nothing can change for one that is over.
    current = {name: document for name, document in rollouts.items() if document.is_active or not document.is_over}
    judged = context.rollout_states.judged(current, context.clock())
    return [_line(name, rollout, judged.get(name), documents[name]) for name, rollout in rollouts.items()]


def _line(
    name: str, document: RolloutDocument, judged: Judgement | None, deployment: DeploymentDocument
) -> RolloutLine:
    admission, phases = deployment.admission, len(document.plan.phases)
    counts = recorded_counts(document) if judged is None else judged.counts
    text = progress(document, admission) if judged is None else says(document, judged, admission)
    return RolloutLine(name, document.state, document.phase + 1, phases, camel_json(counts), text)


def _phase(document: RolloutDocument, number: int, now: RecordedCounts, passed: RolloutAct | None) -> RolloutPhase:
    """A phase by its number, from 1. `passed` is the act by which it passed, if it did."""
    phase, state = document.plan.phases[number - 1], document.phase_state(number - 1)
    # In any other state the rollout ended in this phase: only then is the reason of the rollout that of the phase.
    is_last = state not in {"open", "passed", "waiting", "not opened"}
    counts = now if state == "open" or is_last else None if passed is None else passed.counts
    reason = document.reason if is_last else None if passed is None else passed.reason
    gate = msgspec.structs.replace(phase.gate, success_percent=document.plan.required_percent(phase.gate))
    return RolloutPhase(
        number,
        phase.name,
        _admits(phase),
        camel_json(gate),
        phase.approval,
        number - 1 in document.approved,
        state,
        reason or None,
        camel_json(counts),
    )


def _admits(phase: Phase) -> str:
    if phase.percent is not None:
        return f"{phase.percent:g}%"
    return str(phase.count) if phase.count is not None else phase.condition or ""
