"""Rebuilds the projections of a restored log before it is opened: `python -m workers.restored PARTITIONS EPOCH`."""

import itertools
import sys

import msgspec
from typing_extensions import override

from events.clock import now_ms
from events.envelope import Vector
from events.fleet.errors import CannotApply
from events.log.connect import answering, connect
from events.log.errors import LogLostItsTail, UnreadableEvent
from events.log.events_ahead import EventsAhead
from events.log.fleet_events import FleetEventReader
from events.log.keys import FLEET, name
from events.log.port import Log
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.projection_store.port import Blocked, ProjectionStore
from events.projection_store.redis import RedisProjectionStore, projection_key
from events.settings import read_settings
from events.stored_projection.partition_codec import writes_of
from events.stored_projection.stored_partition import ARRAYS, HASHES, Writes
from workers.projector import blocked_at
from workers.replay.partition_replay import AssignmentChangeDiffers, PartitionReplay, decided_at


class RestoredProjectionStore(RedisProjectionStore):
    """Projections of a log that was restored with its assignment changes."""

    @override
    def commit(self, partition: int, writes: Writes) -> bool:
        """Commit all writes without the assignment change, which the log already has."""
        return super().commit(partition, msgspec.structs.replace(writes, assignment_change=None))

    def forget(self, partition: int) -> None:
        """Delete the projections of a partition."""
        with answering():
            self._client.unlink(*(projection_key(partition, what) for what in ("checkpoint", *HASHES, *ARRAYS)))


def main() -> None:
    """Rebuild every partition to its last assignment change; workers go on from there.

    Writes one line per partition: how many are done, and the reason if the partition is marked as blocked.
    """
    partitions, epoch = int(sys.argv[1]), sys.argv[2]
    log = RedisLog(connect(read_settings().redis_url), partitions=partitions, epoch=epoch)
    projections = RestoredProjectionStore(log.client)
    streams = RawStreams(log.client)
    for number in range(partitions):
        why = ""
        try:
            vector = decided_at(projections, number, streams.head(f"{name(number)}:assignments"))
            # Without any assignment change, workers start at the first event by themselves.
            if vector != Vector():
                rebuild(number, log=log, recorded=projections, into=projections, upto=vector)
        except (AssignmentChangeDiffers, CannotApply, LogLostItsTail, UnreadableEvent) as error:
            why = " ".join(str(error).split())
            # From half of the assignment changes a worker would decide the other half a second time (decisions/0030).
            projections.forget(number)
            projections.block(number, _blocked(number, error))
        sys.stdout.write(f"{number + 1} {why}\n")
        sys.stdout.flush()


def rebuild(
    number: int, *, log: Log, recorded: ProjectionStore, into: ProjectionStore, upto: Vector | None = None
) -> None:
    """Replay a partition from its first event to `upto` (or the recorded checkpoint), through every recorded vector.

    Of `recorded`, only assignment changes and the checkpoint are read. `into` must hold nothing of the partition yet.

    Raises:
        AssignmentChangeDiffers: an assignment change is not what was recorded.
        LogLostItsTail, UnreadableEvent, CannotApply: an event before `upto` cannot be read or applied.
    """
    stored = recorded.checkpoint(number)
    head = upto or stored.vector
    fleet = FleetEventReader(log)
    # `read_on` ends without an error at an event that cannot be read: it can lie behind `upto`.
    fleet.read_on()
    replay = PartitionReplay(number, events=EventsAhead(log, number, skips=lambda: fleet.skipped(number)), fleet=fleet)
    partition = replay.partition
    partition.rebuilt = stored.rebuilt
    # After the last step, a commit without an assignment change for the events up to `upto`.
    for step in itertools.chain(replay.confirmed(recorded, upto=head), (None,)):
        assignment_change = None if step is None else step.assignment_change
        recorded_at = None if step is None or step.recorded is None else step.recorded.recorded
        expected = into.checkpoint(number)
        writes = writes_of(partition, assignment_change, expected=expected, recorded=recorded_at)
        assert into.commit(number, writes), "another process writes to the database of the rebuild"


def _blocked(number: int, error: AssignmentChangeDiffers | CannotApply | LogLostItsTail | UnreadableEvent) -> Blocked:
    """The mark that a worker would set: at an event, or without a position if only a rebuild helps."""
    if isinstance(error, AssignmentChangeDiffers) or (
        not isinstance(error, CannotApply) and error.stream not in {name(number), name(FLEET)}
    ):
        return Blocked(number, 0, str(error), now_ms(), decidable=False)
    return blocked_at(number, error, at=now_ms())


if __name__ == "__main__":
    main()
