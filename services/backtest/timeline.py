"""What happened to a fleet, in reality or in a backtest: which devices had which deployment, which failed, what rollouts decided."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from pyroaring import BitMap

from events.device.identifiers import SYSTEM_MODULES
from events.envelope import Envelope
from events.fleet.assignments import Assignment, AssignmentChange, AssignmentStatus
from events.log.port import Event
from events.rollout.events import DevicesAdmitted, RolloutCreated, RolloutEvent
from events.rollout.state import ROLLOUT

# 406 says that a device is offline or out of date, which is no failure of its configuration (contract/hub.md §3.5).
SUCCESS_CODES = frozenset({200, 406})

OrdinalsByPartition = dict[int, BitMap]
"""Partition → ordinals of devices. Ordinals follow the order of registration, so they are the same in both timelines."""


class RolloutDecision(msgspec.Struct, frozen=True):
    """A decision on a rollout, with how many devices had the deployment and had reported a failure with it by then."""

    at: int
    act: str
    reason: str
    had: int
    failed: int


class Grant(msgspec.Struct, frozen=True):
    """What a device was given at a time (milliseconds): configurations, the version of each module's section, and whose they are."""

    at: int
    versions: Mapping[str, int]
    configuration: str
    deployments: tuple[str, ...]


class Timeline:
    """Collects assignment changes, answers of devices and events of rollouts, which must come in the order of their times."""

    def __init__(self) -> None:
        self.had: defaultdict[str, OrdinalsByPartition] = defaultdict(lambda: defaultdict(BitMap))
        self.failed: defaultdict[str, OrdinalsByPartition] = defaultdict(lambda: defaultdict(BitMap))
        self.acts: defaultdict[str, list[RolloutDecision]] = defaultdict(list)
        self.grants: dict[tuple[int, int], list[Grant]] = {}
        """(partition, ordinal) → all that the device was given, oldest first."""

    def decided(
        self, number: int, assignment_change: AssignmentChange, at: int
    ) -> Iterator[tuple[int, Grant, tuple[str, ...]]]:
        """Add an assignment change; yields each device whose module versions changed: ordinal, grant, names of the modules."""
        for move in assignment_change.moves:
            after = move.after
            members = move.ordinals()
            names = () if after.status is AssignmentStatus.UNMANAGED else tuple(layer.id for layer in after.stack)
            for name in names:
                self.had[name][number] |= members
            grant = Grant(at, versions_of(after), ",".join(sorted(after.configurations)), names)
            versions_before = versions_of(move.before)
            changed = tuple(name for name, version in grant.versions.items() if versions_before.get(name, 1) != version)
            for ordinal in members:
                self.grants.setdefault((number, ordinal), []).append(grant)
                if changed:
                    yield ordinal, grant, changed

    def answered(self, number: int, ordinal: int, grant: Grant, code: int | None) -> None:
        """Add a device's answer to a grant; `code` is `None` when the answer has none."""
        # A report is about the whole configuration. Which of its deployments made it fail is unknown, so it counts for each.
        if code is not None and code not in SUCCESS_CODES:
            for name in grant.deployments:
                self.failed[name][number].add(ordinal)

    def acted(self, envelope: Envelope[Event]) -> None:
        """Add an event of a rollout; events of other subjects are ignored."""
        event = envelope.event
        if isinstance(event, RolloutEvent) and not isinstance(event, DevicesAdmitted | RolloutCreated):
            name = envelope.subject.removeprefix(ROLLOUT)
            reason = str(getattr(event, "reason", ""))
            phase = getattr(event, "phase", None)
            what = type(event).__name__ if phase is None else f"{type(event).__name__} {phase + 1}"
            self.acts[name].append(
                RolloutDecision(envelope.at, what, reason, size_of(self.had[name]), size_of(self.failed[name]))
            )

    def configuration(self, device: tuple[int, int]) -> str:
        """The configuration that a device has at the end; empty when it never had one."""
        grants = self.grants.get(device)
        return grants[-1].configuration if grants else ""


def versions_of(assignment: Assignment) -> dict[str, int]:
    """The versions of all sections of an assignment, by module."""
    return {
        name: version for name, version in assignment.versions.items() if name in SYSTEM_MODULES
    } | assignment.deliverable


def size_of(members: Mapping[int, BitMap]) -> int:
    """The number of devices in all partitions."""
    return sum(map(len, members.values()))


def without(members: Mapping[int, BitMap], excluded: Mapping[int, BitMap]) -> OrdinalsByPartition:
    """The devices of `members` that are not in `excluded`."""
    return {number: ordinals - excluded.get(number, BitMap()) for number, ordinals in members.items()}


def version_in(patch: Mapping[str, Any]) -> int | None:
    """The version that an agent's report is about; `None` when it names none."""
    version = patch.get("lastDesiredVersion")
    return version if isinstance(version, int) else None
