"""`/v1/readiness` and `/v1/waivers`: the fleet's score, the devices with findings, a device's report, and waivers."""

import datetime as dt
from typing import Literal, Self

import msgspec
from fastapi import Request

from events.deployment.commands import CreateDeployment
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
from services.api.context.api_context import ApiContext
from services.api.context.pages import DevicePage, PageInQuery, page
from services.api.context.request import caller_of, context_of, existing, reach_of, write
from services.api.http.access import REGISTRY_READ, REGISTRY_WRITE, TWIN_READ, Access
from services.api.http.errors import BodyInvalid, NotFound
from services.api.http.json_answer import AnswerBody
from services.api.http.path_names import DeviceId, RuleName, WaiverName
from services.api.http.request_costs import LONG
from services.api.v1.bodies import WaiverBody
from services.api.v1.router import v1_router

router = v1_router(read=Access(REGISTRY_READ, scope="handler", at=True, cost=LONG), write=Access(REGISTRY_WRITE))


class WaiverAnswer(AnswerBody):
    """A waiver. `until` is its last day (UTC). `who` is the principal that granted it last, at `grantedAt` (milliseconds)."""

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
    """A finding that is accepted, and the waiver that accepts it."""

    finding: Finding
    waiver: WaiverAnswer


class ReadinessAnswer(AnswerBody):
    """The findings of a check, the worst first. `expired` waivers have no effect, `unknownLabels` are labels without a rule."""

    profile: str
    findings: tuple[Finding, ...]
    waived: list[WaivedFinding]
    expired: list[WaiverAnswer]
    unknown_labels: tuple[str, ...]

    @classmethod
    def of(cls, request: Request, report: ReadinessReport, waivers: "Waivers", **members: str) -> Self:
        """The answer of a report. A caller with a scope sees only the waivers of its findings.

        `members` are the members that a subclass adds.
        """
        waived = [WaivedFinding(each.finding, waivers.of(each.waiver)[0]) for each in report.waived]
        return cls.filled(report, waived=waived, expired=waivers.expired(request), **members)


class DeviceReadiness(ReadinessAnswer):
    """The findings of a device. `document` is the deployment that wrote the element, or the device if that is unknown."""

    device_id: str


class RuleScore(AnswerBody):
    """The number of devices with findings of a rule, and their share of the fleet (0 to 1).

    `waived` is the number of devices that have accepted findings of the rule.
    """

    rule: str
    title: str
    severity: Severity
    devices: int
    share: float
    waived: int


class FleetScore(AnswerBody):
    """The score of the fleet by rule, the worst severity first. `devices` is the number of all devices."""

    profile: str
    devices: int
    rules: list[RuleScore]
    expired: list[WaiverAnswer]


class Waivers(msgspec.Struct, frozen=True):
    """The waivers at a time in milliseconds, by id."""

    now: int
    by_id: dict[str, WaiverDocument]

    @property
    def all(self) -> tuple[Waiver, ...]:
        """The waivers as a check takes them."""
        return tuple(document.waiver for document in self.by_id.values())

    def of(self, *waivers: Waiver) -> list[WaiverAnswer]:
        """The answers of some of these waivers."""
        return [self.answer(name) for name, document in self.by_id.items() if document.waiver in waivers]

    def answer(self, name: str) -> WaiverAnswer:
        """The answer of a waiver by its id.

        Raises:
            WaiverNotFound: the id is unknown.
        """
        document = self.by_id.get(name)
        if document is None:
            raise WaiverNotFound(name)
        return WaiverAnswer.filled(document, id=name, expired=document.waiver.expired(self.now))

    def expired(self, request: Request) -> list[WaiverAnswer]:
        """The expired waivers; none for a caller with a scope, as their reasons can be about devices outside of it."""
        is_limited = caller_of(request).scope is not None
        return [] if is_limited else self.of(*(waiver for waiver in self.all if waiver.expired(self.now)))


def current_waivers(context: ApiContext) -> Waivers:
    """The waivers of now, or of the point in time of the request."""
    return Waivers(context.clock(), dict(waivers_of(context.log)))


def readiness_of(
    context: ApiContext, command: CreateDeployment, checked: CheckedReadiness | None
) -> tuple[ReadinessReport, Waivers]:
    """The findings of a deployment that was created: those of the readiness policy, or else those of a check now."""
    if checked is not None:
        return checked.report, Waivers(context.clock(), dict(checked.waivers))
    waivers = current_waivers(context)
    return report_on(command, context.profile, waivers=waivers.all, now=waivers.now), waivers


def _rules_of_score(profile: Profile) -> dict[str, Severity]:
    """The rules of the score with their severity, the worst first: the enabled rules about what devices run."""
    about_fleet = (rule.id for rule in RULES if rule.inspects not in (Inspects.HOST, Inspects.NOTHING))
    severities = {rule: severity for rule in about_fleet if (severity := profile.severity_of(rule)) is not None}
    return dict(sorted(severities.items(), key=lambda item: RANK[item[1]]))


@router.get("/readiness")
def score(request: Request) -> FleetScore:
    """The number of devices with findings of each rule in what they should run. Each count is the length of its list."""
    context = context_of(request)
    within, waivers = reach_of(request), current_waivers(context)
    severities, (devices, _) = _rules_of_score(context.profile), context.fleet_projection.totals(within=within)
    counts = context.readiness.counts(severities, waivers=waivers.all, now=waivers.now, within=within)
    rules = []
    for rule, severity in severities.items():
        count = counts[rule]
        share = count.found / devices if devices else 0.0
        rules.append(RuleScore(rule, BY_ID[rule].title, severity, count.found, share, count.waived))
    return FleetScore(context.profile.name, devices, rules, waivers.expired(request))


@router.get("/readiness/{rule}")
def devices_of(
    request: Request, rule: RuleName, query: PageInQuery, which: Literal["found", "waived"] = "found"
) -> DevicePage:
    """The devices with findings of a rule, or those with waived findings, page by page. A device can be in both lists."""
    context = context_of(request)
    waivers, rules = current_waivers(context), _rules_of_score(context.profile)
    if rule not in rules:
        raise NotFound(
            f"no rule {rule[:80]!r} in the fleet's score by the profile {context.profile.name}; there are {', '.join(rules)}"
        )
    members = context.readiness.members(
        rule,
        lambda devices: devices.found if which == "found" else devices.waived,
        waivers=waivers.all,
        now=waivers.now,
    )
    after, limit, within = query.after(context), query.limit, reach_of(request)
    return page(context, context.fleet_projection.page_of(members, after=after, limit=limit, within=within))


@router.get("/devices/{device_id}/readiness")
@Access(TWIN_READ, scope="device", at=True, cost=LONG)
def device(request: Request, device_id: DeviceId) -> DeviceReadiness:
    """The findings of a device: in what it should run, and in what it reports of its host."""
    context = context_of(request)
    effective = existing(device_id, context.fleet_projection.effective(device_id))
    reported = existing(device_id, context.twins.device(device_id))["properties"]["reported"]
    waivers = current_waivers(context)
    report = context.readiness.report(effective, reported, context.profile, waivers=waivers.all, now=waivers.now)
    return DeviceReadiness.of(request, report, waivers, device_id=device_id)


@router.get("/waivers")
@Access(REGISTRY_READ, at=True)
def list_waivers(request: Request) -> list[WaiverAnswer]:
    """All waivers by id. A waiver whose last day is over is listed as expired until it is withdrawn."""
    waivers = current_waivers(context_of(request))
    return [waivers.answer(name) for name in waivers.by_id]


@router.get("/waivers/{name}")
@Access(REGISTRY_READ, at=True)
def get_waiver(request: Request, name: WaiverName) -> WaiverAnswer:
    """A waiver."""
    return current_waivers(context_of(request)).answer(name)


@router.put("/waivers/{name}")
def put_waiver(request: Request, name: WaiverName, body: WaiverBody) -> WaiverAnswer:
    """Accept the findings of a rule for a time, or change such a waiver. The caller is recorded as its author."""
    try:
        until = msgspec.convert(body.until, dt.date)
    except msgspec.ValidationError as error:
        raise BodyInvalid(f"`until` must be the last day, as in 2027-03-31, not {body.until[:40]!r}") from error
    write(request, GrantWaiver(name, body.rule, body.reason, until, body.module, body.deployment))
    return get_waiver(request, name)


@router.delete("/waivers/{name}", status_code=204)
def delete_waiver(request: Request, name: WaiverName) -> None:
    """Withdraw a waiver: its findings count again."""
    write(request, WithdrawWaiver(name))
