"""How rollouts stand, for readers: judged as the scheduler judges them, on the same sets, and nothing is done about it."""

import threading
import time
from collections.abc import Callable, Mapping

from events.log.port import Log
from events.rollout.cohort import place
from events.rollout.planner import Judgement, judge, order_of, universe
from events.rollout.state import RolloutDocument, State
from events.rollout.turn import Order
from events.view_store.census import CensusReader, rollback_id
from events.view_store.port import ViewStore

SETTLE_SECONDS = 0.5
_LOOK_SECONDS = 0.02


class Judging:
    """Judges for one reader at a time; what it has read of the fleet is read again only where that has moved."""

    def __init__(self, log: Log, views: ViewStore, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._log, self._pause = log, pause
        self._census = CensusReader(log, views)
        self._lock = threading.Lock()

    def judged(self, rollouts: Mapping[str, RolloutDocument], now: int) -> dict[str, Judgement]:
        """How rollouts stand at a time (milliseconds), all on the same look at the fleet.

        That is once workers have folded what is in the log, or half a second passed; then the sentences say who is behind.

        Raises:
            LogUnavailable: the views cannot be read.
        """
        if not rollouts:
            return {}
        with self._lock:
            heads, waited = self._census.heads(), 0.0
            while not self._census.look(heads) and waited < SETTLE_SECONDS:
                self._pause(_LOOK_SECONDS)
                waited += _LOOK_SECONDS
            return {name: self._judge(name, document, now) for name, document in rollouts.items()}

    def order(self, name: str, document: RolloutDocument, *, number: int, ordinal: int) -> Order | None:
        """Where a device, by its partition and ordinal, comes in a rollout's order, as of the last look; `None` where it waits for the end.

        Raises:
            LogUnavailable: the views cannot be read.
        """
        with self._lock:
            self._census.look(self._census.heads())
            candidates = universe(document, self._census.of(name, document))
            if ordinal not in candidates.of_partition(number):
                return None
            hashes = self._census.hashes()
            found = place(candidates, order_of(name, document), hashes, number=number, ordinal=ordinal)
            return Order(found, len(candidates))

    def _judge(self, name: str, document: RolloutDocument, now: int) -> Judgement:
        back = "" if document.state is State.ROLLING_BACK else rollback_id(self._log, name, document)
        return judge(name, document, self._census.of(name, document, rollback_id=back), now)
