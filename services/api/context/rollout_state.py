"""How rollouts stand, for readers: judged as the scheduler judges them, on the same sets, and nothing is done about it."""

import threading
import time
from collections.abc import Callable, Mapping

from events.deployment.events import Admission, Kept
from events.explain.rollout_turn import TurnOrder
from events.log.port import Log
from events.projection_store.fleet_snapshot import FleetSnapshotReader
from events.projection_store.port import ProjectionStore
from events.rollout import rollout_text
from events.rollout.cohort import location
from events.rollout.events import RollbackBegan, RolloutResults
from events.rollout.planner import Judgement, order_of, universe
from events.rollout.rollout_text import NOT_STARTED, progress
from events.rollout.state import RolloutDocument


class Judging:
    """Judges for one reader at a time; what it has read of the fleet is read again only where that has moved."""

    def __init__(self, log: Log, projections: ProjectionStore, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._pause = pause
        self._fleet_snapshot = FleetSnapshotReader(log, projections)
        self._lock = threading.Lock()

    def judged(self, rollouts: Mapping[str, RolloutDocument], now: int) -> dict[str, Judgement]:
        """How rollouts stand at a time (milliseconds), all on the same look at the fleet.

        That is once workers have applied what is in the log, or half a second passed; then the sentences say who is behind.

        Raises:
            LogUnavailable: the projections cannot be read.
        """
        if not rollouts:
            return {}
        with self._lock:
            self._fleet_snapshot.settle(self._pause)
            return {name: self._fleet_snapshot.judged(name, document, now) for name, document in rollouts.items()}

    def results(self, name: str, document: RolloutDocument, now: int) -> RolloutResults:
        """How the devices of a rollout stand at a time (milliseconds), for the record of its end.

        Raises:
            LogUnavailable: the projections cannot be read.
        """
        with self._lock:
            return self._fleet_snapshot.results(name, document, now, self._pause)

    def order(self, name: str, document: RolloutDocument, *, number: int, ordinal: int) -> TurnOrder | None:
        """Where a device, by its partition and ordinal, comes in a rollout's order as of the last look; `None`: at the end.

        Raises:
            LogUnavailable: the projections cannot be read.
        """
        with self._lock:
            self._fleet_snapshot.refresh(self._fleet_snapshot.heads())
            candidates = universe(document, self._fleet_snapshot.of(name, document))
            if ordinal not in candidates.of_partition(number):
                return None
            hashes = self._fleet_snapshot.hashes()
            found = location(candidates, order_of(name, document), hashes, number=number, ordinal=ordinal)
            return TurnOrder(found, len(candidates))


def says(document: RolloutDocument, judged: Judgement, admission: Admission | Kept = NOT_STARTED) -> str:
    """What a rollout waits for; where something follows, why that, as it is about to be done.

    `admission` is what its deployment says of itself: once it is over, that decides what its devices have.
    """
    if not judged.events and not document.is_active:
        return progress(document, admission)
    if not judged.events:
        return judged.says
    first = judged.events[0]
    if isinstance(first, RollbackBegan):
        return rollout_text.about_to_roll_back(first.reason)
    return getattr(first, "reason", "") or progress(document)
