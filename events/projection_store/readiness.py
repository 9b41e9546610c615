"""The readiness of the fleet: how many devices each rule stops at, and which, under a profile and the waivers of the time."""

from collections.abc import Callable, Iterable, Sequence

import msgspec
from pyroaring import BitMap

from events.canonical import JsonObject
from events.fleet.assignments import Assignment, Layer
from events.fleet.configuration import Configuration
from events.log.fleet_documents import deployments_of
from events.log.port import Log
from events.projection_store.device_pages import FIRST, DevicePosition
from events.projection_store.fleet_projection import Effective, FleetProjection, Within, size_within
from events.projection_store.port import ProjectionSelection, ProjectionStore
from events.readiness.catalogue import BY_ID
from events.readiness.check import ReadinessReport, check
from events.readiness.effective import findings_of, written_in
from events.readiness.finding import Finding
from events.readiness.host_facts import SECTION, read_host_facts
from events.readiness.profile import Profile
from events.readiness.rule import Inspects
from events.readiness.subject import ReadinessSubject, read_document, subject_of_sections
from events.readiness.waiver import Waiver
from events.stored_projection.readiness import READINESS_ARRAYS, READINESS_HASHES, ReadinessReading, StoppedDevices


class Count(msgspec.Struct, frozen=True):
    """How many devices a rule stops at; `waived` have a finding that may stand, whether or not another one counts."""

    found: int = 0
    waived: int = 0


class Authors:
    """Which deployment wrote what of an effective configuration, as long as those it was merged from stand."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def attributed(self, assignment: Assignment, findings: Iterable[Finding]) -> tuple[Finding, ...]:
        """Findings on the configuration of a row, under the id of the deployment that wrote the element of each.

        Where the deployments do not stand any more, or do not make this configuration, findings stay as they are; so do
        those on the host, which nobody deployed.
        """
        stack = self._stack(assignment)
        if stack is None:
            return tuple(findings)
        return tuple(
            one if _is_of_host(one) else msgspec.structs.replace(one, document=written_in(stack, one.pointer))
            for one in findings
        )

    def _stack(self, assignment: Assignment) -> ReadinessSubject | None:
        names = [layer.id for layer in assignment.stack]
        known = deployments_of(self._log, names)
        if not names or len(known) != len(names):
            return None
        subject = ReadinessSubject(tuple(read_document({"content": known[name].content}, name=name) for name in names))
        return subject if Configuration.of(subject.sections).digest == assignment.configuration else None


class FleetReadiness:
    """Reads the readiness of all partitions."""

    def __init__(self, log: Log, projections: ProjectionStore, fleet_projection: FleetProjection) -> None:
        self._partitions, self._projections, self._fleet_projection = log.partitions, projections, fleet_projection
        self.authors = Authors(log)

    def counts(
        self, rules: Iterable[str], *, waivers: Sequence[Waiver], now: int, within: Within | None = None
    ) -> dict[str, Count]:
        """How many devices each of some rules stops at, at a time in milliseconds; each number is that of its `page`."""
        waiving = _Waiving(self.authors, waivers, now)
        found = {rule: Count() for rule in rules}
        for number in range(self._partitions):
            reading = self._reading(number, waiving)
            seen = None if within is None else within(number)
            for rule in sorted(reading.rules() & found.keys()):
                stopped, former = reading.stopped(rule, waiving), found[rule]
                found[rule] = Count(
                    former.found + size_within(stopped.found, seen), former.waived + size_within(stopped.waived, seen)
                )
        return found

    def page(
        self,
        rule: str,
        members: Callable[[StoppedDevices], BitMap],
        *,
        waivers: Sequence[Waiver],
        now: int,
        after: DevicePosition = FIRST,
        limit: int,
        within: Within | None = None,
    ) -> tuple[list[str], DevicePosition | None]:
        """Device ids of one of a rule's sets, as `FleetProjection.page`."""
        waiving = _Waiving(self.authors, waivers, now)
        return self._fleet_projection.page_of(
            lambda number: members(self._reading(number, waiving).stopped(rule, waiving)),
            after=after,
            limit=limit,
            within=within,
        )

    def report(
        self, effective: Effective, reported: JsonObject, profile: Profile, *, waivers: Sequence[Waiver], now: int
    ) -> ReadinessReport:
        """Everything there is to say of one device: of what it should run, and of the host facts among what it reports."""
        host = read_host_facts(reported[SECTION]) if SECTION in reported else None
        subject = subject_of_sections(effective.sections, name=effective.device_id, host=host)
        report = check(subject, profile, now=now)
        # Of a device that never had a configuration there is none to say anything of.
        found = [one for one in report.findings if effective.sections or _is_of_host(one)]
        return report.on(self.authors.attributed(effective.assignment, found), now=now, waivers=waivers)

    def _reading(self, number: int, waiving: "_Waiving") -> ReadinessReading:
        every = (*READINESS_HASHES, "configurations")
        hashes = every if waiving.is_confined else READINESS_HASHES
        reading = ReadinessReading(
            self._projections.read(number, ProjectionSelection(hashes=hashes, arrays=READINESS_ARRAYS))
        )
        if reading.is_stale:
            return ReadinessReading(
                self._projections.read(number, ProjectionSelection(hashes=every, arrays=READINESS_ARRAYS))
            )
        return reading


def _is_of_host(finding: Finding) -> bool:
    return BY_ID[finding.rule].inspects is Inspects.HOST


class _Waiving:
    """Waivers that are in force, as they apply to findings on effective configurations."""

    def __init__(self, authors: Authors, waivers: Iterable[Waiver], now: int) -> None:
        self._authors = authors
        self._in_force = [waiver for waiver in waivers if not waiver.expired(now)]
        self._written: dict[tuple[tuple[Layer, ...], str], dict[tuple[str, str], set[str]]] = {}

    @property
    def is_confined(self) -> bool:
        """Whether any is for one deployment alone, so that it counts who wrote what."""
        return any(waiver.deployment is not None for waiver in self._in_force)

    def __call__(self, reading: ReadinessReading, assignment: Assignment, rule: str, module: str) -> tuple[bool, bool]:
        applying = [one for one in self._in_force if one.rule == rule and one.module in (None, module)]
        if any(waiver.deployment is None for waiver in applying):
            return False, True
        named = {waiver.deployment for waiver in applying} & {layer.id for layer in assignment.stack}
        if not named:
            return True, False
        written = self._written_by(reading, assignment)[rule, module]
        return bool(written - named), bool(written & named)

    def _written_by(self, reading: ReadinessReading, assignment: Assignment) -> dict[tuple[str, str], set[str]]:
        """By rule and module, whoever wrote what the rule stopped at."""
        key = (assignment.stack, assignment.configuration)
        if key not in self._written:
            written: dict[tuple[str, str], set[str]] = {}
            for one in self._authors.attributed(assignment, findings_of(reading.sections(assignment.configuration))):
                written.setdefault((one.rule, one.module), set()).add(one.document)
            self._written[key] = written
        return self._written[key]
