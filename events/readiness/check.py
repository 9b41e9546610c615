"""The check: every rule of a profile held against a subject."""

from collections.abc import Iterable, Sequence

import msgspec

from events.manifest.problem import Severity
from events.manifest.shape import shown
from events.readiness.catalogue import RULES
from events.readiness.finding import Finding, Hit, finding
from events.readiness.pointer import Operation, overlap
from events.readiness.profile import Profile, labelled
from events.readiness.rule import Inspects, Rule
from events.readiness.subject import ReadinessSubject
from events.readiness.waiver import Waiver

RANK = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}
"""The worst first."""


class Waived(msgspec.Struct, frozen=True):
    """A finding that may stand, and the decision."""

    finding: Finding
    waiver: Waiver


class ReadinessReport(msgspec.Struct, frozen=True):
    """What a check found, the worst first, then in the order of the rules and of the document.

    `waived` are not among the `findings`. `expired` are all waivers whose time is over; `unknown_labels` begin as
    labels of readiness do and say nothing known.
    """

    profile: str
    findings: tuple[Finding, ...]
    waived: tuple[Waived, ...] = ()
    expired: tuple[Waiver, ...] = ()
    unknown_labels: tuple[str, ...] = ()

    def on(self, findings: Iterable[Finding], *, now: int, waivers: Sequence[Waiver]) -> "ReadinessReport":
        """The same report on other findings, told apart by waivers at a time in milliseconds."""
        counting: list[Finding] = []
        waived: list[Waived] = []
        for found in findings:
            waiver = next((waiver for waiver in waivers if waiver.applies(found, now)), None)
            if waiver is None:
                counting.append(found)
            else:
                waived.append(Waived(found, waiver))
        expired = tuple(waiver for waiver in waivers if waiver.expired(now))
        return msgspec.structs.replace(self, findings=tuple(counting), waived=tuple(waived), expired=expired)


def check(subject: ReadinessSubject, profile: Profile, *, now: int, waivers: Sequence[Waiver] = ()) -> ReadinessReport:
    """Hold the rules of a profile, as the labels of the last document change it, against a subject.

    `now` is in milliseconds. Any document is answered, however odd, and no time or place but what is given counts.
    """
    profile, unknown = labelled(profile, subject.last.labels)
    report = ReadinessReport(profile.name, (), unknown_labels=tuple(map(shown, unknown)))
    return report.on([found for _, found in _found(subject, profile, now)], now=now, waivers=waivers)


def fixes(
    subject: ReadinessSubject, profile: Profile, *, now: int, waivers: Sequence[Waiver] = ()
) -> tuple[tuple[Finding, tuple[Operation, ...]], ...]:
    """Patches of the last document for findings that have one, as far as they do not touch the same place.

    What is waived stays. After these patches a document may have others: ask again until there are none.
    """
    profile, _ = labelled(profile, subject.last.labels)
    chosen: list[tuple[Finding, tuple[Operation, ...]]] = []
    for hit, found in _found(subject, profile, now):
        if not hit.fix or any(waiver.applies(found, now) for waiver in waivers):
            continue
        if not any(overlap(hit.fix, fix) for _, fix in chosen):
            chosen.append((found, hit.fix))
    return tuple(chosen)


def _found(subject: ReadinessSubject, profile: Profile, now: int) -> list[tuple[Hit, Finding]]:
    pairs: list[tuple[Hit, Finding]] = []
    for rule in RULES:
        severity = profile.severity_of(rule.id)
        if severity is None or not _is_about(rule, subject):
            continue
        for hit in rule.find(subject, now):
            document = subject.documents[hit.location.document].name
            pairs.append((hit, finding(hit, rule=rule.id, severity=severity, document=document)))
    return sorted(pairs, key=lambda pair: RANK[pair[1].severity])


def _is_about(rule: Rule, subject: ReadinessSubject) -> bool:
    match rule.inspects:
        case Inspects.PART | Inspects.HOST:
            return True
        case Inspects.WHOLE:
            return subject.whole
        case Inspects.LAYER:
            return subject.last.layered
        case Inspects.NOTHING:
            return False
