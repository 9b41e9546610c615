"""States of rollouts for readers: judged by the scheduler's rules and on its sets, without acting on them."""

import threading
import time
from collections.abc import Callable, Mapping

from events.deployment.events import Admission, Kept
from events.explain.rollout_turn import TurnOrder
from events.log.port import Log
from events.projection_store.fleet_snapshot import FleetSnapshotReader
from events.projection_store.port import ProjectionStore
from events.rollout.cohort import place
from events.rollout.events import RollbackBegan, RolloutResults
from events.rollout.planner import Judgement, order_of, universe
from events.rollout.rollout_text import NOT_STARTED, progress
from events.rollout.state import RolloutDocument

_ALONE_MAX = 10
"""So many rollouts are read by id, and more from the sets of all deployments, of which the last read are reused."""


class RolloutStates:
    """Judges rollouts for readers.

    Every method raises LogUnavailable if the projections cannot be read.
    """

    def __init__(self, log: Log, projections: ProjectionStore, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._pause = pause
        self._fleet_snapshot = FleetSnapshotReader(log, projections)
        self._lock = threading.Lock()

    def judged(self, rollouts: Mapping[str, RolloutDocument], now: int) -> dict[str, Judgement]:
        """The state of each rollout at a time (milliseconds since 1970), all judged on one fleet snapshot.

        Waits up to half a second for workers to apply the log; after that the sentences name the partitions that are behind.
        """
        if not rollouts:
            return {}
        if len(rollouts) <= _ALONE_MAX:
            return self._judged(self._fleet_snapshot.of_rollouts(rollouts), rollouts, now)
        with self._lock:
            return self._judged(self._fleet_snapshot, rollouts, now)

    def _judged(
        self, fleet_snapshot: FleetSnapshotReader, rollouts: Mapping[str, RolloutDocument], now: int
    ) -> dict[str, Judgement]:
        fleet_snapshot.settle(self._pause)
        return {name: fleet_snapshot.judged(name, document, now) for name, document in rollouts.items()}

    def results(self, name: str, document: RolloutDocument, now: int) -> RolloutResults:
        """The results of a rollout's devices at a time (milliseconds since 1970), for the record of its end."""
        return self._fleet_snapshot.of_rollouts({name: document}).results(name, document, now, self._pause)

    def order(self, name: str, document: RolloutDocument, *, number: int, ordinal: int) -> TurnOrder | None:
        """The turn of a device in a rollout's order; `None` if it is no candidate, and follows at the end."""
        fleet_snapshot = self._fleet_snapshot.of_rollouts({name: document})
        fleet_snapshot.refresh(fleet_snapshot.heads())
        candidates = universe(document, fleet_snapshot.of(name, document))
        if ordinal not in candidates.of_partition(number):
            return None
        turn = place(candidates, order_of(name, document), fleet_snapshot.hashes(), number=number, ordinal=ordinal)
        return TurnOrder(turn, len(candidates))


def says(document: RolloutDocument, judged: Judgement, admission: Admission | Kept = NOT_STARTED) -> str:
    """What a rollout waits for, or the reason of what the scheduler is about to do.

    `admission` is that of its deployment: once the rollout is over, it decides what the devices get.
    """
    if not judged.events:
        return judged.says if document.is_active else progress(document, admission)
    first = judged.events[0]
    if isinstance(first, RollbackBegan):
        return f"is about to be rolled back: {first.reason}"
    return getattr(first, "reason", "") or progress(document)
