"""Readiness over HTTP: the fleet's score, each rule's devices, a device's report, and waivers."""

import datetime as dt
from typing import Annotated, Literal, Self

import msgspec
from fastapi import Depends, Query, Request
from pyroaring import BitMap

from events.deployment.commands import CreateDeployment
from events.device.errors import DeviceNotFound
from events.log.fleet_documents import waivers as waivers_of
from events.manifest.problem import Severity
from events.producer.readiness import CheckedReadiness, report_on
from events.readiness.catalogue import BY_ID, RULES
from events.readiness.check import RANK, ReadinessReport
from events.readiness.commands import GrantWaiver, WithdrawWaiver
from events.readiness.errors import WaiverNotFound
from events.readiness.finding import Finding
from events.readiness.profile import Profile
from events.readiness.rule import Inspects
from events.readiness.state import WaiverDocument
from events.readiness.waiver import Waiver
from events.stored_projection.readiness import StoppedDevices
from services.api.context.api_context import ApiContext
from services.api.context.pages import DevicePage, PageQuery, page
from services.api.context.request import author_of, caller_of, context_of, reach_of
from services.api.http.access import REGISTRY_READ, REGISTRY_WRITE, TWIN_READ, Access
from services.api.http.errors import BodyInvalid, NotFound
from services.api.http.json_answer import AnswerBody
from services.api.http.path_names import DeviceId, RuleName, WaiverName
from services.api.http.request_costs import LONG
from services.api.v1.bodies import WaiverBody
from services.api.v1.router import v1_router

router = v1_router(read=Access(REGISTRY_READ, scope="handler", at=True, cost=LONG))


class WaiverAnswer(AnswerBody):
    """A waiver. `until` is its last day (UTC), `who` granted it last, at `grantedAt` (milliseconds)."""

    id: str
    rule: str
    module: str | None
    deployment: str | None
    reason: str
    until: dt.date
    who: str
    granted_at: int
    expired: bool


class WaivedFinding(AnswerBody):
    """A finding that may stand, and the decision."""

    finding: Finding
    waiver: WaiverAnswer


class ReadinessAnswer(AnswerBody):
    """What a check found, the worst first; `expired` waivers do not count any more, `unknownLabels` say nothing known."""

    profile: str
    findings: tuple[Finding, ...]
    waived: list[WaivedFinding]
    expired: list[WaiverAnswer]
    unknown_labels: tuple[str, ...]

    @classmethod
    def of(cls, request: Request, report: ReadinessReport, waivers: "Waivers", **members: str) -> Self:
        """A report for the caller, who sees the waivers of its findings alone where they have a scope.

        `members` are those that a subclass adds.
        """
        return cls(
            profile=report.profile,
            findings=report.findings,
            waived=[WaivedFinding(waived.finding, waivers.of(waived.waiver)[0]) for waived in report.waived],
            expired=_expired(request, waivers),
            unknown_labels=report.unknown_labels,
            **members,
        )


class DeviceReadiness(ReadinessAnswer):
    """Of one device. `document` is the deployment that wrote the element, or the device where that is not known."""

    device_id: str


class RuleScore(AnswerBody):
    """How many devices a rule stops at, and what share of the fleet (0 to 1); some findings of `waived` ones may stand."""

    rule: str
    title: str
    severity: Severity
    devices: int
    share: float
    waived: int


class FleetScore(AnswerBody):
    """The fleet by rule, the worst first; `devices` are all there are."""

    profile: str
    devices: int
    rules: list[RuleScore]
    expired: list[WaiverAnswer]


class Waivers(msgspec.Struct, frozen=True):
    """The waivers that stood at a time in milliseconds, and by whom reports say they were decided."""

    now: int
    by_id: dict[str, WaiverDocument]

    @property
    def all(self) -> tuple[Waiver, ...]:
        """As a check takes them."""
        return tuple(document.waiver for document in self.by_id.values())

    def of(self, *waivers: Waiver) -> list[WaiverAnswer]:
        """Some of them for people, by id."""
        return [self.answer(name) for name, document in self.by_id.items() if document.waiver in waivers]

    def answer(self, name: str) -> WaiverAnswer:
        """A waiver for people.

        Raises:
            WaiverNotFound: there is none of that id.
        """
        document = self.by_id.get(name)
        if document is None:
            raise WaiverNotFound(name)
        return WaiverAnswer(
            name,
            document.rule,
            document.module,
            document.deployment,
            document.reason,
            document.until,
            document.who,
            document.granted_at,
            document.waiver.expired(self.now),
        )


def waivers_at(context: ApiContext) -> Waivers:
    """The waivers as they stand now."""
    return Waivers(context.clock(), dict(waivers_of(context.log)))


def readiness_of(
    context: ApiContext, command: CreateDeployment, checked: CheckedReadiness | None
) -> tuple[ReadinessReport, Waivers]:
    """What the rules find in a deployment that was created: as the policy found, or, if it was not asked, found now."""
    if checked is not None:
        return checked.report, Waivers(context.clock(), dict(checked.waivers))
    waivers = waivers_at(context)
    return report_on(command, context.profile, waivers=waivers.all, now=waivers.now), waivers


def _expired(request: Request, waivers: Waivers) -> list[WaiverAnswer]:
    if caller_of(request).scope is not None:
        return []
    return waivers.of(*(waiver for waiver in waivers.all if waiver.expired(waivers.now)))


# -- reports


def _counted(profile: Profile) -> dict[str, Severity]:
    """The rules of the score, the worst first: those on what devices run, as far as they are on."""
    about = (rule.id for rule in RULES if rule.inspects not in (Inspects.HOST, Inspects.NOTHING))
    severities = {rule: severity for rule in about if (severity := profile.severity_of(rule)) is not None}
    return dict(sorted(severities.items(), key=lambda item: RANK[item[1]]))


@router.get("/readiness")
def score(request: Request) -> FleetScore:
    """How many devices each rule stops at by what they should run; each count is that of its list."""
    context, within, waivers = (
        context_of(request),
        reach_of(request),
        waivers_at(context_of(request)),
    )
    severities, (devices, _) = _counted(context.profile), context.fleet_projection.totals(within=within)
    counts = context.readiness.counts(severities, waivers=waivers.all, now=waivers.now, within=within)
    rules = [
        RuleScore(
            rule,
            BY_ID[rule].title,
            severity,
            counts[rule].found,
            counts[rule].found / devices if devices else 0.0,
            counts[rule].waived,
        )
        for rule, severity in severities.items()
    ]
    return FleetScore(context.profile.name, devices, rules, _expired(request, waivers))


@router.get("/readiness/{rule}")
def devices_of(
    request: Request,
    rule: RuleName,
    query: Annotated[PageQuery, Depends()],
    which: Annotated[Literal["found", "waived"], Query()] = "found",
) -> DevicePage:
    """The devices a rule stops at, or those of its findings that are waived, page by page; some are in both."""
    context, waivers = context_of(request), waivers_at(context_of(request))
    if rule not in _counted(context.profile):
        raise NotFound(f"no rule {rule[:80]!r} of the fleet's score by the profile {context.profile.name}")

    def members(stopped: StoppedDevices) -> BitMap:
        return stopped.found if which == "found" else stopped.waived

    found = context.readiness.page(
        rule,
        members,
        waivers=waivers.all,
        now=waivers.now,
        after=query.after(context),
        limit=query.limit,
        within=reach_of(request),
    )
    return page(context, found)


@router.get("/devices/{device_id}/readiness")
@Access(TWIN_READ, scope="device", at=True, cost=LONG)
def device(request: Request, device_id: DeviceId) -> DeviceReadiness:
    """Every finding on one device: on what it should run, and on what it reports of its host."""
    context = context_of(request)
    effective, twin = context.fleet_projection.effective(device_id), context.twins.device(device_id)
    if effective is None or twin is None:
        raise DeviceNotFound(device_id)
    waivers = waivers_at(context)
    report = context.readiness.report(
        effective, twin["properties"]["reported"], context.profile, waivers=waivers.all, now=waivers.now
    )
    return DeviceReadiness.of(request, report, waivers, device_id=device_id)


# -- waivers


@router.get("/waivers")
@Access(REGISTRY_READ, at=True)
def list_waivers(request: Request) -> list[WaiverAnswer]:
    """All waivers by id; one whose last day is over stands as expired until it is withdrawn."""
    waivers = waivers_at(context_of(request))
    return [waivers.answer(name) for name in waivers.by_id]


@router.get("/waivers/{name}")
@Access(REGISTRY_READ, at=True)
def get_waiver(request: Request, name: WaiverName) -> WaiverAnswer:
    """One waiver."""
    return waivers_at(context_of(request)).answer(name)


@router.put("/waivers/{name}")
@Access(REGISTRY_WRITE)
def put_waiver(request: Request, name: WaiverName, body: WaiverBody) -> WaiverAnswer:
    """Let findings of a rule stand for a time, or change the terms; whoever asks is who decided."""
    try:
        until = msgspec.convert(body.until, dt.date)
    except msgspec.ValidationError as error:
        raise BodyInvalid("until is the last day, as in 2027-03-31") from error
    command = GrantWaiver(name, body.rule, body.reason, until, body.module, body.deployment)
    context_of(request).do(command, author_of(request))
    return get_waiver(request, name)


@router.delete("/waivers/{name}", status_code=204)
@Access(REGISTRY_WRITE)
def delete_waiver(request: Request, name: WaiverName) -> None:
    """Withdraw a waiver: its findings count again."""
    context_of(request).do(WithdrawWaiver(name), author_of(request))
