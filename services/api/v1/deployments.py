"""`/v1/deployments`: create, change and list deployments, with their schedules and the devices in each status."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self, get_args

from fastapi import Header, Query, Request
from msgspec import UNSET, UnsetType

from events.deployment.advice import OUTRANKED, Advice
from events.deployment.commands import ChangeAdmission, CreateDeployment, ScheduleDeployment, UpdateDeployment
from events.deployment.errors import ScheduleForbidden, ScheduleInvalid
from events.deployment.events import Admission, Ended, Everyone, Kept, NotStarted, Schedule
from events.deployment.state import DeploymentDocument, etag_of
from events.fleet.deployment_status import STATUSES
from events.log.errors import LogUnavailable
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
from services.api.context.deployments import deployment_of, deployment_seen, deployments_seen
from services.api.context.pages import DevicePage, PageInQuery, page
from services.api.context.request import author_of, caller_of, context_of, reach_of, write
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
_NO_REASON = ActBody()
_OVER = {RolloutState.COMPLETED: "Everyone", RolloutState.CREATED: "NotStarted"} | dict.fromkeys(
    (RolloutState.ROLLING_BACK, RolloutState.ROLLED_BACK, RolloutState.HALTED), "Ended"
)
_ADMISSIONS = (*(kind.__name__ for kind in (*get_args(Admission), Kept)), "Phased")


class DeploymentTimes(AnswerBody):
    """When a deployment starts and ends: in milliseconds, and as RFC 3339 in its time zone. `null` means not set."""

    start_at: int | None
    end_at: int | None
    start: str | None
    end: str | None
    zone: str


class DeploymentLine(AnswerBody):
    """A deployment in a list. `rollout` is the state of its rollout. `says` is a sentence on which devices it admits now."""

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
        """A deployment for the caller. `members` are the members that a subclass adds."""
        # A rollout counts devices of the whole fleet: a caller with another scope learns only that there is one.
        is_seen = rollout is None or caller_of(request).owns(document)
        # The admission that the partitions apply: that of the rollout in place of the deployment's own.
        admission = type(document.admission).__name__
        if rollout is not None and isinstance(document.admission, NotStarted):
            admission = _OVER.get(rollout.state, "Phased" if rollout.phase >= 0 else "NotStarted")
        times = None
        if (schedule := document.schedule) is not UNSET:
            start_at, end_at = schedule.start_at or None, schedule.end_at or None
            start, end = (at and local_time(at, schedule.zone) for at in (start_at, end_at))
            times = DeploymentTimes(start_at, end_at, start, end, schedule.zone)
        return cls.filled(
            document,
            id=name,
            kind=KIND_NAMES[document.kind],
            scope=None if document.scope is UNSET else document.scope,
            counts=dict(counts),
            admission=admission,
            schedule=times,
            rollout=None if rollout is None else rollout.state,
            says=admission_text(document, rollout, context_of(request).clock())
            if is_seen
            else "is rolled out in phases",
            **members,
        )


class DeploymentAnswer(DeploymentLine):
    """A deployment. Times are in milliseconds."""

    rolled_out: RolloutLine | None
    created_at: int
    updated_at: int
    etag: str


class WrittenDeployment(AnswerBody):
    """The result of a write of a deployment. `readiness` is that of its content; it is absent after an update.

    `targeted` is the number of devices that it targets now (of modules, for a configuration of modules), `null` while
    workers are behind. `planText` is present if the deployment was created with a rollout.
    """

    id: str
    targeted: int | None
    advice: list[Advice]
    readiness: ReadinessAnswer | UnsetType = UNSET
    plan_text: PlanText | UnsetType | None = UNSET


class StatusCounts(AnswerBody):
    """The number of devices in each status."""

    id: str
    counts: dict[str, int]


class DeploymentSeries(AnswerBody):
    """Samples of a deployment's counts and metrics, oldest first."""

    id: str
    samples: Sequence[Sample]


@router.get("/deployments")
@Access(REGISTRY_READ, scope="handler", at=True, cost=LONG)
def list_deployments(request: Request, label: Annotated[list[str] | None, Query()] = None) -> list[DeploymentLine]:
    """The deployments with all of the labels (`?label=team=x`), each with its counts, its times and its rollout's state."""
    labels = {}
    for text in label or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise BodyInvalid(f"label must be name=value, not {text[:80]!r}")
        labels[name] = value
    seen = list(deployments_seen(request, labels))
    rollouts = rollouts_of(context_of(request).log, (name for name, _, _ in seen))
    return [
        DeploymentLine.of(request, name, document, counts or {}, rollouts.get(name)) for name, document, counts in seen
    ]


@router.get("/deployments/{name}")
def deployment(request: Request, name: DeploymentId) -> DeploymentAnswer:
    """A deployment with its times, its rollout, its counts, and a sentence on which devices it admits."""
    context, (document, counts) = context_of(request), deployment_seen(request, name)
    rollout, rolled_out = rollouts_of(context.log, [name]).get(name), None
    if rollout is not None and caller_of(request).owns(document):
        (rolled_out,) = lines_of(context, {name: rollout}, {name: document})
    etag = etag_of(document)
    return DeploymentAnswer.of(request, name, document, counts, rollout, rolled_out=rolled_out, etag=etag)


@router.get("/deployments/{name}/status")
def status(request: Request, name: DeploymentId) -> StatusCounts:
    """The number of devices in each status. Each count is the length of its list."""
    _, counts = deployment_seen(request, name)
    return StatusCounts(name, dict(counts))


@router.get("/deployments/{name}/status/{which}")
def members(request: Request, name: DeploymentId, which: StatusName, query: PageInQuery) -> DevicePage:
    """The devices in a status, page by page. A device that stays in the status during the reads is on exactly one page."""
    if which not in STATUSES:
        raise NotFound(f"a deployment has no status {which[:40]!r}; allowed are {', '.join(STATUSES)}")
    context, within = context_of(request), reach_of(request)
    # Only what a caller with a scope can see depends on counts, and these are read from every partition.
    if within is None:
        deployment_of(context, name)
    else:
        deployment_seen(request, name)
    members, after = context.fleet_projection.in_status(name, which), query.after(context)
    return page(context, context.fleet_projection.page_of(members, after=after, limit=query.limit, within=within))


@router.get("/deployments/{name}/series")
@Access(REGISTRY_READ, scope="handler", at=True, cost=LONG)
def series(
    request: Request,
    name: DeploymentId,
    since: Annotated[int, Query(ge=0, le=POSITION_MAX)] = 0,
    limit: Annotated[int, Query(ge=1, le=SAMPLES_MAX)] = SAMPLES_MAX,
) -> DeploymentSeries:
    """The samples of a deployment's counts and metrics, about one a minute. Times are in milliseconds."""
    if caller_of(request).scope is not None:
        raise Forbidden("the caller is limited to a scope, and samples are of the whole fleet")
    context = context_of(request)
    deployment_of(context, name)
    return DeploymentSeries(name, SeriesStore(context.client).read(name, since=since, until=context.until, limit=limit))


@router.post("/deployments/{name}", status_code=201)
@Access(REGISTRY_WRITE, scope="handler", cost=CONTENT)
def create(request: Request, name: NewDeploymentId, body: CreateBody) -> WrittenDeployment:
    """Create a deployment with its schedule and its rollout. The answer has advice for the author.

    `targeted` is the number of devices that it targets now, `readiness` has the findings in its content.
    """
    context = context_of(request)
    times = None if body.schedule is None else _schedule(name, body.schedule, Schedule())
    # A deployment with a start time waits for it without this.
    waits = (body.hold or body.rollout is not None) and not (times and times.start_at)
    common = (body.target_condition, body.priority, body.labels, body.metrics)
    admission = NotStarted() if waits else Everyone()
    command = CreateDeployment(name, body.content, *common, admission=admission, schedule=times)
    rollout = [] if body.rollout is None else [CreateRollout(name, body.rollout)]
    try:
        advice, checked = context.do_together(author_of(request), command, *rollout)
    except PlanInvalid as error:
        raise PlanInvalid(name, f"rollout.{error.element}", error.rule) from error
    report, waivers = readiness_of(context, command, checked.get(name))
    findings = ReadinessAnswer.of(request, report, waivers)
    plan = None if body.rollout is None else plan_text(body.rollout)
    return WrittenDeployment(name, *_targeted_now(request, name, advice), findings, plan)


@router.put("/deployments/{name}")
@Access(REGISTRY_WRITE, scope="handler", cost=CONTENT)
def update(
    request: Request, name: DeploymentId, body: UpdateBody, if_match: Annotated[str | None, Header()] = None
) -> WrittenDeployment:
    """Change a deployment. A member that is left out stays. A content that differs is not applied, and answered with advice."""
    command = UpdateDeployment(name, body.target_condition, body.priority, body.labels, body.metrics, if_match or "*")
    targeted, advice = _targeted_now(request, name, write(request, command))
    if body.content is not None:
        contents = (in_modern_form(body.content), deployment_of(context_of(request), name).content)
        # Masked: the stored content has references where the sent one has secrets.
        sent, stored = (mask(extract(content, new_id=lambda: "0")[0]) for content in contents)
        if sent != stored:
            text = f"{name} keeps its content; create another deployment for another content"
            advice.append(Advice("content-immutable", text))
    return WrittenDeployment(name, targeted, advice)


def _targeted_now(request: Request, name: str, advice: Sequence[Advice]) -> tuple[int | None, list[Advice]]:
    """The number of devices that a deployment targets, and the advice for its author.

    `None` while workers are behind, or a partition does not answer: the deployment is in the log, and an error would say that
    it is not.
    """
    context = context_of(request)
    targeting = TargetedDevices(context.log, context.projections, context.fleet_projection)
    within = reach_of(request)
    try:
        document = deployment_of(context, name)
        targeted = targeting.count(name, within=within)
        if targeted is None:
            return None, list(advice)
        # A layer at or below a base matters only if a device has both. Commands are decided without the projections, so that
        # advice is given for every such base.
        meeting = targeting.meeting(name, [item.about for item in advice if item.rule == OUTRANKED])
        relevant = [item for item in advice if item.rule != OUTRANKED or item.about in meeting]
        return targeted, [*relevant, *targeting.advice(name, document, targeted, within=within)]
    except LogUnavailable:
        return None, list(advice)


@router.put("/deployments/{name}/schedule")
def schedule(request: Request, name: DeploymentId, body: ScheduleBody) -> DeploymentAnswer:
    """Change when a deployment starts, if it has not started, or when it ends. `null` removes a time; a missing one stays."""
    document, _ = deployment_seen(request, name)
    current = Schedule() if document.schedule is UNSET else document.schedule
    write(request, ScheduleDeployment(name, _schedule(name, body, current)))
    return deployment(request, name)


def _schedule(name: str, body: ScheduleBody, current: Schedule) -> Schedule:
    """The schedule after a body: a time that it leaves out stays.

    Raises:
        ScheduleInvalid: a time cannot be read.
    """
    zone = body.zone or current.zone

    def moved(element: str, at: int) -> int:
        if element not in body.model_fields_set:
            return at
        text = getattr(body, element)
        try:
            return 0 if text is None else read_time(text, zone)
        except TimeUnreadable as error:
            raise ScheduleInvalid(name, element, error.rule) from error

    return Schedule(moved("start", current.start_at), moved("end", current.end_at), zone)


@router.post("/deployments/{name}/start")
def start(request: Request, name: HeldId) -> DeploymentAnswer:
    """Start a deployment that waits for its time or for an operator. A rollout is started in its place."""
    document, _ = deployment_seen(request, name)
    context = context_of(request)
    if rollouts_of(context.log, [name]):
        write(request, StartRollout(name))
    elif isinstance(document.admission, NotStarted):
        # `due_at` as it was read: a deployment that ends or is rescheduled at the same time is not started over that.
        write(request, ChangeAdmission(name, Everyone(), due_at=document.start_at))
    elif not context.is_repeat(author_of(request)):
        raise ScheduleForbidden(name, "it has started already" if document.admission != Ended() else "it has ended")
    return deployment(request, name)


@router.post("/deployments/{name}/cancel")
def cancel(request: Request, name: HeldId, body: ActBody = _NO_REASON) -> DeploymentAnswer:
    """End a deployment and its rollout. It targets no device any more."""
    context = context_of(request)
    deployment_seen(request, name)
    rollout = rollouts_of(context.log, [name]).get(name)
    commands: list[RolloutCommand] = []
    # The states of the rollout's devices are recorded before the deployment ends: afterwards no device has it, and every
    # failed one would be in no list (decision 0034).
    if rollout is not None and rollout.results is UNSET and rollout.state in ALLOWED[RecordResults]:
        commands.append(RecordResults(name, context.rollout_states.results(name, rollout, context.clock())))
    if rollout is not None and not rollout.is_over:
        commands.append(AbortRollout(name, body.reason))
    context.do_together(author_of(request), *commands, ChangeAdmission(name, Ended()))
    return deployment(request, name)
