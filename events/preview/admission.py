"""The devices that rollouts would admit first, planned by the planner of the scheduler."""

import threading
from collections.abc import Mapping, Sequence

import msgspec

from events.fleet.deployments import deployment_of
from events.log.keys import FLEET
from events.log.port import AT_APPEND, Log, Proposed
from events.preview.implied import Implied
from events.preview.preview_result import FirstStep
from events.projection_store.fleet_snapshot import FleetSnapshotReader
from events.projection_store.port import ProjectionStore
from events.rollout.events import (
    DevicesAdmitted,
    DevicesRetried,
    RollbackBegan,
    RolloutCreated,
    RolloutEvent,
    RolloutResumed,
    RolloutStarted,
)
from events.rollout.fleet_snapshot import FleetSnapshot
from events.rollout.sets import NO_DEVICES, FleetSet
from events.rollout.state import ROLLOUT, RolloutDocument, RolloutState, decode, evolve


class AdmissionPreview:
    """Plans the first step of rollouts. Thread-safe."""

    def __init__(self, log: Log, projections: ProjectionStore) -> None:
        self._log = log
        self._reader = FleetSnapshotReader(log, projections)
        self._lock = threading.Lock()

    def first(self, proposed: Sequence[Proposed], implied: Sequence[Implied], *, now: int) -> list[FirstStep]:
        """The first step of each rollout of the proposals, taken now or when it starts; `now` in milliseconds."""
        # A rollout's last proposal counts: its document is the one that the commands would leave.
        rollouts = {
            deployment_of(subject): (decode(data), isinstance(proposal.event, _REACHING))
            for proposal in proposed
            if isinstance(proposal.event, RolloutEvent)
            for subject, data in proposal.snapshots
            if subject.startswith(ROLLOUT) and data is not None
        }
        if not rollouts:
            return []
        with self._lock:
            # Heads of 0: `PartitionCache` has already waited until the projections are at the head.
            self._reader.refresh(dict.fromkeys((FLEET, *range(self._log.partitions)), 0))
            return [
                self._first(name, document, implied, reaches_all=reaches_all, now=now)
                for name, (document, reaches_all) in sorted(rollouts.items())
            ]

    def _first(
        self, name: str, document: RolloutDocument, implied: Sequence[Implied], *, reaches_all: bool, now: int
    ) -> FirstStep:
        waits = document.state is RolloutState.CREATED
        if waits:
            started = evolve(document, RolloutStarted(), version=document.version + 1, at=now)
            assert started is not None
            document = started
        target = FleetSet({each.number: each.rollout_targets[name] for each in implied if name in each.rollout_targets})
        # The projections know nothing of a deployment that the commands create.
        exists = all(name in partition.deployment_ids_before for partition in implied)
        fleet_snapshot = self._reader.of(name, document) if exists else FleetSnapshot()
        judgement = self._reader.judge(name, document, msgspec.structs.replace(fleet_snapshot, target=target), now)
        devices = NO_DEVICES
        for event in judgement.events:
            if isinstance(event, DevicesAdmitted | DevicesRetried):
                devices |= FleetSet.of(event.devices)
            elif isinstance(event, RollbackBegan):
                devices |= fleet_snapshot.actual
        actions = [_ACTIONS[type(event)] for event in judgement.events if type(event) in _ACTIONS]
        says = ("once it is started, it " if waits else "it ") + (", ".join(actions) or f"waits: {judgement.says}")
        if document.created_at == AT_APPEND and devices != target:
            # The order of admission is drawn from the time of creation, which is not known yet (decisions/0028).
            says += ", or as many other devices: the order is drawn when the rollout is created"
        reached = target if reaches_all else devices
        return FirstStep(name, says, dict(devices.by_partition), dict(reached.by_partition))


# After these events a rollout goes on to its whole target by itself.
_REACHING = (RolloutCreated, RolloutStarted, RolloutResumed)
_ACTIONS: Mapping[type[object], str] = {
    DevicesAdmitted: "admits these devices first",
    DevicesRetried: "retries these devices",
    RollbackBegan: "rolls these devices back",
}
