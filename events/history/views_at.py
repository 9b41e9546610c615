"""The views as they were at a moment, folded partition by partition when somebody asks."""

import threading
from collections import OrderedDict
from collections.abc import Sequence

from typing_extensions import override

from events.envelope import Vector
from events.history.errors import PastIsFixed
from events.history.folding import Folded, Folding
from events.history.moment import Moment
from events.log.keys import FLEET
from events.view_store.port import Blocked, ViewStore
from events.view_store.whole import WholeViews
from events.views.kept import Checkpoint, OutcomeEntry, Writes

Key = tuple[int, Vector, bool]
"""Partition, vector, and whether what was implied is asked for."""


class PastPartitions:
    """Partitions as they were, for all requests of a process: each is folded once, and the newest are kept."""

    def __init__(self, folding: Folding, *, bytes_max: int) -> None:
        self._folding, self._bytes_max = folding, bytes_max
        self._kept: OrderedDict[Key, list[Folded]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._at_work: dict[Key, threading.Lock] = {}

    @property
    def folding(self) -> Folding:
        """What folds them."""
        return self._folding

    def at(self, number: int, vector: Vector, *, implied: bool, decided_by: int | None = None) -> Folded:
        """A partition as it was; who asks for the same at once waits for the one folding. `decided_by` as `Folding` has it.

        Raises:
            Exception: as `Folding` does.
        """
        wanted = (number, vector, implied)
        with self._lock:
            at_work = self._at_work.setdefault(wanted, threading.Lock())
        try:
            with at_work:
                found = self._look(wanted, decided_by)
                if found is None:
                    fold = self._folding.implied if implied else self._folding.in_effect
                    found = fold(number, vector, decided_by=decided_by)
                    if found.is_final:
                        self._keep(wanted, found)
                return found
        finally:
            # However it ended: there are as many moments as somebody cares to ask for.
            with self._lock:
                self._at_work.pop(wanted, None)

    def _look(self, wanted: Key, decided_by: int | None) -> Folded | None:
        with self._lock:
            if wanted in self._kept:
                self._kept.move_to_end(wanted)
            return next((one for one in self._kept.get(wanted, ()) if one.is_as_of(decided_by)), None)

    def _keep(self, wanted: Key, folded: Folded) -> None:
        with self._lock:
            self._kept.setdefault(wanted, []).append(folded)
            self._kept.move_to_end(wanted)
            self._bytes += folded.size_bytes
            while self._bytes > self._bytes_max and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= sum(one.size_bytes for one in oldest)


class ViewsAt(WholeViews):
    """One for each request: all of its reads are of one and the same state."""

    def __init__(self, recorded: ViewStore, moment: Moment, partitions: PastPartitions, *, implied: bool) -> None:
        self._recorded, self._moment, self._partitions, self._implied = recorded, moment, partitions, implied
        self._folded: dict[int, Folded] = {}

    def _of(self, partition: int) -> Folded:
        found = self._folded.get(partition)
        if found is None:
            vector = Vector(self._moment.positions[partition], self._moment.positions[FLEET])
            found = self._folded[partition] = self._partitions.at(
                partition, vector, implied=self._implied, decided_by=self._moment.decided_by
            )
        return found

    @override
    def checkpoint(self, partition: int) -> Checkpoint:
        """How far a partition was."""
        return self._of(partition).kept.checkpoint

    @override
    def _hash(self, partition: int, name: str) -> dict[str, bytes]:
        return self._of(partition).kept.hashes[name]

    @override
    def _array(self, partition: int, name: str) -> bytes:
        return self._of(partition).kept.arrays[name]

    def commit(self, partition: int, writes: Writes) -> bool:
        """Refuse.

        Raises:
            PastIsFixed: always.
        """
        del partition, writes
        raise PastIsFixed

    @override
    def outcomes(self, partition: int, *, after: int, limit: int) -> Sequence[OutcomeEntry]:
        """Outcomes at positions after + 1 and on, as far as they were decided, or are implied."""
        folded = self._of(partition)
        left = min(limit, folded.outcomes - after)
        entries = list(self._recorded.outcomes(partition, after=after, limit=left)) if left > 0 else []
        implied = folded.implied
        if implied is not None and after < implied.position <= after + limit:
            entries.append(implied)
        return entries

    def blocked(self, partition: int) -> Blocked | None:
        """Nobody waits in the past."""
        del partition
        return None

    def block(self, partition: int, blocked: Blocked | None) -> None:
        """Refuse.

        Raises:
            PastIsFixed: always.
        """
        del partition, blocked
        raise PastIsFixed
