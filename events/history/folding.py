"""A partition as it was at a vector: folded by the code that folds it live, through every outcome that is recorded."""

import itertools
import sys
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from events import canonical
from events.envelope import Envelope, Vector
from events.fleet.merge_cache import MergeCache
from events.fleet.outcome import Outcome
from events.fleet.partition import Partition
from events.history.errors import HistoryDiffers
from events.history.snapshots import Snapshot, Snapshots
from events.log.events_ahead import EventsAhead
from events.log.fleet_facts import FleetFacts
from events.log.keys import name
from events.log.port import Log
from events.projection.driver import Driver
from events.projection.new_paths import NewPaths, read_twin
from events.view_store.port import ViewStore
from events.views.keeping import restore, writes_of
from events.views.kept import ARRAYS, HASHES, Checkpoint, Kept, OutcomeEntry, Writes

_OUTCOMES = 500


class Folded(msgspec.Struct, frozen=True):
    """A partition as it was.

    `outcomes` are those recorded that stood by then; `implied` is the one that follows and was not decided yet, where it is
    asked for. `is_final` says that no later decision can change this answer. It is the same for all times from `since` up to
    before `until` (milliseconds; `None`: for good): the next decision about these facts was recorded then.
    """

    kept: Kept
    outcomes: int
    implied: OutcomeEntry | None
    is_final: bool
    since: int
    until: int | None

    def is_as_of(self, decided_by: int | None) -> bool:
        """Whether it is what a time gives; `None` counts every decision about these facts."""
        if decided_by is None:
            return self.until is None
        return self.since <= decided_by and (self.until is None or decided_by < self.until)

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes, with what Python adds to each small text: there are several of them for a device."""
        hashes = self.kept.hashes.values()
        small = itertools.chain.from_iterable(itertools.chain(fields, fields.values()) for fields in hashes)
        return sum(map(sys.getsizeof, itertools.chain(hashes, small, self.kept.arrays.values())))


class Folding:
    """Folds partitions of a log to vectors of the past. `recorded` has the outcomes, and says how far live views are.

    `snapshots` make it quick; without them it begins at the first fact, and comes to the same.
    """

    def __init__(self, log: Log, recorded: ViewStore, snapshots: Snapshots | None) -> None:
        self._log, self._recorded, self._snapshots = log, recorded, snapshots
        self._fleet = FleetFacts(log)
        self._merge = MergeCache()
        self._lock = threading.Lock()

    def fleet_facts(self) -> FleetFacts:
        """The fleet's facts up to its head, or as far as they can be read: a moment before that needs no more of them.

        Raises:
            LogUnavailable: as `FleetFacts.read_on`.
        """
        with self._lock:
            self._fleet.read_on()
        return self._fleet

    def implied(self, number: int, vector: Vector, *, decided_by: int | None = None) -> Folded:
        """What follows from the facts up to a vector, whoever had decided it by then; `decided_by` as for `in_effect`.

        Raises:
            CannotFold, UnreadableFact, LogLostItsTail, LogUnavailable: as folding does.
            HistoryDiffers: the facts do not give the recorded outcomes.
        """
        fleet = self.fleet_facts()
        partition, base, (since, until) = self._folded(number, vector, decided_by, fleet)
        recorded = partition.outcomes
        outcome = partition.resolve()
        partition.release_paths()
        writes = writes_of(partition, outcome, expected=base.checkpoint)
        is_final = vector.is_within(self._recorded.checkpoint(number).vector)
        return Folded(_laid(base, writes), recorded, writes.outcome, is_final, since, until)

    def in_effect(self, number: int, vector: Vector, *, decided_by: int | None = None) -> Folded:
        """What was in effect at a vector (decision 0029): as of the moment, where nothing was left to decide by then.

        Otherwise without the fleet's newest facts, and else as of the last decision that counts: one that was recorded by
        `decided_by` (milliseconds), or any about these facts.

        Raises:
            CannotFold, UnreadableFact, LogLostItsTail, LogUnavailable, HistoryDiffers: as `implied`.
        """
        fleet = self.fleet_facts()
        live = self._recorded.checkpoint(number).vector
        upto = Vector(min(vector.partition, live.partition), min(vector.fleet, live.fleet))
        is_final = vector.is_within(live)
        times: tuple[int, int | None] | None = None
        while True:
            partition, base, found = self._folded(number, upto, decided_by, fleet)
            # With fewer facts the last decision stays, but the next may be about others.
            times = times or found
            decided = partition.decided
            if partition.resolve() is None:
                partition.release_paths()
                writes = writes_of(partition, None, expected=base.checkpoint)
                return Folded(_laid(base, writes), partition.outcomes, None, is_final, *times)
            assert upto != decided, "a recorded decision leaves nothing to decide"
            upto = Vector(upto.partition, decided.fleet) if upto.fleet != decided.fleet else decided

    def _folded(
        self, number: int, upto: Vector, decided_by: int | None, fleet: FleetFacts
    ) -> tuple[Partition, Kept, tuple[int, int | None]]:
        """The partition at a vector, before what follows is decided; the kept form it began with; its times as in `Folded`."""
        partition, base = self._begin(number, upto, decided_by, fleet)
        driver = Driver(partition, self._events(partition, upto, fleet), fleet)
        since = self._outcome(number, partition.outcomes).stands_from if partition.outcomes else 0
        until = None
        for entry in self._outcomes(number, after=partition.outcomes):
            after = _after(entry)
            if not after.is_within(upto):
                break
            if decided_by is not None and entry.stands_from > decided_by:
                until = entry.stands_from
                break
            outcome = driver.decide(after)
            if outcome is None or canonical.encode(outcome) != entry.data:
                raise HistoryDiffers(name(number), entry.position)
            since = entry.stands_from
        driver.advance(upto)
        return partition, base, (since, until)

    def _events(self, partition: Partition, upto: Vector, fleet: FleetFacts) -> EventsAhead:
        return EventsAhead(
            self._log,
            partition.number,
            skips=lambda: fleet.skipped(partition.number),
            after=partition.vector.partition,
            stops=(upto.partition,),
        )

    def _outcomes(self, number: int, *, after: int) -> Iterator[OutcomeEntry]:
        while entries := self._recorded.outcomes(number, after=after, limit=_OUTCOMES):
            yield from entries
            after = entries[-1].position

    def _outcome(self, number: int, position: int) -> OutcomeEntry:
        for entry in self._recorded.outcomes(number, after=position - 1, limit=1):
            return entry
        raise HistoryDiffers(name(number), position)

    # -- where to begin

    def _snapshot(self, number: int, upto: Vector, decided_by: int | None) -> Snapshot | None:
        """The newest snapshot that has no later facts, and no later decisions."""
        found = None if self._snapshots is None else self._snapshots.newest(number, upto)
        if self._snapshots is None or found is None or decided_by is None:
            return found
        passed = found.kept.checkpoint.outcomes
        if not passed or self._outcome(number, passed).stands_from <= decided_by:
            return found
        positions = range(1, passed + 1)
        count = bisect_right(positions, decided_by, key=lambda one: self._outcome(number, one).stands_from)
        return self._snapshots.newest(number, upto, before=_after(self._outcome(number, count + 1)))

    def _begin(self, number: int, upto: Vector, decided_by: int | None, fleet: FleetFacts) -> tuple[Partition, Kept]:
        facts = fleet.upto(upto.fleet)
        found = self._snapshot(number, upto, decided_by)
        if found is None:
            partition = Partition(number, self._merge)
            partition.hold_paths_of(facts)
            return partition, _nothing_kept()
        kept = found.kept
        vector = kept.checkpoint.vector
        partition = restore(number, kept, facts[: vector.fleet], self._merge)
        self._hold(partition, facts[vector.fleet :], found)
        return partition, kept

    def _hold(self, partition: Partition, facts: Sequence[Envelope[Any]], snapshot: Snapshot) -> None:
        """Index whatever is named on the way, from the documents that stood where the way begins."""
        missing = partition.paths_held_by(facts)
        partition.hold_paths_of(facts)
        if not missing:
            return
        paths = NewPaths(partition, missing)
        twins = {subject: read_twin(data) for subject, data in snapshot.documents().items()}
        for subject, twin in twins.items():
            device_id, _, module_id = subject.partition("/")
            device = twins.get(device_id)
            if device is not None and device.generation == twin.generation:
                paths.fill(device_id, module_id, twin)


def _after(entry: OutcomeEntry) -> Vector:
    return msgspec.json.decode(entry.data, type=Outcome).after


def _nothing_kept() -> Kept:
    return Kept(Checkpoint(), {one: {} for one in HASHES}, dict.fromkeys(ARRAYS, b""))


def _laid(base: Kept, writes: Writes) -> Kept:
    """The kept form after what one commit changes."""
    hashes = {one: dict(fields) for one, fields in base.hashes.items()}
    for one, fields in writes.hashes.items():
        for field, value in fields.items():
            if value is None:
                hashes[one].pop(field, None)
            else:
                hashes[one][field] = value
    arrays = dict(base.arrays)
    for one, ranges in writes.arrays.items():
        items = bytearray(arrays.get(one, b""))
        for offset, data in ranges:
            items.extend(bytes(max(0, offset + len(data) - len(items))))
            items[offset : offset + len(data)] = data
        arrays[one] = bytes(items)
    return Kept(writes.checkpoint, hashes, arrays)
