"""Our own paths of deployments with a time, and of rollouts."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from fastapi import Query, Request
from msgspec import UNSET
from pydantic.alias_generators import to_camel, to_snake

from events.canonical import JsonObject
from events.deployment.commands import ChangeAdmission, CreateDeployment, ScheduleDeployment
from events.deployment.errors import ScheduleForbidden, ScheduleInvalid
from events.deployment.facts import Ended, Everyone, NotStarted, Schedule
from events.deployment.state import DeploymentDocument, etag_of
from events.explain.deployment_history import RolloutAct, evidence_of
from events.log.fleet_documents import deployments
from events.log.keys import FLEET
from events.rollout import saying
from events.rollout.commands import (
    AbortRollout,
    ApprovePhase,
    CreateRollout,
    PauseRollout,
    RecordResults,
    ResumeRollout,
    RetryFailed,
    RollBack,
    RolloutCommand,
    SkipPhase,
    StartRollout,
)
from events.rollout.decider import ALLOWED
from events.rollout.errors import RolloutNotFound
from events.rollout.facts import Counts
from events.rollout.plan import Phase
from events.rollout.plan_text import plan_text
from events.rollout.planner import Judgement
from events.rollout.state import RolloutDocument, State, decode, subject_of
from events.rollout.tally import as_sets, recorded_counts
from events.rollout.words import TimeUnreadable, progress, read_time, standing
from services.api.context.api_context import Room
from services.api.context.deployments import deployment_of, deployment_seen
from services.api.context.pages import PAGE_MAX, page, place_of
from services.api.context.request import author_of, caller_of, room_of
from services.api.context.rollout_state import says
from services.api.http.access import REGISTRY_READ, REGISTRY_WRITE, Access
from services.api.http.errors import NotFound
from services.api.http.openapi import answers
from services.api.http.path_names import ACTS, TALLIED, ActName, DeploymentId, HeldId, RolledOutId, TalliedName
from services.api.http.request_costs import CONTENT, LONG
from services.api.v1 import described
from services.api.v1.bodies import ActBody, CreateBody, ScheduleBody
from services.api.v1.plan_body import PlanBody
from services.api.v1.router import v1_router

router = v1_router(read=Access(REGISTRY_READ, scope="handler", at=True), write=Access(REGISTRY_WRITE, scope="handler"))

HISTORY_MAX = 10_000
_NOT_SEEN = "is rolled out in phases"
_SILENTLY = ActBody()
_OVER = {State.COMPLETED: "Everyone", State.CREATED: "NotStarted"} | dict.fromkeys(
    (State.ROLLING_BACK, State.ROLLED_BACK, State.HALTED), "Ended"
)


# -- deployments


@router.get("/deployments/{name}", response_model=None, responses=answers(described.Standalone))
def deployment(request: Request, name: DeploymentId) -> JsonObject:
    """A deployment with its times, its rollout and its counts, and who may receive it, in a sentence."""
    document, counts = deployment_seen(request, name)
    rollout = rollouts_of(room_of(request), name)[name]
    line = line_of(request, name, document, dict(counts), rollout)
    shown = {} if rollout is None or not _is_theirs(request, document) else {name: rollout}
    return {
        **line,
        "rolledOut": next(iter(_rollout_lines(room_of(request), shown, {name: document})), None),
        "createdAt": document.created_at,
        "updatedAt": document.updated_at,
        "etag": etag_of(document),
    }


@router.put("/deployments/{name}/schedule", response_model=None, responses=answers(described.Standalone))
def schedule(request: Request, name: DeploymentId, body: ScheduleBody) -> JsonObject:
    """Move when a deployment starts, as long as it has not, or when it ends; what is left out stays, `null` takes it away."""
    document, _ = deployment_seen(request, name)
    former = Schedule() if document.schedule is UNSET else document.schedule
    room_of(request).do(ScheduleDeployment(name, schedule_of(name, body, former)), author_of(request))
    return deployment(request, name)


@router.post("/deployments/{name}/start", response_model=None, responses=answers(described.Standalone))
def start(request: Request, name: HeldId) -> JsonObject:
    """Start a deployment now that waits for its time or for somebody, or its rollout where it has one."""
    document, _ = deployment_seen(request, name)
    room, author = room_of(request), author_of(request)
    if rollouts_of(room, name)[name] is not None:
        room.do(StartRollout(name), author)
    elif isinstance(document.admission, NotStarted):
        # As it was read: what ends or is moved meanwhile is not started over that.
        room.do(ChangeAdmission(name, Everyone(), due_at=document.start_at), author)
    elif not room.stands(author):
        raise ScheduleForbidden(name, "it has started already" if document.admission != Ended() else "it has ended")
    return deployment(request, name)


@router.post("/deployments/{name}/cancel", response_model=None, responses=answers(described.Standalone))
def cancel(request: Request, name: HeldId, body: ActBody = _SILENTLY) -> JsonObject:
    """End a deployment, and its rollout with it: from here on it targets nobody."""
    room = room_of(request)
    deployment_seen(request, name)
    rollout = rollouts_of(room, name)[name]
    abort = [] if rollout is None or rollout.is_over else [AbortRollout(name, body.reason)]
    room.do_together(author_of(request), *_record(room, name, rollout), *abort, ChangeAdmission(name, Ended()))
    return deployment(request, name)


def _record(room: Room, name: str, rollout: RolloutDocument | None) -> list[RolloutCommand]:
    """How the devices of a rollout stand, before its deployment ends: afterwards no device has it any more."""
    if rollout is None or rollout.results is not UNSET or rollout.state not in ALLOWED[RecordResults]:
        return []
    return [RecordResults(name, room.judging.results(name, rollout, room.clock()))]


def create_of(name: str, body: CreateBody) -> tuple[CreateDeployment, CreateRollout | None]:
    """What a body asks for: a deployment, and the rollout that is created together with it.

    Raises:
        ScheduleInvalid: a time cannot be read.
    """
    times = None if body.schedule is None else schedule_of(name, body.schedule, Schedule())
    # What has a time to start waits for it anyway.
    waits = (body.hold or body.rollout is not None) and not (times and times.start_at)
    create = CreateDeployment(
        name,
        body.content,
        body.target_condition,
        body.priority,
        body.labels,
        body.metrics,
        admission=NotStarted() if waits else Everyone(),
        schedule=times,
    )
    return create, None if body.rollout is None else CreateRollout(name, body.rollout.plan)


def schedule_of(name: str, body: ScheduleBody, former: Schedule) -> Schedule:
    """The times that a body asks for; what it leaves out is as before.

    Raises:
        ScheduleInvalid: a time cannot be read.
    """
    zone = body.zone or former.zone

    def moved(element: str, at: int) -> int:
        if element not in body.model_fields_set:
            return at
        text = getattr(body, element)
        try:
            return 0 if text is None else read_time(text, zone)
        except TimeUnreadable as error:
            raise ScheduleInvalid(name, element, error.rule) from error

    return Schedule(moved("start", former.start_at), moved("end", former.end_at), zone)


def line_of(
    request: Request,
    name: str,
    document: DeploymentDocument,
    counts: dict[str, int],
    rollout: RolloutDocument | None,
) -> JsonObject:
    """A deployment in a list, for the caller."""
    seen = rollout is None or _is_theirs(request, document)
    return {
        "id": name,
        "priority": document.priority,
        "layered": document.layered,
        "kind": document.kind.name.lower(),
        "targetCondition": document.target_condition,
        "scope": None if document.scope is UNSET else document.scope,
        "labels": document.labels,
        "counts": counts,
        "admission": _admission(document, rollout),
        "schedule": _times(document),
        "rollout": None if rollout is None else rollout.state.value,
        "says": standing(document, rollout, room_of(request).clock()) if seen else _NOT_SEEN,
    }


def _times(document: DeploymentDocument) -> JsonObject | None:
    times = document.schedule
    if times is UNSET:
        return None

    def text(at: int) -> str | None:
        return saying.moment(at, times.zone) if at else None

    return {
        "startAt": times.start_at or None,
        "endAt": times.end_at or None,
        "start": text(times.start_at),
        "end": text(times.end_at),
        "zone": times.zone,
    }


def _admission(document: DeploymentDocument, rollout: RolloutDocument | None) -> str:
    """As the partitions have it: what a rollout admits, it admits in the deployment's place."""
    if rollout is None or not isinstance(document.admission, NotStarted):
        return type(document.admission).__name__
    return _OVER.get(rollout.state, "Phased" if rollout.phase >= 0 else "NotStarted")


def rollouts_of(room: Room, *names: str) -> dict[str, RolloutDocument | None]:
    """The rollouts of some deployments as they stand in the log."""
    stored = room.log.load([subject_of(name) for name in names], fleet=True) if names else []
    return {
        name: None if one.snapshot is None else decode(one.snapshot) for name, one in zip(names, stored, strict=True)
    }


# -- rollouts


@router.get("/rollouts", response_model=None, responses=answers(list[described.RolloutLine]))
@Access(REGISTRY_READ, scope="handler", at=True, cost=LONG)
def list_rollouts(request: Request) -> list[JsonObject]:
    """All rollouts, each with its phase, its counts, and the sentence that says what it waits for."""
    room = room_of(request)
    documents = dict(deployments(room.log))
    found = {
        name: one
        for name, one in rollouts_of(room, *documents).items()
        if one is not None and _is_theirs(request, documents[name])
    }
    return _rollout_lines(room, found, documents)


@router.put("/deployments/{name}/rollout", response_model=None, responses=answers(described.RolloutAnswer))
@Access(REGISTRY_WRITE, scope="handler", cost=CONTENT)
def create_rollout(request: Request, name: RolledOutId, body: PlanBody) -> JsonObject:
    """Roll a deployment out by a plan that has not started; it begins when it is started, or at the deployment's time."""
    room_of(request).do(CreateRollout(name, body.plan), author_of(request))
    return rollout(request, name)


@router.get("/deployments/{name}/rollout", response_model=None, responses=answers(described.RolloutAnswer))
def rollout(
    request: Request, name: RolledOutId, history: Annotated[int, Query(ge=0, le=HISTORY_MAX)] = 100
) -> JsonObject:
    """A rollout: its plan, how far each phase is, whom it was judged on, what it waits for, and its last acts."""
    room, document = room_of(request), rollout_seen(request, name)
    judged = judged_rollout(room, name, document)
    acts = room.deployment_history.acts(name, upto=room.log.head(FLEET))
    passed = {act.phase: act for act in acts if act.act == "PhasePassed"}
    phases = [
        _phase(document, number, judged.counts, passed.get(number))
        for number in range(1, len(document.plan.phases) + 1)
    ]
    cited = None
    last = next((act for act in reversed(acts) if act.counts is not None), None)
    if last is not None:
        vectors = evidence_of(room.log, last).vectors
        as_of = [{"partition": partition, "fleet": fleet} for partition, fleet in vectors]
        cited = {"act": last.act, "at": last.at, "counts": _camel(last.counts), "asOf": as_of}
    return {
        "id": name,
        "state": document.state.value,
        "says": says(document, judged, deployment_of(room, name).admission),
        "planText": _camel(plan_text(document.plan)),
        "author": document.author,
        "phase": document.phase + 1,
        "phases": phases,
        "counts": _camel(judged.counts),
        "plan": _camel(document.plan),
        "createdAt": document.created_at,
        "startedAt": document.started_at,
        "changedAt": document.changed_at,
        "reason": document.reason,
        "rollback": document.rollback or None,
        "backTo": saying.back_to(document) if document.rollback_at else None,
        "notBack": {why: len(devices) for why, devices in as_sets(document.not_back).items()},
        "failedBy": {why: len(devices) for why, devices in judged.tally.failed_by.items()},
        "notAppliedBy": {why: len(devices) for why, devices in judged.tally.not_applied_by.items()},
        "evidence": cited,
        "history": [_camel(act) for act in acts[max(0, len(acts) - history) :]],
    }


@router.post("/deployments/{name}/rollout/{act}", response_model=None, responses=answers(described.RolloutAnswer))
def do(request: Request, name: RolledOutId, act: ActName, body: ActBody = _SILENTLY) -> JsonObject:
    """Start, pause, resume, abort or roll back a rollout, approve of a phase or skip one, or let failed devices try again."""
    if act not in ACTS:
        raise NotFound(f"nobody can {act[:40]!r} a rollout; there are {', '.join(ACTS)}")
    command = _command(act, name, body, rollout_seen(request, name))
    room_of(request).do(command, author_of(request))
    return rollout(request, name)


@router.get("/deployments/{name}/rollout/devices/{which}", response_model=None, responses=answers(described.DevicePage))
def devices(
    request: Request,
    name: RolledOutId,
    which: TalliedName,
    top: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
    continuation: Annotated[str | None, Query()] = None,
) -> JsonObject:
    """Who is in one of a rollout's counts, page by page."""
    if which not in TALLIED:
        raise NotFound(f"no count {which[:40]!r}; there are {', '.join(TALLIED)}")
    room = room_of(request)
    members = getattr(judged_rollout(room, name, rollout_seen(request, name)).tally, to_snake(which))
    after = place_of(room.continuations.open(continuation))
    return page(room, room.view.page_of(members.of_partition, after=after, limit=top))


def _command(act: str, name: str, body: ActBody, document: RolloutDocument) -> RolloutCommand:
    current = document.phase
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
            return SkipPhase(name, max(0, current) if body.phase is None else body.phase - 1)
        case "retry":
            return RetryFailed(name)
        case "abort":
            return AbortRollout(name, body.reason)
        case _:
            return RollBack(name, body.reason)


def _next_approval(document: RolloutDocument) -> int:
    """The next phase (from 0) that nobody has approved of yet; the one that opens next where there is none."""
    wanting = (
        number
        for number, phase in enumerate(document.plan.phases)
        if phase.approval and number > document.phase and number not in document.approved
    )
    return next(wanting, min(document.phase + 1, len(document.plan.phases) - 1))


def _is_theirs(request: Request, document: DeploymentDocument) -> bool:
    """Whether the caller may see how a deployment is rolled out: whoever is scoped, where all its devices are theirs."""
    scope = caller_of(request).scope
    return scope is None or document.scope == scope.text


def rollout_seen(request: Request, name: str) -> RolloutDocument:
    """A rollout as it stands.

    Raises:
        DeploymentNotFound, RolloutNotFound: it does not, or the caller does not see it.
    """
    room = room_of(request)
    document = deployment_of(room, name)
    found = rollouts_of(room, name)[name]
    if not _is_theirs(request, document):
        deployment_seen(request, name)
        raise RolloutNotFound(name)
    if found is None:
        raise RolloutNotFound(name)
    return found


def judged_rollout(room: Room, name: str, document: RolloutDocument) -> Judgement:
    """A rollout as the scheduler would judge it now."""
    return room.judging.judged({name: document}, room.clock())[name]


def _rollout_lines(
    room: Room, rollouts: Mapping[str, RolloutDocument], documents: Mapping[str, DeploymentDocument]
) -> list[JsonObject]:
    """Rollouts in a list; those with which nothing happens any more are not judged, and count as they ended."""
    going = {name: document for name, document in rollouts.items() if document.is_active or not document.is_over}
    judged = room.judging.judged(going, room.clock())
    return [_rollout_line(name, one, judged.get(name), documents[name]) for name, one in rollouts.items()]


def _rollout_line(
    name: str, document: RolloutDocument, judged: Judgement | None, deployment: DeploymentDocument
) -> JsonObject:
    counts = recorded_counts(document) if judged is None else judged.counts
    admission = deployment.admission
    return {
        "id": name,
        "state": document.state.value,
        "phase": document.phase + 1,
        "phases": len(document.plan.phases),
        "counts": None if counts is None else _camel(counts),
        "says": progress(document, admission) if judged is None else says(document, judged, admission),
    }


def _phase(document: RolloutDocument, number: int, now: Counts, passed: RolloutAct | None) -> JsonObject:
    """A phase by its number, from 1."""
    phase = document.plan.phases[number - 1]
    state = document.phase_state(number - 1)
    ended_it = state not in {"open", "passed", "waiting", "not opened"}
    counts = now if state == "open" or ended_it else None if passed is None else passed.counts
    reason = document.reason if ended_it else None if passed is None else passed.reason
    return {
        "number": number,
        "name": phase.name,
        "admits": _admits(phase),
        "gate": {**_camel(phase.gate), "successPercent": document.plan.required_percent(phase.gate)},
        "approval": phase.approval,
        "approved": number - 1 in document.approved,
        "state": state,
        "reason": reason or None,
        "counts": None if counts is None else _camel(counts),
    }


def _admits(phase: Phase) -> str:
    if phase.percent is not None:
        return f"{phase.percent:g}%"
    return str(phase.count) if phase.count is not None else phase.condition or ""


def _camel(value: Any) -> Any:
    """A struct as JSON, named as bodies are."""
    built = msgspec.to_builtins(value)
    return _renamed(built)


def _renamed(value: Any) -> Any:
    if isinstance(value, dict):
        return {to_camel(name): _renamed(one) for name, one in value.items()}
    return [_renamed(one) for one in value] if isinstance(value, list | tuple) else value
