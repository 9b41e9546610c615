"""The check: it applies every rule of a profile to a subject."""

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

RANK = {severity: rank for rank, severity in enumerate(Severity)}
"""The rank of each severity; the worst is 0."""


class Waived(msgspec.Struct, frozen=True):
    """A finding that is not counted, and the waiver that covers it."""

    finding: Finding
    waiver: Waiver


class ReadinessReport(msgspec.Struct, frozen=True):
    """The result of a check: findings by severity, the worst first, then in the order of the rules and the document.

    Waived findings are in `waived` and not in `findings`. `expired` lists the waivers whose last day is over, and
    `unknown_labels` the labels that begin with `readiness.` and name no rule, profile or severity.
    """

    profile: str
    findings: tuple[Finding, ...]
    waived: tuple[Waived, ...] = ()
    expired: tuple[Waiver, ...] = ()
    unknown_labels: tuple[str, ...] = ()

    def on(self, findings: Iterable[Finding], *, now: int, waivers: Sequence[Waiver]) -> "ReadinessReport":
        """Return this report with other findings, of which the waivers that apply at `now` (milliseconds) cover some."""
        counting: list[Finding] = []
        waived: list[Waived] = []
        for each in findings:
            waiver = next((waiver for waiver in waivers if waiver.applies(each, now)), None)
            if waiver is None:
                counting.append(each)
            else:
                waived.append(Waived(each, waiver))
        expired = tuple(waiver for waiver in waivers if waiver.expired(now))
        return msgspec.structs.replace(self, findings=tuple(counting), waived=tuple(waived), expired=expired)


def check(subject: ReadinessSubject, profile: Profile, *, now: int, waivers: Sequence[Waiver] = ()) -> ReadinessReport:
    """Apply the rules of a profile to a subject; labels of the last document can override the profile.

    `now` is in milliseconds. Any document is accepted, and the result depends only on the arguments.
    """
    # Labels override the requested profile, because the author of the deployment knows it best.
    profile, unknown = labelled(profile, subject.last.labels)
    report = ReadinessReport(profile.name, (), unknown_labels=tuple(map(shown, unknown)))
    return report.on([each for _, each in _hits(subject, profile, now)], now=now, waivers=waivers)


def fixes(
    subject: ReadinessSubject, profile: Profile, *, now: int, waivers: Sequence[Waiver] = ()
) -> tuple[tuple[Finding, tuple[Operation, ...]], ...]:
    """Return the findings with a patch of the last document; overlapping patches and waived findings are skipped.

    The caller repeats the check after each round of patches, until there are none: a patch can make another one possible.
    """
    profile, _ = labelled(profile, subject.last.labels)
    chosen: list[tuple[Finding, tuple[Operation, ...]]] = []
    for hit, each in _hits(subject, profile, now):
        if not hit.fix or any(waiver.applies(each, now) for waiver in waivers):
            continue
        # The pointers of an overlapping patch may be wrong after the first patch.
        if not any(overlap(hit.fix, fix) for _, fix in chosen):
            chosen.append((each, hit.fix))
    return tuple(chosen)


def has_input(rule: Rule, subject: ReadinessSubject) -> bool:
    """Return whether a subject has what a rule inspects, as far as that is known before the rule looks."""
    match rule.inspects:
        case Inspects.WHOLE:
            return subject.whole
        case Inspects.LAYER:
            return subject.last.layered
        case _:
            return True


def _hits(subject: ReadinessSubject, profile: Profile, now: int) -> list[tuple[Hit, Finding]]:
    pairs: list[tuple[Hit, Finding]] = []
    subject = msgspec.structs.replace(subject, now=now)
    for rule in RULES:
        severity = profile.severity_of(rule.id)
        if severity is None or not has_input(rule, subject):
            continue
        for hit in rule.find(subject):
            document = subject.documents[hit.location.document].name
            pairs.append((hit, finding(hit, rule=rule.id, severity=severity, document=document)))
    return sorted(pairs, key=lambda pair: RANK[pair[1].severity])
