"""Rebuilds the projections of one partition beside the live ones, and switches to them in one step while workers go on."""

import itertools
import time

import msgspec
from msgspec import UNSET

from events.fleet.assignments import MergeCache
from events.garbage_collection import rare_collection
from events.log.events_ahead import EventsAhead
from events.log.failpoints import FailPoint, reached
from events.log.fleet_events import FleetEventReader
from events.log.keys import name
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.projection.driver import PathsMissing
from events.projection_store.redis import RedisProjectionStore
from events.projection_store.staged_projection import StagedProjection
from events.stored_projection.partition_codec import checkpoint_of, writes_of
from events.stored_projection.stored_partition import Checkpoint
from workers.replay.partition_replay import PartitionReplay, decided_at
from workers.replay.report import Compared, ReportProgress

_ATTEMPTS = 5


class Rebuilder:
    """Rebuilds projections from events and recorded assignment changes alone."""

    def __init__(self, log: RedisLog) -> None:
        self._log, self._recorded = log, RedisProjectionStore(log.client)
        self._fleet = FleetEventReader(log)
        self._merge = MergeCache()

    def partition(self, number: int, tell: ReportProgress = lambda _position: None) -> Compared:
        """Rebuild one partition and switch. If it is killed at any point, the live projections are the old or the rebuilt ones.

        Raises:
            AssignmentChangeDiffers: the events give another assignment change than is recorded.
            RebuildSuperseded: another rebuild of the partition began meanwhile.
            LogLostItsTail, UnreadableEvent, CannotApply: an event before the live checkpoint cannot be read or applied.
            LogUnavailable: Redis did not answer.
        """
        began = time.monotonic()
        for attempt in itertools.count(1):
            try:
                return self._rebuilt(number, tell, began)
            except PathsMissing:
                # A deployment names new properties since this attempt began; they must be indexed from the first event.
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError

    @rare_collection()
    def _rebuilt(self, number: int, tell: ReportProgress, began: float) -> Compared:
        self._fleet.read_on()
        staging = StagedProjection(self._log.client, number)
        reached(FailPoint.REBUILD_BEGUN)
        events = EventsAhead(
            self._log,
            number,
            skips=lambda: self._fleet.skipped(number),
            seen=lambda envelopes: tell(envelopes[-1].position) if envelopes else None,
        )
        replay = PartitionReplay(number, events=events, fleet=self._fleet, merge=self._merge)
        partition, written = replay.partition, Checkpoint()
        rounds, assignment_changes, is_switched = 0, 0, False
        while not is_switched:
            rounds += 1
            # Read before the checkpoint. In the other order, a commit in between would give a newer assignment change.
            newest = RawStreams(self._log.client).head(f"{name(number)}:assignments")
            seen = staging.seen()
            live = _checkpoint_in(seen)
            self._fleet.read_on()
            assignment_changes, vector = live.assignment_changes, live.vector
            # Projections can be gone, or behind a record that a failover kept; then the record says how far to go.
            if live.assignment_changes < newest:
                assignment_changes, vector = newest, decided_at(self._recorded, number, newest)
            for _ in replay.confirmed(self._recorded, upto=vector, assignment_changes=assignment_changes):
                pass
            # The number makes this checkpoint differ from those that warm copies expect: their commits fail (decisions/0030).
            partition.rebuilt = 1 + (0 if live.rebuilt is UNSET else live.rebuilt)
            writes = writes_of(partition, None, expected=written)
            written = writes.checkpoint
            staging.write(writes)
            if rounds == 1:
                reached(FailPoint.REBUILD_STAGED)
            reached(FailPoint.REBUILD_BEFORE_SWITCH)
            is_switched = staging.switch(
                seen, assignment_changes=assignment_changes, checkpoint=checkpoint_of(partition)
            )
        reached(FailPoint.REBUILD_AFTER_SWITCH)
        # Position 0 marks lost projections, which now exist again. A partition that is stopped at an event stays stopped.
        blocked = self._recorded.blocked(number)
        if blocked is not None and not blocked.position:
            self._recorded.block(number, None)
        return Compared(
            number,
            events=partition.vector.partition - len(events.skipped),
            assignment_changes=assignment_changes,
            skipped=len(events.skipped),
            vector=partition.vector,
            seconds=time.monotonic() - began,
            notes=(f"switched in round {rounds}",),
        )


def _checkpoint_in(data: bytes) -> Checkpoint:
    """The initial checkpoint if there is none, or it is damaged: then the recorded assignment changes say how far to go."""
    try:
        return msgspec.json.decode(data, type=Checkpoint) if data else Checkpoint()
    except msgspec.DecodeError:
        return Checkpoint()
