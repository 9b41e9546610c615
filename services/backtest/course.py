"""The course of a fleet through its deployments, as it was or as it would have been: who had what, who failed, what was decided."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from pyroaring import BitMap

from events.device.identifiers import SYSTEM_MODULES
from events.envelope import Envelope
from events.fleet.assignment_change import AssignmentChange
from events.fleet.assignments import Assignment, AssignmentStatus
from events.log.port import Event
from events.rollout.events import DevicesAdmitted, RolloutCreated, RolloutEvent
from events.rollout.state import ROLLOUT

WELL = frozenset({200, 406})
"""Codes that are no failure: 406 says that a device is offline or out of date (contract/hub.md §3.5)."""

Members = dict[int, BitMap]
"""By partition, ordinals; they are given by rank of registration, so that they are the same in both courses."""


class Act(msgspec.Struct, frozen=True):
    """What was decided of a rollout, and how many devices had the deployment, and had reported a failure with it, by then."""

    at: int
    act: str
    reason: str
    had: int
    failed: int


class Given(msgspec.Struct, frozen=True):
    """What a device was given at a time: configurations under versions of its modules' sections, by some deployments."""

    at: int
    versions: Mapping[str, int]
    configuration: str
    deployments: tuple[str, ...]


class Course:
    """Kept up by assignment changes, answers of devices, and events of rollouts, in the order of their times."""

    def __init__(self) -> None:
        self.had: defaultdict[str, Members] = defaultdict(lambda: defaultdict(BitMap))
        self.failed: defaultdict[str, Members] = defaultdict(lambda: defaultdict(BitMap))
        self.acts: defaultdict[str, list[Act]] = defaultdict(list)
        self.given: dict[tuple[int, int], list[Given]] = {}
        """By partition and ordinal, from the first on."""

    def decided(
        self, number: int, assignment_change: AssignmentChange, at: int
    ) -> Iterator[tuple[int, Given, tuple[str, ...]]]:
        """Take an assignment change in; answers who was given something, or the same once more, and the modules whose versions changed."""
        for move in assignment_change.moves:
            after = move.after
            members = move.ordinals()
            names = () if after.status is AssignmentStatus.UNMANAGED else tuple(layer.id for layer in after.stack)
            for name in names:
                self.had[name][number] |= members
            grant = Given(at, versions_of(after), ",".join(sorted(after.configurations)), names)
            versions_before = versions_of(move.before)
            changed = tuple(name for name, version in grant.versions.items() if versions_before.get(name, 1) != version)
            for ordinal in members:
                self.given.setdefault((number, ordinal), []).append(grant)
                if changed:
                    yield ordinal, grant, changed

    def answered(self, number: int, ordinal: int, grant: Given, code: int | None) -> None:
        """Take in what a device answered about what it was given."""
        if code is not None and code not in WELL:
            for name in grant.deployments:
                self.failed[name][number].add(ordinal)

    def acted(self, envelope: Envelope[Event]) -> None:
        """Take in an event of a rollout."""
        event = envelope.event
        if isinstance(event, RolloutEvent) and not isinstance(event, DevicesAdmitted | RolloutCreated):
            name = envelope.subject.removeprefix(ROLLOUT)
            reason = str(getattr(event, "reason", ""))
            phase = getattr(event, "phase", None)
            what = type(event).__name__ if phase is None else f"{type(event).__name__} {phase + 1}"
            self.acts[name].append(Act(envelope.at, what, reason, size_of(self.had[name]), size_of(self.failed[name])))

    def versions(self, location: tuple[int, int], configuration: str, module_id: str) -> list[int]:
        """The versions that a module's section of a device had in a configuration, in order."""
        every = (
            grant.versions.get(module_id)
            for grant in self.given.get(location, ())
            if grant.configuration == configuration
        )
        return list(dict.fromkeys(version for version in every if version is not None))

    def configuration(self, location: tuple[int, int]) -> str:
        """What a device has at the end; empty where it never had anything."""
        grants = self.given.get(location)
        return grants[-1].configuration if grants else ""


def versions_of(assignment: Assignment) -> dict[str, int]:
    """The versions of all sections of an assignment, by module."""
    return {
        name: version for name, version in assignment.versions.items() if name in SYSTEM_MODULES
    } | assignment.deliverable


def size_of(members: Mapping[int, BitMap]) -> int:
    """How many there are in all partitions."""
    return sum(map(len, members.values()))


def without(members: Mapping[int, BitMap], excluded: Mapping[int, BitMap]) -> Members:
    """Those that are not among others."""
    return {number: ordinals - excluded.get(number, BitMap()) for number, ordinals in members.items()}


def version_in(patch: Mapping[str, Any]) -> int | None:
    """The version that a report is about, where it says so."""
    version = patch.get("lastDesiredVersion")
    return version if isinstance(version, int) else None
