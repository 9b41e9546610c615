"""Whom rollouts would admit first, once some events stand: planned by what plans it for the scheduler."""

import threading
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from events.fleet.deployments import deployment_of
from events.log.keys import FLEET
from events.log.port import AT_APPEND, Log, Proposed
from events.preview.implied import Implied
from events.preview.preview_result import First
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
from events.rollout.sets import NOBODY, FleetSet
from events.rollout.state import ROLLOUT, RolloutDocument, RolloutState, decode, evolve


class Admitting:
    """Asks the planner. Several threads may ask."""

    def __init__(self, log: Log, projections: ProjectionStore) -> None:
        self._log = log
        self._reader = FleetSnapshotReader(log, projections)
        self._lock = threading.Lock()

    def first(self, proposed: Sequence[Proposed], implied: Sequence[Implied], *, now: int) -> list[First]:
        """What each rollout that some proposals are about would do at once, or as soon as it starts; `now` in milliseconds."""
        documents = {name: (document, reaches) for name, document, reaches in self._documents(proposed)}
        if not documents:
            return []
        with self._lock:
            self._reader.look(dict.fromkeys((FLEET, *range(self._log.partitions)), 0))
            return [
                self._first(name, document, reaches, implied, now=now)
                for name, (document, reaches) in sorted(documents.items())
            ]

    def _documents(self, proposed: Iterable[Proposed]) -> Iterable[tuple[str, RolloutDocument, frozenset[str]]]:
        """The rollouts as they would stand, and whose whole target is reached by and by; none of one that would be gone."""
        for one in proposed:
            if isinstance(one.event, RolloutEvent):
                for subject, data in one.snapshots:
                    if subject.startswith(ROLLOUT) and data is not None:
                        name = deployment_of(subject)
                        yield name, decode(data), frozenset({name} if isinstance(one.event, _REACHING) else ())

    def _first(
        self, name: str, document: RolloutDocument, reaches: frozenset[str], implied: Sequence[Implied], *, now: int
    ) -> First:
        waits = document.state is RolloutState.CREATED
        if waits:
            started = evolve(document, RolloutStarted(), version=document.version + 1, at=now)
            assert started is not None
            document = started
        target = FleetSet({one.number: one.rolled[name] for one in implied if name in one.rolled})
        stands = all(name in one.stood for one in implied)
        fleet_snapshot = self._reader.of(name, document) if stands else FleetSnapshot()
        judgement = self._reader.judge(name, document, msgspec.structs.replace(fleet_snapshot, target=target), now)
        devices = NOBODY
        for event in judgement.events:
            if isinstance(event, DevicesAdmitted | DevicesRetried):
                devices |= FleetSet.of(event.devices)
            elif isinstance(event, RollbackBegan):
                devices |= fleet_snapshot.actual
        done = [_DOES[type(event)] for event in judgement.events if type(event) in _DOES]
        says = ("once it is started, it " if waits else "it ") + (", ".join(done) or f"waits: {judgement.says}")
        if document.created_at == AT_APPEND and devices != target:
            # The order of admission is drawn by the time of creation, which is not known yet.
            says += ", or as many others: who is first is drawn when the rollout is created"
        return First(
            name, says, dict(devices.by_partition), dict((target if name in reaches else devices).by_partition)
        )


_REACHING = (RolloutCreated, RolloutStarted, RolloutResumed)
_DOES: Mapping[type[object], str] = {
    DevicesAdmitted: "admits these devices first",
    DevicesRetried: "lets these devices try again",
    RollbackBegan: "brings these devices back",
}
