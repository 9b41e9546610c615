"""Brings the projections of partitions up to the log, with warm copies of partitions in memory."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec
import structlog
from msgspec import UNSET

from events.envelope import Envelope, Vector, event_digest
from events.fleet.assignments import AssignmentChange, MergeCache
from events.fleet.errors import CannotApply
from events.fleet.partition import Partition
from events.log.errors import (
    LogLostItsTail,
    LogUnavailable,
    ObjectStoreUnavailable,
    SegmentDamaged,
    SegmentMissing,
    TailReplaced,
    UnreadableEvent,
)
from events.log.events_ahead import EventsAhead
from events.log.failpoints import FailPoint, reached
from events.log.fleet_events import FleetEventReader
from events.log.keys import FLEET, name
from events.log.port import Event, Log
from events.projection.driver import Driver, Fill, PathsMissing, refuse
from events.projection_store.port import Blocked, CheckpointDamaged, ProjectionStore
from events.projection_store.work_counts import ProcessWork
from events.stored_projection.partition_codec import checkpoint_of, restore, writes_of
from events.stored_projection.stored_partition import Checkpoint, Writes
from workers.live_documents import DocumentsAhead, fill_from_documents

logger = structlog.get_logger()


class CheckpointMoved(Exception):
    """Another worker committed this partition first; the work of this one is discarded."""


class ProjectionsLost(Exception):
    """Assignment changes are recorded but the projections are missing. Only a rebuild may go on: it decides nothing again."""

    def __init__(self, partition: int) -> None:
        super().__init__(
            f"the projections of {name(partition)} are lost; run `twinfold rebuild --partition {name(partition)}`"
        )
        self.partition = partition


_LOST = (CheckpointMoved, DocumentsAhead)
_UNAPPLIED = (CannotApply, UnreadableEvent, LogLostItsTail)
_UNREADABLE = (UnreadableEvent, ObjectStoreUnavailable, SegmentDamaged, SegmentMissing)

_COMMIT_SECONDS = 0.005
"""How long a commit waits for those of other partitions, to be sent with them in one round trip."""


class Projector:
    """Brings projections up to the log, partition by partition."""

    def __init__(
        self,
        log: Log,
        projections: ProjectionStore,
        *,
        clock: Callable[[], int],
        over_budget: Callable[[], bool] = lambda: False,
    ) -> None:
        self._log, self._projections, self._clock, self._over_budget = log, projections, clock, over_budget
        self._merge, self.fleet = MergeCache(), FleetEventReader(log)
        self._fill = partial(fill_from_documents, log)
        # Partitions as of their last commit, least recently used first. A copy is taken out while it is worked on: a failure
        # does not put it back, so no half-applied copy stays.
        self._warm: OrderedDict[int, tuple[Checkpoint, Partition]] = OrderedDict()
        self.work = ProcessWork()

    def drain(self, number: int, *, go_on: Callable[[], bool]) -> bool:
        """Project a partition to its head, or until `go_on` is false; returns whether it reached the head.

        A partition that cannot go on is marked as blocked and counts as done: it waits for an operator's decision.

        Raises:
            LogUnavailable: Redis did not answer. Nothing is half done; call again.
        """
        try:
            return self._drain(number, go_on)
        except _LOST:
            self.work.lost()
            return False
        except _UNAPPLIED as error:
            return self._block(number, error)
        except (ProjectionsLost, CheckpointDamaged) as error:
            blocked = self._projections.blocked(number)
            # A restore that failed has already marked the partition with its own reason.
            if blocked is None or blocked.position:
                self._projections.block(number, Blocked(number, 0, str(error), self._clock(), decidable=False))
            return True

    def _drain(self, number: int, go_on: Callable[[], bool]) -> bool:
        self.fleet.refresh()
        blocked = self._projections.blocked(number)
        if (
            blocked is not None
            and blocked.decidable
            and blocked.position not in self.fleet.skipped(blocked.stream)
            and self.fleet.retried(blocked.stream, blocked.position) < blocked.at
        ):
            # Neither a skip is recorded, nor a retry since it was blocked. A copy in memory would be advanced past the event once
            # it is skipped, and the mark stay: only `drain` removes it.
            self._warm.pop(number, None)
            return True
        checkpoint, partition = self._current(number)
        driver = self._driver(partition, self._fill)
        while True:
            before = partition.vector
            vector = driver.read_ahead()
            reached(FailPoint.PROJECT_READ)
            driver.advance(vector)
            reached(FailPoint.PROJECT_EVOLVED)
            advanced = partition.vector != before
            if blocked is not None:
                # Before the commit. Otherwise readers could see projections at the head and the partition still blocked.
                self._projections.block(number, None)
                blocked = None
            if advanced:
                checkpoint = self._commit_alone(number, partition, checkpoint)
            if not advanced or not go_on():
                self._warm[number] = (checkpoint, partition)
                self._evict()
                return not advanced
            self.fleet.refresh()

    def advance(self, news: Mapping[int, Sequence[Envelope[Event]]]) -> dict[int, int]:
        """Apply the next events of partitions in memory and all events of the fleet that are read, and commit them.

        Returns the new position of each partition for which that succeeded. For another one, `drain` finds out why it did
        not, and marks it if it is blocked.

        Raises:
            LogUnavailable: Redis did not answer. The copies of partitions that were not committed are discarded.
        """
        at, ready = dict[int, int](), dict[int, tuple[Partition, Writes]]()
        since = time.perf_counter()
        for number, events in news.items():
            checkpoint, partition = self._warm.pop(number)
            upto = events[-1].position if events else partition.vector.partition
            driver = self._driver(partition, self._fill, first=events)
            reached(FailPoint.PROJECT_READ)
            try:
                self.fleet.check(partition.vector.fleet, partition.fleet_event)
                driver.advance(Vector(upto, self.fleet.position))
                reached(FailPoint.PROJECT_EVOLVED)
                if partition.vector == checkpoint.vector:
                    self._warm[number], at[number] = (checkpoint, partition), upto
                    continue
                ready[number] = (partition, self._writes(partition, checkpoint))
            except LogUnavailable:
                raise
            except Exception:  # noqa: BLE001, S112 - a fault of one partition must not stop all others; `drain` reports it
                continue
            if time.perf_counter() - since > _COMMIT_SECONDS:
                at |= self._put_back(ready)
                ready, since = {}, time.perf_counter()
        at |= self._put_back(ready)
        self._evict()
        return at

    def _put_back(self, ready: Mapping[int, tuple[Partition, Writes]]) -> dict[int, int]:
        """Commit partitions and put them back; returns the positions of those that no other worker has committed first."""
        if not ready:
            return {}
        committed = self._commit({number: writes for number, (_, writes) in ready.items()})
        for number in committed:
            partition, writes = ready[number]
            self._warm[number] = (writes.checkpoint, partition)
        for _ in range(len(ready) - len(committed)):
            self.work.lost()
        return {number: ready[number][1].checkpoint.vector.partition for number in committed}

    def checkpoint(self, number: int) -> Checkpoint | None:
        """The last commit of a partition that is in memory; `None` for any other partition."""
        warm = self._warm.get(number)
        return None if warm is None else warm[0]

    def is_at_fleet_head(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint has applied the last event of the fleet that was read, and nothing that the log lost."""
        try:
            self.fleet.check(checkpoint.vector.fleet, checkpoint.fleet_event)
        except _UNAPPLIED:
            return False
        return checkpoint.vector.fleet == self.fleet.position

    def _evict(self) -> None:
        while len(self._warm) > 1 and self._over_budget():
            self._warm.popitem(last=False)

    def _current(self, number: int) -> tuple[Checkpoint, Partition]:
        stored = self._projections.checkpoint(number)
        warm = self._warm.pop(number, None)
        # Before anything is loaded: a partition that waits until lost events are restored is examined again and again.
        self.fleet.check(stored.vector.fleet, stored.fleet_event)
        if warm is not None and warm[0] == stored:
            return warm
        if warm is not None and self._catch_up(number, warm[1], stored):
            return stored, warm[1]
        self._check_tail(number, stored)
        stored_partition = self._projections.load(number)
        if stored_partition.checkpoint == Checkpoint() and self._projections.assignment_changes(
            number, after=0, limit=1
        ):
            raise ProjectionsLost(number)
        events = self.fleet.upto(stored_partition.checkpoint.vector.fleet)
        return stored_partition.checkpoint, restore(number, stored_partition, events, self._merge)

    def _check_tail(self, number: int, stored: Checkpoint) -> None:
        """Check that the log still has the last event that a stored partition has applied.

        Raises:
            LogLostItsTail: it has none there, or another one.
        """
        position = stored.vector.partition
        if stored.own_event is UNSET or position in self.fleet.skipped(number):
            return
        try:
            envelopes = self._log.read(number, after=position - 1, limit=1) or self._log.read(
                number, after=position, limit=1
            )
        except LogLostItsTail as error:
            # A gap before later events is no lost tail.
            if error.actual <= error.expected:
                raise
        except _UNREADABLE:
            # It was applied, so it does not matter that it cannot be read any more.
            pass
        else:
            if envelopes and event_digest(envelopes[0]) != stored.own_event:
                raise TailReplaced(name(number), position)

    def _catch_up(self, number: int, partition: Partition, stored: Checkpoint) -> bool:
        """Bring a warm copy to another worker's checkpoint, without committing; returns whether that was possible."""
        # A rebuild, or a Redis that lost its newest entries, can put the checkpoint elsewhere or before this copy.
        if (
            stored.rebuilt != partition.rebuilt
            or stored.assignment_changes < partition.assignment_changes
            or stored.vector.partition < partition.vector.partition
        ):
            return False
        assignment_changes = self._projections.assignment_changes(
            number, after=partition.assignment_changes, limit=stored.assignment_changes - partition.assignment_changes
        )
        vectors = [msgspec.json.decode(entry.data, type=AssignmentChange).after for entry in assignment_changes]
        # Stored documents are ahead of these vectors, so new paths cannot be filled here.
        driver = self._driver(partition, refuse, stop=stored.vector.partition)
        try:
            for vector in (*vectors, stored.vector):
                driver.decide(vector)
        except PathsMissing:
            return False
        # Marks the changes as written: the other worker stored them already.
        writes_of(partition, None, expected=stored)
        return checkpoint_of(partition) == stored

    def _driver(
        self, partition: Partition, fill: Fill, *, stop: int | None = None, first: Sequence[Envelope[Event]] = ()
    ) -> Driver:
        """A driver that continues a partition from its vector with the `first` events, and reads no further than `stop`."""
        skips, stops = partial(self.fleet.skipped, partition.number), () if stop is None else (stop,)
        after = partition.vector.partition
        events = EventsAhead(self._log, partition.number, skips=skips, after=after, stops=stops, first=first)
        return Driver(partition, events, self.fleet, fill)

    def _writes(self, partition: Partition, expected: Checkpoint) -> Writes:
        assignment_change = partition.resolve()
        reached(FailPoint.PROJECT_RESOLVED)
        return writes_of(partition, assignment_change, expected=expected, recorded=self._clock())

    def _commit(self, writes_by_partition: Mapping[int, Writes]) -> set[int]:
        """Commit partitions in one round trip; returns those that no other worker has committed first."""
        start = time.perf_counter()
        for _ in writes_by_partition:
            reached(FailPoint.COMMIT_BEFORE_SCRIPT)
        committed = self._projections.commit_each(writes_by_partition)
        seconds = time.perf_counter() - start
        for number in committed:
            reached(FailPoint.COMMIT_AFTER_SCRIPT)
            writes = writes_by_partition[number]
            self.work.committed(writes.checkpoint.vector.partition - writes.expected.vector.partition, seconds)
        return committed

    def _commit_alone(self, number: int, partition: Partition, expected: Checkpoint) -> Checkpoint:
        writes = self._writes(partition, expected)
        if not self._commit({number: writes}):
            raise CheckpointMoved
        return writes.checkpoint

    def _block(self, number: int, error: CannotApply | UnreadableEvent | LogLostItsTail) -> bool:
        """Commit everything before an event that cannot be applied, then mark the partition as blocked at it."""
        # The warm copy failed in the middle of a batch.
        self._warm.pop(number, None)
        blocked = blocked_at(number, error, at=0)
        stream, position = blocked.stream, blocked.position
        if blocked.decidable and (stream == FLEET or isinstance(error, CannotApply)):
            checkpoint, partition = self._current(number)
            at = partition.vector
            upto = Vector(at.partition, position - 1) if stream == FLEET else Vector(position - 1, at.fleet)
            try:
                self._driver(partition, self._fill, stop=upto.partition).advance(upto)
                if partition.vector != at:
                    self._commit_alone(number, partition, checkpoint)
            except _LOST:
                return False
            except (*_UNAPPLIED, ProjectionsLost, CheckpointDamaged):
                # Its own checkpoint is past the event, or damaged: nothing is left to commit.
                pass
        recorded, retried = self._projections.blocked(number), self.fleet.retried(stream, position)
        blocked = msgspec.structs.replace(blocked, at=max(self._clock(), retried + 1))
        # A repeated failure keeps its first time. After a retry the time must be later than the retry, or it would be
        # tried again for ever.
        is_recorded = recorded is not None and recorded == msgspec.structs.replace(blocked, at=recorded.at)
        if recorded is None or not is_recorded or recorded.at <= retried:
            self._projections.block(number, blocked)
            logger.error(
                "partition blocked", partition=name(number), stopped_at=f"{name(stream)}:{position}", error=str(error)
            )
        return True


def blocked_at(number: int, error: CannotApply | UnreadableEvent | LogLostItsTail, *, at: int) -> Blocked:
    """The mark of a partition that is blocked at the event of an error since a time (milliseconds)."""
    in_fleet = error.fleet if isinstance(error, CannotApply) else error.stream == name(FLEET)
    decidable = not isinstance(error, LogLostItsTail) or error.actual > error.expected
    return Blocked(FLEET if in_fleet else number, error.position, str(error), at, decidable)
