"""Readiness over HTTP: the fleet's score, each rule's devices, a device's report, and waivers."""

import datetime as dt
from typing import Annotated, Literal

import msgspec
from fastapi import Query, Request
from pyroaring import BitMap

from events.canonical import JsonObject
from events.deployment.commands import CreateDeployment
from events.device.errors import DeviceNotFound
from events.log.fleet_documents import waivers as waivers_of
from events.manifest.problem import Severity
from events.producer.readiness import CheckedReadiness, report_on
from events.readiness.catalogue import BY_ID, RULES
from events.readiness.check import RANK, Report
from events.readiness.commands import GrantWaiver, WithdrawWaiver
from events.readiness.errors import WaiverNotFound
from events.readiness.profile import Profile
from events.readiness.rule import LooksAt
from events.readiness.state import WaiverDocument
from events.readiness.waiver import Waiver
from events.views.readiness import Stopped
from services.api.context.api_context import Room
from services.api.context.pages import PAGE_MAX, page, place_of
from services.api.context.request import author_of, caller_of, room_of
from services.api.http.access import REGISTRY_READ, REGISTRY_WRITE, TWIN_READ, Access
from services.api.http.errors import BodyInvalid, NotFound
from services.api.http.openapi import answers
from services.api.http.path_names import DeviceId, RuleName, WaiverName
from services.api.http.request_costs import LONG
from services.api.v1 import described
from services.api.v1.bodies import WaiverBody
from services.api.v1.router import v1_router

router = v1_router(read=Access(REGISTRY_READ, scope="handler", at=True, cost=LONG))


class Waivers(msgspec.Struct, frozen=True):
    """The waivers that stood at a time in milliseconds, and by whom reports say they were decided."""

    now: int
    by_id: dict[str, WaiverDocument]

    @property
    def all(self) -> tuple[Waiver, ...]:
        """As a check takes them."""
        return tuple(document.waiver for document in self.by_id.values())

    def lines(self, some: tuple[Waiver, ...]) -> list[JsonObject]:
        """Some of them for people, by id."""
        return [self.line(name) for name, document in self.by_id.items() if document.waiver in some]

    def line(self, name: str) -> JsonObject:
        """One of them for people."""
        document = self.by_id[name]
        return {
            "id": name,
            "rule": document.rule,
            "module": document.module,
            "deployment": document.deployment,
            "reason": document.reason,
            "until": document.until.isoformat(),
            "who": document.who,
            "grantedAt": document.granted_at,
            "expired": document.waiver.expired(self.now),
        }


def waivers_at(room: Room) -> Waivers:
    """The waivers as they stand now."""
    return Waivers(room.clock(), dict(waivers_of(room.log)))


def readiness_of(room: Room, command: CreateDeployment, checked: CheckedReadiness | None) -> tuple[Report, Waivers]:
    """What the rules find in a deployment that was created: as the policy found, or, if it was not asked, found now."""
    if checked is not None:
        return checked.report, Waivers(room.clock(), dict(checked.waivers))
    waivers = waivers_at(room)
    return report_on(command, room.profile, waivers=waivers.all, now=waivers.now), waivers


def report_shape(request: Request, report: Report, waivers: Waivers) -> JsonObject:
    """A report for people; whoever is scoped sees the waivers of its findings, and no others."""
    return {
        "profile": report.profile,
        "findings": [msgspec.to_builtins(one) for one in report.findings],
        "waived": [
            {"finding": msgspec.to_builtins(one.finding), "waiver": waivers.lines((one.waiver,))[0]}
            for one in report.waived
        ],
        "expired": _expired(request, waivers),
        "unknownLabels": list(report.unknown_labels),
    }


def _expired(request: Request, waivers: Waivers) -> list[JsonObject]:
    if caller_of(request).scope is not None:
        return []
    return waivers.lines(tuple(waiver for waiver in waivers.all if waiver.expired(waivers.now)))


# -- reports


def _counted(profile: Profile) -> dict[str, Severity]:
    """The rules of the score, the worst first: those on what devices run, as far as they are on."""
    about = (rule.id for rule in RULES if rule.looks_at not in (LooksAt.HOST, LooksAt.NOTHING))
    severities = {rule: severity for rule in about if (severity := profile.severity_of(rule)) is not None}
    return dict(sorted(severities.items(), key=lambda item: RANK[item[1]]))


@router.get("/readiness", response_model=None, responses=answers(described.Score))
def score(request: Request) -> JsonObject:
    """How many devices each rule stops at by what they should run; each count is that of its list."""
    room, within, waivers = room_of(request), room_of(request).within(caller_of(request)), waivers_at(room_of(request))
    severities, (devices, _) = _counted(room.profile), room.view.totals(within=within)
    counts = room.readiness.counts(severities, waivers=waivers.all, now=waivers.now, within=within)
    return {
        "profile": room.profile.name,
        "devices": devices,
        "rules": [
            {
                "rule": rule,
                "title": BY_ID[rule].title,
                "severity": severity.value,
                "devices": counts[rule].found,
                "share": counts[rule].found / devices if devices else 0.0,
                "waived": counts[rule].waived,
            }
            for rule, severity in severities.items()
        ],
        "expired": _expired(request, waivers),
    }


@router.get("/readiness/{rule}", response_model=None, responses=answers(described.DevicePage))
def devices_of(
    request: Request,
    rule: RuleName,
    which: Annotated[Literal["found", "waived"], Query()] = "found",
    top: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
    continuation: Annotated[str | None, Query()] = None,
) -> JsonObject:
    """The devices a rule stops at, or those of its findings that are waived, page by page; some are in both."""
    room, waivers = room_of(request), waivers_at(room_of(request))
    if rule not in _counted(room.profile):
        raise NotFound(f"no rule {rule[:80]!r} of the fleet's score by the profile {room.profile.name}")

    def members(stopped: Stopped) -> BitMap:
        return stopped.found if which == "found" else stopped.waived

    found = room.readiness.page(
        rule,
        members,
        waivers=waivers.all,
        now=waivers.now,
        after=place_of(room.continuations.open(continuation)),
        limit=top,
        within=room.within(caller_of(request)),
    )
    return page(room, found)


@router.get("/devices/{device_id}/readiness", response_model=None, responses=answers(described.DeviceReadiness))
@Access(TWIN_READ, scope="device", at=True, cost=LONG)
def device(request: Request, device_id: DeviceId) -> JsonObject:
    """Every finding on one device: on what it should run, and on what it reports of its host."""
    room = room_of(request)
    effective, twin = room.view.effective(device_id), room.twins.device(device_id)
    if effective is None or twin is None:
        raise DeviceNotFound(device_id)
    waivers = waivers_at(room)
    report = room.readiness.report(
        effective, twin["properties"]["reported"], room.profile, waivers=waivers.all, now=waivers.now
    )
    return {"deviceId": device_id, **report_shape(request, report, waivers)}


# -- waivers


@router.get("/waivers", response_model=None, responses=answers(list[described.WaiverLine]))
@Access(REGISTRY_READ, at=True)
def list_waivers(request: Request) -> list[JsonObject]:
    """All waivers by id; one whose last day is over stands as expired until it is withdrawn."""
    waivers = waivers_at(room_of(request))
    return [waivers.line(name) for name in waivers.by_id]


@router.get("/waivers/{name}", response_model=None, responses=answers(described.WaiverLine))
@Access(REGISTRY_READ, at=True)
def get_waiver(request: Request, name: WaiverName) -> JsonObject:
    """One waiver."""
    waivers = waivers_at(room_of(request))
    if name not in waivers.by_id:
        raise WaiverNotFound(name)
    return waivers.line(name)


@router.put("/waivers/{name}", response_model=None, responses=answers(described.WaiverLine))
@Access(REGISTRY_WRITE)
def put_waiver(request: Request, name: WaiverName, body: WaiverBody) -> JsonObject:
    """Let findings of a rule stand for a time, or change the terms; whoever asks is who decided."""
    try:
        until = msgspec.convert(body.until, dt.date)
    except msgspec.ValidationError as error:
        raise BodyInvalid("until is the last day, as in 2027-03-31") from error
    command = GrantWaiver(name, body.rule, body.reason, until, body.module, body.deployment)
    room_of(request).do(command, author_of(request))
    return get_waiver(request, name)


@router.delete("/waivers/{name}", status_code=204)
@Access(REGISTRY_WRITE)
def delete_waiver(request: Request, name: WaiverName) -> None:
    """Withdraw a waiver: its findings count again."""
    room_of(request).do(WithdrawWaiver(name), author_of(request))
