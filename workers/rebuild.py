"""Views from facts and recorded outcomes alone: no view, snapshot or warm state has a part in it."""

import msgspec

from events import canonical
from events.envelope import Vector
from events.fleet.outcome import Outcome
from events.fleet.partition import Partition
from events.log.errors import LogLostItsTail
from events.log.fleet_facts import FleetFacts, device_facts
from events.log.keys import name
from events.log.port import Log
from events.view_store.port import ViewStore
from events.views.keeping import writes_of
from events.views.kept import OutcomeEntry
from workers.projector import BATCH_FACTS

_OUTCOMES = 1000


class OutcomeDiffers(Exception):
    """Folding again does not give what was recorded: the log, or the code that folds it, is not what it was."""

    def __init__(self, partition: int, position: int) -> None:
        super().__init__(f"{name(partition)}: outcome {position} is recorded otherwise than the facts give it")
        self.partition, self.position = partition, position


def rebuild(number: int, *, log: Log, recorded: ViewStore, into: ViewStore, upto: Vector | None = None) -> None:
    """Fold a partition from its first fact to `upto` (or the recorded checkpoint), through every recorded vector.

    `recorded` is only asked for outcomes and the checkpoint's vector. `into` must hold nothing of the partition yet.

    Raises:
        OutcomeDiffers: an outcome is not what was recorded.
        LogLostItsTail: facts are missing.
    """
    head = upto or recorded.checkpoint(number).vector
    fleet = FleetFacts(log)
    fleet.refresh()
    partition = Partition(number)
    partition.hold_paths_of(fleet.between(0))
    position = 0
    while entries := recorded.outcomes(number, after=position, limit=_OUTCOMES):
        for entry in entries:
            outcome = msgspec.json.decode(entry.data, type=Outcome)
            if outcome.after.partition > head.partition or outcome.after.fleet > head.fleet:
                break
            position = entry.position
            _step(partition, outcome.after, log, fleet, into, expected=entry)
        else:
            continue
        break
    _fold_to(partition, head, log, fleet)
    partition.release_paths()
    _commit(partition, into, expected=None)


def _step(
    partition: Partition, vector: Vector, log: Log, fleet: FleetFacts, into: ViewStore, *, expected: OutcomeEntry
) -> None:
    _fold_to(partition, vector, log, fleet)
    _commit(partition, into, expected=expected)


def _commit(partition: Partition, into: ViewStore, *, expected: OutcomeEntry | None) -> None:
    before = into.checkpoint(partition.number)
    outcome = partition.resolve()
    found = None if outcome is None else canonical.encode(outcome)
    if found != (None if expected is None else expected.data):
        raise OutcomeDiffers(partition.number, partition.outcomes if expected is None else expected.position)
    written = into.commit(partition.number, writes_of(partition, outcome, expected=before))
    assert written, "somebody else writes to the database of the rebuild"


def _fold_to(partition: Partition, vector: Vector, log: Log, fleet: FleetFacts) -> None:
    skipped = fleet.skipped(partition.number)
    while (after := partition.vector.partition) < vector.partition:
        if after + 1 in skipped:
            partition.skip(after + 1, partition.at)
            continue
        end = min([vector.partition, after + BATCH_FACTS, *(bad - 1 for bad in skipped if bad > after)])
        facts = device_facts(log, partition.number, after=after, limit=end - after)
        if not facts:
            raise LogLostItsTail(name(partition.number), expected=vector.partition, found=after)
        partition.fold(facts)
    partition.fold_fleet(fleet.between(partition.vector.fleet, vector.fleet))
