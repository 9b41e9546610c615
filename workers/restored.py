"""Views of a restored log, from its facts and recorded outcomes, before anybody opens it: `python -m workers.restored P EPOCH`."""

import sys

import msgspec
from typing_extensions import override

from events.clock import now_ms
from events.envelope import Vector
from events.fleet.errors import CannotFold
from events.fleet.outcome import Outcome
from events.log.connect import answering, connect
from events.log.errors import LogLostItsTail, UnreadableFact
from events.log.events_ahead import EventsAhead
from events.log.fleet_facts import FleetFacts, position_of
from events.log.keys import FLEET, name
from events.log.port import Log
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.settings import read_settings
from events.view_store.port import Blocked, ViewStore
from events.view_store.redis import RedisViewStore, view_key
from events.views.keeping import writes_of
from events.views.kept import ARRAYS, HASHES, Writes
from workers.replay.folding import Folding, OutcomeDiffers


class BesideOutcomes(RedisViewStore):
    """Views whose outcomes stand in the log already."""

    @override
    def commit(self, partition: int, writes: Writes) -> bool:
        """Make all writes stand; the outcome does."""
        return super().commit(partition, msgspec.structs.replace(writes, outcome=None))

    def forget(self, partition: int) -> None:
        """Keep nothing of a partition: from views in the middle of its outcomes a worker would decide the rest a second time."""
        with answering():
            self._client.unlink(*(view_key(partition, what) for what in ("checkpoint", *HASHES, *ARRAYS)))


def main() -> None:
    """Rebuild every partition to its last outcome; workers fold on from there.

    Says how many are done, one line for each; behind the number, why the partition is marked as stopped, if it is.
    """
    partitions, epoch = int(sys.argv[1]), sys.argv[2]
    log = RedisLog(connect(read_settings().redis_url), partitions=partitions, epoch=epoch)
    views = BesideOutcomes(log.client)
    streams = RawStreams(log.client)
    for number in range(partitions):
        why = ""
        try:
            vector = _decided(views, number, streams.head(f"{name(number)}:outcomes"))
            # Where nothing was ever decided nothing is kept, not even how far it is.
            if vector != Vector():
                rebuild(number, log=log, recorded=views, into=views, upto=vector)
        except (OutcomeDiffers, CannotFold, LogLostItsTail, UnreadableFact) as error:
            why = " ".join(str(error).split())
            views.forget(number)
            views.block(number, _blocked(number, error))
        sys.stdout.write(f"{number + 1} {why}\n")
        sys.stdout.flush()


def rebuild(number: int, *, log: Log, recorded: ViewStore, into: ViewStore, upto: Vector | None = None) -> None:
    """Fold a partition from its first fact to `upto` (or the recorded checkpoint), through every recorded vector.

    `recorded` is only asked for outcomes and the checkpoint. `into` must hold nothing of the partition yet.

    Raises:
        OutcomeDiffers: an outcome is not what was recorded.
        LogLostItsTail, UnreadableFact, CannotFold: it cannot be folded so far.
    """
    stored = recorded.checkpoint(number)
    head = upto or stored.vector
    fleet = FleetFacts(log)
    # What lies behind `upto` has no part in it.
    fleet.read_on()
    folding = Folding(number, events=EventsAhead(log, number, skips=lambda: fleet.skipped(number)), fleet=fleet)
    partition = folding.partition
    partition.rebuilt = stored.rebuilt
    for step in folding.through(recorded, upto=head, outcomes=None, decided=None):
        if step.recorded != step.folded:
            raise OutcomeDiffers(number, step.position)
        before = into.checkpoint(number)
        recorded_at = None if step.recorded is None else step.recorded.recorded
        writes = writes_of(partition, step.outcome, expected=before, recorded=recorded_at)
        written = into.commit(number, writes)
        assert written, "somebody else writes to the database of the rebuild"
    folding.fold_to(head)
    partition.release_paths()
    outcome = partition.resolve()
    if outcome is not None:
        raise OutcomeDiffers(number, partition.outcomes)
    written = into.commit(number, writes_of(partition, None, expected=into.checkpoint(number)))
    assert written, "somebody else writes to the database of the rebuild"


def _decided(views: ViewStore, number: int, last: int) -> Vector:
    """Where the last outcome of a partition was computed to."""
    if not last:
        return Vector()
    (entry,) = views.outcomes(number, after=last - 1, limit=1)
    try:
        return msgspec.json.decode(entry.data, type=Outcome).after
    except msgspec.DecodeError as error:
        raise OutcomeDiffers(number, last) from error


def _blocked(number: int, error: OutcomeDiffers | CannotFold | LogLostItsTail | UnreadableFact) -> Blocked:
    """As a worker marks it: at a fact that somebody can decide about, or else at no position, until it is rebuilt."""
    if isinstance(error, CannotFold):
        return Blocked(FLEET if error.fleet else number, error.position, str(error), now_ms())
    streams = {name(number): number, name(FLEET): FLEET}
    if isinstance(error, OutcomeDiffers) or error.stream not in streams:
        return Blocked(number, 0, str(error), now_ms(), decidable=False)
    decidable = not isinstance(error, LogLostItsTail) or error.found > error.expected
    return Blocked(streams[error.stream], position_of(error), str(error), now_ms(), decidable)


if __name__ == "__main__":
    main()
