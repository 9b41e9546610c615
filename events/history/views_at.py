"""The views as they were at a moment, folded partition by partition when somebody asks."""

import threading
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from events.envelope import Vector
from events.history.errors import PastIsFixed
from events.history.folding import Folded, Folding
from events.history.moment import Moment
from events.log.keys import FLEET
from events.view_store.port import DEVICE_ARRAYS, Blocked, DeviceKept, Selection, ViewStore
from events.views.kept import ARRAYS, HASHES, Checkpoint, Kept, OutcomeEntry, Writes

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


class ViewsAt:
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

    def checkpoint(self, partition: int) -> Checkpoint:
        """How far a partition was."""
        return self._of(partition).kept.checkpoint

    def load(self, partition: int) -> Kept:
        """Everything kept of a partition."""
        return self.read(partition, Selection(hashes=HASHES, arrays=ARRAYS))

    def read(self, partition: int, wanted: Selection) -> Kept:
        """A part of what was kept of a partition."""
        kept = self._of(partition).kept
        hashes = {one: dict(kept.hashes[one]) for one in wanted.hashes}
        for one, fields in wanted.fields:
            stored = kept.hashes[one]
            hashes.setdefault(one, {}).update({field: stored[field] for field in fields if field in stored})
        return Kept(kept.checkpoint, hashes, {one: kept.arrays[one] for one in wanted.arrays})

    def read_each(self, partitions: Sequence[int], wanted: Selection) -> list[Kept]:
        """The same part of several partitions."""
        return [self.read(partition, wanted) for partition in partitions]

    def field_names(self, partition: int, hash_name: str) -> Sequence[str]:
        """The fields that a hash of a partition had."""
        return list(self._of(partition).kept.hashes[hash_name])

    def numbers(self, partition: int, ordinal: int, arrays: Sequence[str]) -> tuple[int, ...]:
        """One ordinal's number in each of some arrays; 0 where nothing was kept."""
        kept = self._of(partition).kept
        return tuple(int.from_bytes(kept.arrays[one][ordinal * 4 : ordinal * 4 + 4], "little") for one in arrays)

    def device(self, partition: int, device_id: str) -> DeviceKept | None:
        """What was kept of one device; `None` where it was not known."""
        kept = self._of(partition).kept
        known = kept.hashes["ordinals"].get(device_id)
        if known is None:
            return None
        ordinal = int(known)
        number, outcome, *numbers = self.numbers(partition, ordinal, DEVICE_ARRAYS)
        row = kept.hashes["rows"].get(str(number), b"")
        found = msgspec.json.decode(row) if row else {}
        entries = self.outcomes(partition, after=outcome - 1, limit=1) if outcome else ()
        at, cause = (entries[0].at, entries[0].cause) if entries else (0, "")
        configurations = kept.hashes["configurations"]
        return DeviceKept(
            kept.checkpoint,
            ordinal,
            row,
            configurations.get(found.get("configuration", ""), b""),
            outcome,
            at,
            cause,
            configurations.get(found.get("own", {}).get("configuration", ""), b""),
            *numbers,
        )

    def commit(self, partition: int, writes: Writes) -> bool:
        """Refuse.

        Raises:
            PastIsFixed: always.
        """
        del partition, writes
        raise PastIsFixed

    def outcomes(self, partition: int, *, after: int, limit: int) -> Sequence[OutcomeEntry]:
        """Outcomes at positions after + 1 and on, as far as they were decided, or are implied."""
        folded = self._of(partition)
        left = min(limit, folded.outcomes - after)
        entries = list(self._recorded.outcomes(partition, after=after, limit=left)) if left > 0 else []
        implied = folded.implied
        if implied is not None and after < implied.position <= after + limit:
            entries.append(implied)
        return entries

    def outcome_at(self, partition: int, position: int) -> int | None:
        """The time of an outcome in milliseconds; `None` where there was none of that position."""
        found = self.outcomes(partition, after=position - 1, limit=1)
        return found[0].at if found else None

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
