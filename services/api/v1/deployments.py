"""`/v1/deployments`: created, changed and listed, with their times, and with the devices in each status."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Self, get_args

from fastapi import Depends, Header, Query, Request
from msgspec import UNSET, UnsetType

from events.canonical import JsonObject
from events.deployment.advice import Advice
from events.deployment.commands import ChangeAdmission, CreateDeployment, ScheduleDeployment, UpdateDeployment
from events.deployment.errors import ScheduleForbidden, ScheduleInvalid
from events.deployment.events import Admission, Ended, Everyone, Kept, NotStarted, Schedule
from events.deployment.state import DeploymentDocument, etag_of
from events.log.fleet_documents import rollouts_of
from events.manifest.document import KIND_NAMES, KindName, in_modern_form
from events.projection_store.series import SAMPLES_MAX, Sample, SeriesStore
from events.projection_store.targeted_devices import TargetedDevices
from events.rollout.commands import AbortRollout, CreateRollout, RecordResults, RolloutCommand, StartRollout
from events.rollout.decider import ALLOWED
from events.rollout.errors import PlanInvalid
from events.rollout.plan_text import PlanText, plan_text
from events.rollout.rollout_text import admission_text
from events.rollout.state import RolloutDocument, RolloutState
from events.rollout.times import TimeUnreadable, local_time, read_time
from events.secrets.references import extract, mask
from events.stored_projection.partition_reader import STATUSES
from services.api.context.api_context import ApiContext
from services.api.context.deployments import deployment_of, deployment_seen, deployments_seen
from services.api.context.pages import DevicePage, PageQuery, page
from services.api.context.request import author_of, caller_of, context_of, reach_of
from services.api.http.access import REGISTRY_READ, REGISTRY_WRITE, Access
from services.api.http.errors import BodyInvalid, Forbidden, NotFound
from services.api.http.json_answer import AnswerBody, one_of
from services.api.http.path_names import DeploymentId, HeldId, NewDeploymentId, StatusName
from services.api.http.request_costs import CONTENT, LONG
from services.api.v1.bodies import ActBody, CreateBody, ScheduleBody, UpdateBody
from services.api.v1.devices import POSITION_MAX
from services.api.v1.readiness import ReadinessAnswer, readiness_of
from services.api.v1.rollouts import RolloutLine, lines_of
from services.api.v1.router import v1_router

router = v1_router(read=Access(REGISTRY_READ, scope="handler", at=True), write=Access(REGISTRY_WRITE, scope="handler"))

_NOT_SEEN = "is rolled out in phases"
_SILENTLY = ActBody()
_OVER = {RolloutState.COMPLETED: "Everyone", RolloutState.CREATED: "NotStarted"} | dict.fromkeys(
    (RolloutState.ROLLING_BACK, RolloutState.ROLLED_BACK, RolloutState.HALTED), "Ended"
)
_ADMISSIONS = (*(kind.__name__ for kind in (*get_args(Admission), Kept)), "Phased")


class DeploymentTimes(AnswerBody):
    """When a deployment starts and ends: in milliseconds, and as RFC 3339 in its time zone; `null` is not set."""

    start_at: int | None
    end_at: int | None
    start: str | None
    end: str | None
    zone: str

    @classmethod
    def of(cls, schedule: Schedule) -> Self:
        """As a deployment has them."""
        start_at, end_at = schedule.start_at or None, schedule.end_at or None
        start, end = (at and local_time(at, schedule.zone) for at in (start_at, end_at))
        return cls(start_at, end_at, start, end, schedule.zone)


class DeploymentLine(AnswerBody):
    """A deployment in a list. `rollout` is the state of its rollout, and `says` who may receive it as of now."""

    id: str
    priority: int
    layered: bool
    kind: KindName
    target_condition: str
    scope: str | None
    labels: dict[str, str]
    counts: dict[str, int]
    admission: Annotated[str, one_of(*_ADMISSIONS)]
    schedule: DeploymentTimes | None
    rollout: RolloutState | None
    says: str

    @classmethod
    def of(
        cls,
        request: Request,
        name: str,
        document: DeploymentDocument,
        counts: Mapping[str, int],
        rollout: RolloutDocument | None,
        **members: Any,
    ) -> Self:
        """A deployment for the caller; `members` are those that a subclass adds."""
        is_seen = rollout is None or caller_of(request).owns(document)
        return cls(
            id=name,
            priority=document.priority,
            layered=document.layered,
            kind=KIND_NAMES[document.kind],
            target_condition=document.target_condition,
            scope=None if document.scope is UNSET else document.scope,
            labels=document.labels,
            counts=dict(counts),
            admission=_admission(document, rollout),
            schedule=None if document.schedule is UNSET else DeploymentTimes.of(document.schedule),
            rollout=None if rollout is None else rollout.state,
            says=admission_text(document, rollout, context_of(request).clock()) if is_seen else _NOT_SEEN,
            **members,
        )


class DeploymentAnswer(DeploymentLine):
    """A deployment by itself; times in milliseconds."""

    rolled_out: RolloutLine | None
    created_at: int
    updated_at: int
    etag: str


class WrittenDeployment(AnswerBody):
    """A deployment stands; `readiness` is that of its content by itself, left out where nothing was created.

    `targeted` is how many devices (of a configuration of modules: modules) it targets now; null where workers are behind.
    `planText` is there where it was created together with a rollout.
    """

    id: str
    targeted: int | None
    advice: list[Advice]
    readiness: ReadinessAnswer | UnsetType = UNSET
    plan_text: PlanText | UnsetType | None = UNSET


class StatusCounts(AnswerBody):
    """How many devices are in each status."""

    id: str
    counts: dict[str, int]


class DeploymentSeries(AnswerBody):
    """The course of a deployment, oldest first."""

    id: str
    samples: Sequence[Sample]


def _admission(document: DeploymentDocument, rollout: RolloutDocument | None) -> str:
    """As the partitions have it: what a rollout admits, it admits in the deployment's place."""
    if rollout is None or not isinstance(document.admission, NotStarted):
        return type(document.admission).__name__
    return _OVER.get(rollout.state, "Phased" if rollout.phase >= 0 else "NotStarted")


# -- read


@router.get("/deployments")
@Access(REGISTRY_READ, scope="handler", at=True, cost=LONG)
def list_deployments(request: Request, label: Annotated[list[str] | None, Query()] = None) -> list[DeploymentLine]:
    """The deployments that carry all of some labels (`?label=team=x`), with their counts, times and rollouts in short."""
    labels = dict(map(_pair, label or []))
    seen = list(deployments_seen(request, labels))
    rollouts = rollouts_of(context_of(request).log, (name for name, _, _ in seen))
    return [
        DeploymentLine.of(request, name, document, counts or {}, rollouts.get(name)) for name, document, counts in seen
    ]


def _pair(label: str) -> tuple[str, str]:
    name, equals, value = label.partition("=")
    if not equals:
        raise BodyInvalid(f"a label is asked for as name=value, not {label[:80]!r}")
    return name, value


@router.get("/deployments/{name}")
def deployment(request: Request, name: DeploymentId) -> DeploymentAnswer:
    """A deployment with its times, its rollout and its counts, and who may receive it, in a sentence."""
    document, counts = deployment_seen(request, name)
    rollout = rollouts_of(context_of(request).log, [name]).get(name)
    shown = {} if rollout is None or not caller_of(request).owns(document) else {name: rollout}
    return DeploymentAnswer.of(
        request,
        name,
        document,
        counts,
        rollout,
        rolled_out=next(iter(lines_of(context_of(request), shown, {name: document})), None),
        created_at=document.created_at,
        updated_at=document.updated_at,
        etag=etag_of(document),
    )


@router.get("/deployments/{name}/status")
def status(request: Request, name: DeploymentId) -> StatusCounts:
    """How many devices are in each status; each count is that of its list."""
    _, counts = deployment_seen(request, name)
    return StatusCounts(name, dict(counts))


@router.get("/deployments/{name}/status/{which}")
def members(
    request: Request, name: DeploymentId, which: StatusName, query: Annotated[PageQuery, Depends()]
) -> DevicePage:
    """Who is in a status, page by page: no device twice, and none missed that stood throughout."""
    if which not in STATUSES:
        raise NotFound(f"no status {which[:40]!r}; there are {', '.join(STATUSES)}")
    context, within = context_of(request), reach_of(request)
    if within is None:
        deployment_of(context, name)
    else:
        deployment_seen(request, name)
    return page(
        context,
        context.fleet_projection.page(name, which, after=query.after(context), limit=query.limit, within=within),
    )


@router.get("/deployments/{name}/series")
@Access(REGISTRY_READ, scope="handler", at=True, cost=LONG)
def series(
    request: Request,
    name: DeploymentId,
    since: Annotated[int, Query(ge=0, le=POSITION_MAX)] = 0,
    limit: Annotated[int, Query(ge=1, le=SAMPLES_MAX)] = SAMPLES_MAX,
) -> DeploymentSeries:
    """The course of a deployment's counts and metrics, sampled about once a minute; times in milliseconds."""
    if caller_of(request).scope is not None:
        raise Forbidden("they are limited to a scope, and samples are of the whole fleet")
    context = context_of(request)
    deployment_of(context, name)
    return DeploymentSeries(name, SeriesStore(context.client).read(name, since=since, until=context.until, limit=limit))


# -- written


@router.post("/deployments/{name}", status_code=201)
@Access(REGISTRY_WRITE, scope="handler", cost=CONTENT)
def create(request: Request, name: NewDeploymentId, body: CreateBody) -> WrittenDeployment:
    """Create a deployment, validated in full, with its times and its rollout; answers what its author should know.

    `targeted` is how many devices it targets now, `readiness` has what the rules find in its content.
    """
    context = context_of(request)
    times = None if body.schedule is None else _schedule(name, body.schedule, Schedule())
    # What has a time to start waits for it anyway.
    waits = (body.hold or body.rollout is not None) and not (times and times.start_at)
    command = CreateDeployment(
        name,
        body.content,
        body.target_condition,
        body.priority,
        body.labels,
        body.metrics,
        admission=NotStarted() if waits else Everyone(),
        schedule=times,
    )
    rollout = [] if body.rollout is None else [CreateRollout(name, body.rollout)]
    try:
        advice, checked = context.do_together(author_of(request), command, *rollout)
    except PlanInvalid as error:
        raise PlanInvalid(name, f"rollout.{error.element}", error.rule) from error
    report, waivers = readiness_of(context, command, checked.get(name))
    return WrittenDeployment(
        name,
        *_targeted_now(request, name, advice),
        ReadinessAnswer.of(request, report, waivers),
        None if body.rollout is None else plan_text(body.rollout),
    )


@router.put("/deployments/{name}")
@Access(REGISTRY_WRITE, scope="handler", cost=CONTENT)
def update(
    request: Request, name: DeploymentId, body: UpdateBody, if_match: Annotated[str | None, Header()] = None
) -> WrittenDeployment:
    """Change what may change of a deployment; what is left out stays. Says so if a content was sent that is another."""
    context = context_of(request)
    command = UpdateDeployment(name, body.target_condition, body.priority, body.labels, body.metrics, if_match or "*")
    targeted, advice = _targeted_now(request, name, context.do(command, author_of(request)))
    if body.content is not None and _masked(in_modern_form(body.content)) != _masked(
        deployment_of(context, name).content
    ):
        advice.append(Advice("content-immutable", f"{name} keeps its content; another one is another deployment"))
    return WrittenDeployment(name, targeted, advice)


def _targeted_now(request: Request, name: str, advice: Iterable[Advice]) -> tuple[int | None, list[Advice]]:
    """How many devices a deployment targets that was just written, and what its author should know by now.

    Of layers and bases that outrank one another, those are told that have a device in common.
    """
    context = context_of(request)
    targeting = TargetedDevices(context.log, context.projections, context.fleet_projection)
    document, within = deployment_of(context, name), reach_of(request)
    targeted = targeting.count(name, within=within)
    if targeted is None:
        return None, list(advice)
    met = [one for one in advice if one.rule != "layer-not-above-base" or targeting.meet(name, one.about)]
    return targeted, [*met, *targeting.advice(name, document, targeted, within=within)]


def _masked(content: JsonObject) -> Any:
    return mask(extract(content, new_id=lambda: "0")[0])


@router.put("/deployments/{name}/schedule")
def schedule(request: Request, name: DeploymentId, body: ScheduleBody) -> DeploymentAnswer:
    """Move when a deployment starts, as long as it has not, or when it ends; what is left out stays, `null` takes it away."""
    document, _ = deployment_seen(request, name)
    former = Schedule() if document.schedule is UNSET else document.schedule
    context_of(request).do(ScheduleDeployment(name, _schedule(name, body, former)), author_of(request))
    return deployment(request, name)


def _schedule(name: str, body: ScheduleBody, former: Schedule) -> Schedule:
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


@router.post("/deployments/{name}/start")
def start(request: Request, name: HeldId) -> DeploymentAnswer:
    """Start a deployment now that waits for its time or for somebody, or its rollout where it has one."""
    document, _ = deployment_seen(request, name)
    context, author = context_of(request), author_of(request)
    if rollouts_of(context.log, [name]):
        context.do(StartRollout(name), author)
    elif isinstance(document.admission, NotStarted):
        # As it was read: what ends or is moved meanwhile is not started over that.
        context.do(ChangeAdmission(name, Everyone(), due_at=document.start_at), author)
    elif not context.is_repeat(author):
        raise ScheduleForbidden(name, "it has started already" if document.admission != Ended() else "it has ended")
    return deployment(request, name)


@router.post("/deployments/{name}/cancel")
def cancel(request: Request, name: HeldId, body: ActBody = _SILENTLY) -> DeploymentAnswer:
    """End a deployment, and its rollout with it: from here on it targets nobody."""
    context = context_of(request)
    deployment_seen(request, name)
    rollout = rollouts_of(context.log, [name]).get(name)
    abort = [] if rollout is None or rollout.is_over else [AbortRollout(name, body.reason)]
    context.do_together(author_of(request), *_record(context, name, rollout), *abort, ChangeAdmission(name, Ended()))
    return deployment(request, name)


def _record(context: ApiContext, name: str, rollout: RolloutDocument | None) -> list[RolloutCommand]:
    """How the devices of a rollout stand, before its deployment ends: afterwards no device has it any more."""
    if rollout is None or rollout.results is not UNSET or rollout.state not in ALLOWED[RecordResults]:
        return []
    return [RecordResults(name, context.rollout_states.results(name, rollout, context.clock()))]
