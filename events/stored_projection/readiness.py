"""The devices of one partition with readiness findings, from its stored form."""

from collections.abc import Callable, Mapping
from functools import cached_property

import msgspec
import numpy as np
from pyroaring import BitMap

from events.canonical import JsonObject
from events.fleet.assignments import Assignment
from events.fleet.configuration import NOTHING
from events.readiness.effective import RuleFindings, read_findings
from events.stored_projection.partition_reader import assignment_numbers, assignments_of
from events.stored_projection.stored_partition import StoredPartition

READINESS_HASHES = ("readiness", "assignments")
READINESS_ARRAYS = ("assignment_of",)


class StoppedDevices(msgspec.Struct, frozen=True):
    """The devices with findings of a rule: `found` with a finding that counts, `waived` with a waived one; a device can be in both."""

    found: BitMap
    waived: BitMap


Judge = Callable[["ReadinessReading", Assignment, str, str], tuple[bool, bool]]
"""For a rule and a module of an assignment's configuration: whether a finding counts, and whether a finding is waived."""


class ReadinessReading:
    """Sets of devices by rule; `stored` holds READINESS_HASHES and READINESS_ARRAYS.

    If `is_stale`, the stored findings are those of another version of the rules: `stored` must then hold `configurations`, too.
    """

    def __init__(self, stored: StoredPartition) -> None:
        self._stored = stored
        self._assignments = assignments_of(stored)
        digests = {assignment.configuration for assignment in self._assignments.values()} - {NOTHING.digest}
        self._findings = {digest: read_findings(stored.hashes["readiness"].get(digest)) for digest in digests}

    @property
    def is_stale(self) -> bool:
        """Whether a configuration was not checked yet by this version of the rules."""
        return None in self._findings.values()

    def rules(self) -> frozenset[str]:
        """The rules with a finding in any assignment, waived or not."""
        return frozenset(rule for assignment in self._assignments.values() for rule in self._of(assignment))

    def stopped(self, rule: str, judge: Judge) -> StoppedDevices:
        """The devices with findings of a rule."""
        stopped, waived = [], []
        for number, assignment in self._assignments.items():
            verdicts = [judge(self, assignment, rule, module) for module in self._of(assignment).get(rule, ())]
            if any(counts for counts, _ in verdicts):
                stopped.append(number)
            if any(is_waived for _, is_waived in verdicts):
                waived.append(number)
        return StoppedDevices(self._in_assignments(stopped), self._in_assignments(waived))

    def _of(self, assignment: Assignment) -> Mapping[str, tuple[str, ...]]:
        if assignment.configuration == NOTHING.digest:
            return {}
        findings = self._findings[assignment.configuration]
        if findings is None:
            findings = self._findings[assignment.configuration] = RuleFindings.of(
                self.sections(assignment.configuration)
            )
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
        assignment_of = assignment_numbers(self._stored)
        in_order = np.argsort(assignment_of, kind="stable").astype(np.uint32)
        numbers, starts = np.unique(assignment_of[in_order], return_index=True)
        groups = np.split(in_order, starts[1:])
        return {int(number): BitMap(ordinals) for number, ordinals in zip(numbers, groups, strict=True)}
