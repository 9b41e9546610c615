"""How rollouts stand, for readers: judged as the scheduler judges them, on the same sets, and nothing is done about it."""

import threading
import time
from collections.abc import Callable, Mapping

from events.log.port import Log
from events.rollout.planner import Judgement
from events.rollout.state import RolloutDocument
from events.view_store.census import CensusReader
from events.view_store.port import ViewStore


class Judging:
    """Judges for one reader at a time; what it has read of the fleet is read again only where that has moved."""

    def __init__(self, log: Log, views: ViewStore, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._pause = pause
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
            self._census.settle(self._pause)
            return {name: self._census.judged(name, document, now) for name, document in rollouts.items()}
