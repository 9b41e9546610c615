"""Projections of a restored log, from its events and recorded changes, before anybody opens it: `python -m workers.restored P EPOCH`."""

import sys

import msgspec
from typing_extensions import override

from events.clock import now_ms
from events.envelope import Vector
from events.fleet.assignment_change import AssignmentChange
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
from workers.replay.partition_replay import AssignmentChangeDiffers, PartitionReplay


class BesideAssignmentChanges(RedisProjectionStore):
    """Projections whose assignment changes stand in the log already."""

    @override
    def commit(self, partition: int, writes: Writes) -> bool:
        """Make all writes stand; the assignment change does."""
        return super().commit(partition, msgspec.structs.replace(writes, assignment_change=None))

    def forget(self, partition: int) -> None:
        """Keep nothing of a partition: from projections in the middle of its changes a worker would decide the rest a second time."""
        with answering():
            self._client.unlink(*(projection_key(partition, what) for what in ("checkpoint", *HASHES, *ARRAYS)))


def main() -> None:
    """Rebuild every partition to its last assignment change; workers replay on from there.

    Says how many are done, one line for each; behind the number, why the partition is marked as stopped, if it is.
    """
    partitions, epoch = int(sys.argv[1]), sys.argv[2]
    log = RedisLog(connect(read_settings().redis_url), partitions=partitions, epoch=epoch)
    projections = BesideAssignmentChanges(log.client)
    streams = RawStreams(log.client)
    for number in range(partitions):
        why = ""
        try:
            vector = _decided(projections, number, streams.head(f"{name(number)}:assignments"))
            # Where nothing was ever decided nothing is kept, not even how far it is.
            if vector != Vector():
                rebuild(number, log=log, recorded=projections, into=projections, upto=vector)
        except (AssignmentChangeDiffers, CannotApply, LogLostItsTail, UnreadableEvent) as error:
            why = " ".join(str(error).split())
            projections.forget(number)
            projections.block(number, _blocked(number, error))
        sys.stdout.write(f"{number + 1} {why}\n")
        sys.stdout.flush()


def rebuild(
    number: int, *, log: Log, recorded: ProjectionStore, into: ProjectionStore, upto: Vector | None = None
) -> None:
    """Replay a partition from its first event to `upto` (or the recorded checkpoint), through every recorded vector.

    `recorded` is only asked for assignment changes and the checkpoint. `into` must hold nothing of the partition yet.

    Raises:
        AssignmentChangeDiffers: an assignment change is not what was recorded.
        LogLostItsTail, UnreadableEvent, CannotApply: it cannot be replayed so far.
    """
    stored = recorded.checkpoint(number)
    head = upto or stored.vector
    fleet = FleetEventReader(log)
    # What lies behind `upto` has no part in it.
    fleet.read_on()
    replay = PartitionReplay(number, events=EventsAhead(log, number, skips=lambda: fleet.skipped(number)), fleet=fleet)
    partition = replay.partition
    partition.rebuilt = stored.rebuilt
    for step in replay.through(recorded, upto=head, assignment_changes=None, decided=None):
        if step.recorded != step.replayed:
            raise AssignmentChangeDiffers(number, step.position)
        before = into.checkpoint(number)
        recorded_at = None if step.recorded is None else step.recorded.recorded
        writes = writes_of(partition, step.assignment_change, expected=before, recorded=recorded_at)
        written = into.commit(number, writes)
        assert written, "somebody else writes to the database of the rebuild"
    replay.replay_to(head)
    partition.release_paths()
    assignment_change = partition.resolve()
    if assignment_change is not None:
        raise AssignmentChangeDiffers(number, partition.assignment_changes)
    written = into.commit(number, writes_of(partition, None, expected=into.checkpoint(number)))
    assert written, "somebody else writes to the database of the rebuild"


def _decided(projections: ProjectionStore, number: int, last: int) -> Vector:
    """Where the last assignment change of a partition was computed to."""
    if not last:
        return Vector()
    (entry,) = projections.assignment_changes(number, after=last - 1, limit=1)
    try:
        return msgspec.json.decode(entry.data, type=AssignmentChange).after
    except msgspec.DecodeError as error:
        raise AssignmentChangeDiffers(number, last) from error


def _blocked(number: int, error: AssignmentChangeDiffers | CannotApply | LogLostItsTail | UnreadableEvent) -> Blocked:
    """As a worker marks it: at an event that somebody can decide about, or else at no position, until it is rebuilt."""
    if isinstance(error, CannotApply):
        return Blocked(FLEET if error.fleet else number, error.position, str(error), now_ms())
    streams = {name(number): number, name(FLEET): FLEET}
    if isinstance(error, AssignmentChangeDiffers) or error.stream not in streams:
        return Blocked(number, 0, str(error), now_ms(), decidable=False)
    decidable = not isinstance(error, LogLostItsTail) or error.actual > error.expected
    return Blocked(streams[error.stream], error.position, str(error), now_ms(), decidable)


if __name__ == "__main__":
    main()
