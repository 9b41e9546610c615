"""The readiness of the fleet: the devices with a finding of each rule, with waivers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial

import msgspec
import numpy as np
from pyroaring import BitMap

from events.canonical import JsonObject
from events.fleet.assignments import Assignment, Layer
from events.fleet.configuration import NOTHING, Configuration
from events.fleet.packed import grouped
from events.log.fleet_documents import deployments_of
from events.log.port import Log
from events.projection_store.fleet_projection import Effective, Within, size_within
from events.projection_store.port import ProjectionStore
from events.readiness.catalogue import BY_ID
from events.readiness.check import ReadinessReport, check
from events.readiness.effective import RuleFindings, findings_of, read_findings, written_in
from events.readiness.finding import Finding
from events.readiness.host_facts import SECTION, read_host_facts
from events.readiness.profile import Profile
from events.readiness.rule import Inspects
from events.readiness.subject import ReadinessSubject, read_document, subject_of_sections
from events.readiness.waiver import Waiver
from events.stored_projection.partition_reader import assignment_numbers, assignments_of
from events.stored_projection.stored_partition import StoredPartition


class RuleCount(msgspec.Struct, frozen=True):
    """How many devices have a finding of a rule that counts, and how many have a waived one; a device can have both."""

    found: int = 0
    waived: int = 0


class RuleDevices(msgspec.Struct, frozen=True):
    """The devices with findings of a rule: `found` with a finding that counts, `waived` with a waived one; a device can be in both."""

    found: BitMap
    waived: BitMap


class ReadinessReading:
    """Sets of devices by rule of one partition; `stored` holds `readiness`, `assignments` and `assignment_of`.

    If `is_stale`, the stored findings are those of another version of the rules: `stored` must then hold `configurations`, too.
    """

    def __init__(self, stored: StoredPartition) -> None:
        self._stored = stored
        self._assignments = assignments_of(stored)
        digests = {assignment.configuration for assignment in self._assignments.values()} - {NOTHING.digest}
        self._findings = {digest: read_findings(stored.hashes["readiness"].get(digest)) for digest in digests}
        self.is_stale = None in self._findings.values()
        """Whether a configuration was not checked yet by this version of the rules."""

    def rules(self) -> frozenset[str]:
        """The rules with a finding in any assignment, waived or not."""
        return frozenset(rule for assignment in self._assignments.values() for rule in self._of(assignment))

    def stopped(self, rule: str, waivers_in_force: "_WaiversInForce") -> RuleDevices:
        """The devices with findings of a rule."""
        stopped, waived = [], []
        for number, assignment in self._assignments.items():
            modules = self._of(assignment).get(rule, ())
            verdicts = [waivers_in_force.verdict(self, assignment, rule, module) for module in modules]
            if any(counts for counts, _ in verdicts):
                stopped.append(number)
            if any(is_waived for _, is_waived in verdicts):
                waived.append(number)
        return RuleDevices(self._in_assignments(stopped), self._in_assignments(waived))

    def _of(self, assignment: Assignment) -> Mapping[str, tuple[str, ...]]:
        if assignment.configuration == NOTHING.digest:
            return {}
        findings = self._findings[assignment.configuration]
        if findings is None:
            findings = RuleFindings.of(self.sections(assignment.configuration))
            self._findings[assignment.configuration] = findings
        return findings.modules

    def sections(self, digest: str) -> dict[str, JsonObject]:
        """The sections of a configuration; `stored` also holds `configurations`."""
        sections: dict[str, JsonObject] = msgspec.json.decode(self._stored.hashes["configurations"][digest])
        return sections

    def _in_assignments(self, numbers: list[int]) -> BitMap:
        return BitMap().union(*(self._members.get(number, BitMap()) for number in numbers))

    @cached_property
    def _members(self) -> dict[int, BitMap]:
        """The devices of each assignment."""
        # One sort serves all rules: the score reads the sets of every rule.
        numbers = assignment_numbers(self._stored)
        ordinals = np.arange(len(numbers), dtype=np.uint32)
        return {number: BitMap(members) for number, members in grouped(numbers, ordinals)}


def _attributed(log: Log, assignment: Assignment, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings on a configuration, each with the id of the deployment that wrote its element as `document`.

    Findings on the host stay as they are. So do all findings if the deployments do not exist any more, or do not give this
    configuration any more.
    """
    names = [layer.id for layer in assignment.stack]
    documents = deployments_of(log, names)
    if not names or len(documents) != len(names):
        return tuple(findings)
    stack = ReadinessSubject(tuple(read_document({"content": documents[name].content}, name=name) for name in names))
    if Configuration.of(stack.sections).digest != assignment.configuration:
        return tuple(findings)
    return tuple(
        finding
        if _is_of_host(finding)
        else msgspec.structs.replace(finding, document=written_in(stack, finding.pointer))
        for finding in findings
    )


class FleetReadiness:
    """Reads the readiness of all partitions."""

    def __init__(self, log: Log, projections: ProjectionStore) -> None:
        self._log, self._projections = log, projections

    def counts(
        self, rules: Iterable[str], *, waivers: Sequence[Waiver], now: int, within: Within | None = None
    ) -> dict[str, RuleCount]:
        """How many devices have a finding of each rule at `now` (milliseconds); each number is the size of its `members`."""
        waivers_in_force = _WaiversInForce(self._log, waivers, now)
        counts = {rule: RuleCount() for rule in rules}
        for number in range(self._log.partitions):
            reading = self._reading(number, waivers_in_force)
            seen = None if within is None else within(number)
            for rule in sorted(reading.rules() & counts.keys()):
                stopped, count = reading.stopped(rule, waivers_in_force), counts[rule]
                with_finding, with_waiver = size_within(stopped.found, seen), size_within(stopped.waived, seen)
                counts[rule] = RuleCount(count.found + with_finding, count.waived + with_waiver)
        return counts

    def members(
        self, rule: str, part: Callable[[RuleDevices], BitMap], *, waivers: Sequence[Waiver], now: int
    ) -> Within:
        """One of a rule's two sets of devices."""
        in_force = _WaiversInForce(self._log, waivers, now)
        return lambda number: part(self._reading(number, in_force).stopped(rule, in_force))

    def report(
        self, effective: Effective, reported: JsonObject, profile: Profile, *, waivers: Sequence[Waiver], now: int
    ) -> ReadinessReport:
        """The report of one device: on what it should run, and on the host facts that it reports."""
        host = read_host_facts(reported[SECTION]) if SECTION in reported else None
        subject = subject_of_sections(effective.sections, name=effective.device_id, host=host)
        report = check(subject, profile, now=now)
        # A device that never had a configuration would get findings on an empty one.
        findings = [finding for finding in report.findings if effective.sections or _is_of_host(finding)]
        return report.on(_attributed(self._log, effective.assignment, findings), now=now, waivers=waivers)

    def _reading(self, number: int, waivers_in_force: "_WaiversInForce") -> ReadinessReading:
        read = partial(self._projections.read, number, arrays=("assignment_of",))
        hashes, every_hash = ("readiness", "assignments"), ("readiness", "assignments", "configurations")
        reading = ReadinessReading(read(hashes=every_hash if waivers_in_force.is_confined else hashes))
        # Findings of an older version's rules are computed again, from the configurations.
        return ReadinessReading(read(hashes=every_hash)) if reading.is_stale else reading


def _is_of_host(finding: Finding) -> bool:
    return BY_ID[finding.rule].inspects is Inspects.HOST


class _WaiversInForce:
    """The waivers that have not expired, applied to findings on effective configurations."""

    def __init__(self, log: Log, waivers: Iterable[Waiver], now: int) -> None:
        self._log = log
        self._in_force = [waiver for waiver in waivers if not waiver.expired(now)]
        self.is_confined = any(waiver.deployment is not None for waiver in self._in_force)
        """Whether a waiver is for one deployment alone, so that the author of each element counts."""
        self._written: dict[tuple[tuple[Layer, ...], str], dict[tuple[str, str], set[str]]] = {}
        """By stack and configuration, and then by rule and module, the deployments that wrote what has a finding."""

    def verdict(self, reading: ReadinessReading, assignment: Assignment, rule: str, module: str) -> tuple[bool, bool]:
        """For a rule and a module of a configuration: whether a finding counts, and whether a finding is waived."""
        applying = [waiver for waiver in self._in_force if waiver.rule == rule and waiver.module in (None, module)]
        if any(waiver.deployment is None for waiver in applying):
            return False, True
        named = {waiver.deployment for waiver in applying} & {layer.id for layer in assignment.stack}
        if not named:
            return True, False
        key = (assignment.stack, assignment.configuration)
        if key not in self._written:
            written_by_finding: dict[tuple[str, str], set[str]] = {}
            findings = findings_of(reading.sections(assignment.configuration))
            for finding in _attributed(self._log, assignment, findings):
                written_by_finding.setdefault((finding.rule, finding.module), set()).add(finding.document)
            self._written[key] = written_by_finding
        written = self._written[key][rule, module]
        return bool(written - named), bool(written & named)
