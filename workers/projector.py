"""Folds one partition at a time from the log into the views, with warm copies in memory."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar, cast

import msgspec
import structlog

from events.device.facts import DeviceFact
from events.device.identifiers import module_subject
from events.envelope import Envelope, Vector
from events.fleet.errors import CannotFold
from events.fleet.index import MODULES
from events.fleet.outcome import Outcome
from events.fleet.partition import DeviceText, MergeCache, ModuleText, Partition
from events.log.errors import LogLostItsTail, UnreadableFact
from events.log.failpoints import FailPoint, reached
from events.log.fleet_facts import FleetFacts, position_of
from events.log.keys import FLEET, name
from events.log.port import Log
from events.query.module_condition import EVERY_MODULE, can_be_for
from events.targeting.tree import Path
from events.view_store.port import Blocked, ViewStore
from events.view_store.work import Work
from events.views.keeping import checkpoint_of, restore, writes_of
from events.views.kept import Checkpoint

BATCH_FACTS = 8192
_DOCUMENTS = 1000
_FILL_ROUNDS = 50

logger = structlog.get_logger()

N = TypeVar("N")


class CheckpointMoved(Exception):
    """Another worker committed this partition meanwhile; what was folded here is of no use."""


class ViewsLost(Exception):
    """Outcomes are recorded, and nothing is kept of the views they led to: folding from the start would decide them again."""

    def __init__(self, partition: int) -> None:
        super().__init__(f"the views of {name(partition)} are lost; `twinfold rebuild --partition {name(partition)}`")
        self.partition = partition


def device_facts(log: Log, number: int, *, after: int, limit: int) -> list[Envelope[DeviceFact]]:
    """A partition's facts, which are of devices alone; folding refuses any other."""
    return cast("list[Envelope[DeviceFact]]", log.read(number, after=after, limit=limit))


class Warm:
    """Copies of partitions as they stood at their last commit, least recently used first."""

    def __init__(self, over_budget: Callable[[], bool]) -> None:
        self._copies: OrderedDict[int, tuple[Checkpoint, Partition]] = OrderedDict()
        self._over_budget = over_budget

    def take(self, number: int) -> tuple[Checkpoint, Partition] | None:
        """Take a copy out; it is put back only when the work on it went well."""
        return self._copies.pop(number, None)

    def put(self, number: int, checkpoint: Checkpoint, partition: Partition) -> None:
        """Keep a copy, and let others go while the process is over its budget."""
        self._copies[number] = (checkpoint, partition)
        while len(self._copies) > 1 and self._over_budget():
            self._copies.popitem(last=False)


class Projector:
    """Brings views up to the log, partition by partition."""

    def __init__(
        self,
        log: Log,
        views: ViewStore,
        *,
        clock: Callable[[], int],
        over_budget: Callable[[], bool] = lambda: False,
    ) -> None:
        self._log = log
        self._views = views
        self._clock = clock
        self._merge = MergeCache()
        self._fleet = FleetFacts(log)
        self._warm = Warm(over_budget)
        self.work = Work()

    def drain(self, number: int, *, go_on: Callable[[], bool]) -> bool:
        """Fold a partition to its head, or until `go_on` says no; answers whether it reached the head.

        A partition that cannot go on is marked blocked, and counts as done: only a decision moves it.

        Raises:
            LogUnavailable: Redis did not answer; nothing is half done, call again.
        """
        self._log.clear_wake(number)
        reached(FailPoint.FOLD_FLAG_CLEARED)
        try:
            return self._drain(number, go_on)
        except CheckpointMoved:
            self.work.lost()
            return False
        except (CannotFold, UnreadableFact, LogLostItsTail) as error:
            return self._block(number, error)
        except ViewsLost as error:
            former = self._views.blocked(number)
            # Whoever lost them can have said why.
            if former is None or former.position:
                self._views.block(number, Blocked(number, 0, str(error), self._clock(), decidable=False))
            return True

    def _drain(self, number: int, go_on: Callable[[], bool]) -> bool:
        self._fleet.refresh()
        blocked = self._views.blocked(number)
        if blocked is not None and self._waits(blocked):
            return True
        checkpoint, partition = self._current(number)
        while True:
            advanced = self._advance(partition)
            if blocked is not None:
                # Before the commit, so that nobody sees views at the head of a partition that is said to be blocked.
                self._views.block(number, None)
                blocked = None
            if advanced:
                checkpoint = self._commit(number, partition, checkpoint)
            if not advanced or not go_on():
                self._warm.put(number, checkpoint, partition)
                return not advanced
            self._fleet.refresh()

    def _waits(self, blocked: Blocked) -> bool:
        """Whether nobody has decided yet, nor wanted it tried again since it stopped."""
        if not blocked.decidable or blocked.position in self._fleet.skipped(blocked.stream):
            return False
        return self._fleet.retried(blocked.stream, blocked.position) < blocked.at

    # -- where to begin

    def _current(self, number: int) -> tuple[Checkpoint, Partition]:
        stored = self._views.checkpoint(number)
        taken = self._warm.take(number)
        if taken is not None and taken[0] == stored:
            return taken
        if taken is not None and self._catch_up(number, taken[1], stored):
            return stored, taken[1]
        kept = self._views.load(number)
        if kept.checkpoint == Checkpoint() and self._views.outcomes(number, after=0, limit=1):
            raise ViewsLost(number)
        vector = kept.checkpoint.vector
        facts = self._fleet.upto(vector.fleet)
        return kept.checkpoint, restore(number, kept, facts, self._merge)

    def _catch_up(self, number: int, partition: Partition, stored: Checkpoint) -> bool:
        """Fold a warm copy on to what another worker committed, without committing; false when it cannot be done so."""
        if stored.rebuilt != partition.rebuilt:
            return False
        if stored.outcomes < partition.outcomes or stored.vector.partition < partition.vector.partition:
            return False
        outcomes = self._views.outcomes(number, after=partition.outcomes, limit=stored.outcomes - partition.outcomes)
        vectors = [msgspec.json.decode(entry.data, type=Outcome).after for entry in outcomes]
        for vector in (*vectors, stored.vector):
            facts = self._fleet.between(partition.vector.fleet, vector.fleet)
            if partition.paths_to_fill(facts):
                return False
            self._fold_to(partition, vector.partition)
            partition.fold_fleet(facts)
            partition.resolve()
        # What these commits wrote is stored already; only what comes after is to be written.
        writes_of(partition, None, expected=stored)
        return checkpoint_of(partition) == stored

    # -- one batch

    def _advance(self, partition: Partition) -> bool:
        fleet_facts = self._fleet.between(partition.vector.fleet)
        before = partition.vector
        self._fold_batch(partition)
        paths = partition.paths_to_fill(fleet_facts)
        if paths:
            self._fill(partition, paths)
        partition.fold_fleet(fleet_facts)
        reached(FailPoint.FOLD_EVOLVED)
        return partition.vector != before

    def _fold_batch(self, partition: Partition, limit: int = BATCH_FACTS) -> int:
        """Fold what can be read of the next `limit` facts; the ones before a fact that cannot be folded are folded."""
        after = partition.vector.partition
        skipped = self._fleet.skipped(partition.number)
        bad = min((position for position in skipped if after < position <= after + limit), default=None)
        if bad == after + 1:
            partition.skip(bad, partition.at)
            return 1
        if bad is not None:
            limit = bad - 1 - after
        try:
            facts = device_facts(self._log, partition.number, after=after, limit=limit)
        except (UnreadableFact, LogLostItsTail) as error:
            if position_of(error) <= after + 1:
                raise
            facts = device_facts(self._log, partition.number, after=after, limit=position_of(error) - 1 - after)
        reached(FailPoint.FOLD_READ)
        partition.fold(facts)
        return len(facts)

    def _fold_to(self, partition: Partition, position: int) -> None:
        while partition.vector.partition < position:
            if not self._fold_batch(partition, min(BATCH_FACTS, position - partition.vector.partition)):
                raise LogLostItsTail(name(partition.number), expected=position, found=partition.vector.partition)

    def _fill(self, partition: Partition, paths: frozenset[Path]) -> None:
        """Bring newly named paths into the index, from the devices' documents, exactly as of the partition's vector.

        A document may be ahead of what is folded; then folding goes on until it is not. Folding keeps the new paths
        from here on, so that only devices that change all the time are asked for again.
        """
        partition.open_paths(paths)
        self._fill_modules(partition, frozenset(path for path in paths if path[0] == MODULES[0]))
        paths = frozenset(path for path in paths if path[0] != MODULES[0])
        waiting: Iterable[str] = sorted(partition.directory.ordinal_of)
        for _ in range(_FILL_ROUNDS):
            waiting = [device_id for some in _chunks(waiting) for device_id in self._fill_from(partition, paths, some)]
            if not waiting:
                return
            while self._fold_batch(partition):
                pass
        raise CheckpointMoved

    def _fill_modules(self, partition: Partition, paths: frozenset[Path]) -> None:
        """Bring in twins of modules. A document may be ahead; folding what it has already once more changes nothing.

        For that, all of it must be folded before anything is made of it: to where the log stood after the last document.
        """
        by_module: dict[str, list[Path]] = {}
        for path in sorted(paths):
            by_module.setdefault(path[1], []).append(path)
        for module_id, some in by_module.items():
            for modules in _chunks(self._of_modules(partition, module_id)):
                for (device_id, known_as), document in zip(modules, self._modules(modules), strict=True):
                    if document is not None:
                        partition.fill_module(some, device_id, known_as, document)
        if by_module:
            self._fold_to(partition, self._log.head(partition.number))

    def _of_modules(self, partition: Partition, module_id: str) -> Iterator[tuple[str, str]]:
        """The devices that can have a document of a module, with its name; of every module, those that have one of any."""
        if module_id != EVERY_MODULE:
            yield from ((device_id, module_id) for device_id in sorted(partition.directory.ordinal_of))
            return
        for subject in self._log.subjects(partition.number):
            device_id, slash, known_as = subject.partition("/")
            if slash and can_be_for(known_as):
                yield device_id, known_as

    def _modules(self, modules: Sequence[tuple[str, str]]) -> Iterator[ModuleText | None]:
        devices = self._log.load([device_id for device_id, _ in modules])
        stored = self._log.load([module_subject(device_id, module_id) for device_id, module_id in modules])
        for device, module in zip(devices, stored, strict=True):
            if device.snapshot is None or module.snapshot is None:
                yield None
                continue
            text = msgspec.json.decode(module.snapshot, type=ModuleText)
            yield text if text.generation == msgspec.json.decode(device.snapshot, type=DeviceText).generation else None

    def _fill_from(self, partition: Partition, paths: frozenset[Path], device_ids: Sequence[str]) -> list[str]:
        again = []
        for device_id, stored in zip(device_ids, self._log.load(device_ids), strict=True):
            if stored.snapshot is None:
                continue
            if not partition.fill(paths, device_id, msgspec.json.decode(stored.snapshot, type=DeviceText)):
                again.append(device_id)
        return again

    def _commit(self, number: int, partition: Partition, expected: Checkpoint) -> Checkpoint:
        outcome = partition.resolve()
        reached(FailPoint.FOLD_RESOLVED)
        writes = writes_of(partition, outcome, expected=expected, recorded=self._clock())
        start = time.perf_counter()
        reached(FailPoint.COMMIT_BEFORE_SCRIPT)
        if not self._views.commit(number, writes):
            raise CheckpointMoved
        reached(FailPoint.COMMIT_AFTER_SCRIPT)
        facts = partition.vector.partition - expected.vector.partition
        self.work.committed(facts, time.perf_counter() - start)
        return writes.checkpoint

    # -- stopping

    def _block(self, number: int, error: CannotFold | UnreadableFact | LogLostItsTail) -> bool:
        """Commit what comes before a fact that cannot be folded, then mark the partition as stopped at it."""
        self._warm.take(number)
        position = position_of(error)
        in_fleet = error.fleet if isinstance(error, CannotFold) else error.stream == name(FLEET)
        decidable = not isinstance(error, LogLostItsTail) or error.found > error.expected
        if decidable and (in_fleet or isinstance(error, CannotFold)):
            checkpoint, partition = self._current(number)
            at = partition.vector
            upto = Vector(at.partition, position - 1) if in_fleet else Vector(position - 1, at.fleet)
            try:
                self._advance_to(partition, upto)
                if partition.vector != at:
                    self._commit(number, partition, checkpoint)
            except CheckpointMoved:
                return False
        stream = FLEET if in_fleet else number
        former = self._views.blocked(number)
        # Later than the wish to try again, so that each is followed once.
        since = max(self._clock(), self._fleet.retried(stream, position) + 1)
        known = former is not None and (former.stream, former.position, former.error) == (stream, position, str(error))
        if former is None or not known or former.at <= self._fleet.retried(stream, position):
            self._views.block(number, Blocked(stream, position, str(error), since, decidable))
            logger.error(
                "partition blocked", partition=name(number), stopped_at=f"{name(stream)}:{position}", error=str(error)
            )
        return True

    def _advance_to(self, partition: Partition, vector: Vector) -> None:
        """Fold on to a vector that lies behind in neither part."""
        self._fold_to(partition, vector.partition)
        facts = self._fleet.between(partition.vector.fleet, vector.fleet)
        paths = partition.paths_to_fill(facts)
        if paths:
            self._fill(partition, paths)
        partition.fold_fleet(facts)


def _chunks(names: Iterable[N]) -> Iterable[list[N]]:
    some: list[N] = []
    for one in names:
        some.append(one)
        if len(some) == _DOCUMENTS:
            yield some
            some = []
    if some:
        yield some
