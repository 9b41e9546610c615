"""Views from facts and recorded outcomes alone: no view, snapshot or warm state has a part in it."""

from events.envelope import Vector
from events.log.events_ahead import EventsAhead
from events.log.fleet_facts import FleetFacts
from events.log.port import Log
from events.view_store.port import ViewStore
from events.views.keeping import writes_of
from workers.replay.folding import Folding, OutcomeDiffers


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
