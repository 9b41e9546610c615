"""The views of one partition folded anew beside the live ones, and put in their place in one step, while work goes on."""

import itertools
import time

import msgspec
from msgspec import UNSET

from events.collecting import seldom
from events.envelope import Vector
from events.fleet.merge_cache import MergeCache
from events.fleet.outcome import Outcome
from events.log.events_ahead import EventsAhead
from events.log.failpoints import FailPoint, reached
from events.log.fleet_facts import FleetFacts
from events.log.keys import name
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.projection.driver import PathsMissing
from events.view_store.redis import RedisViewStore
from events.view_store.staging import Staging, Switch
from events.views.keeping import checkpoint_of, writes_of
from events.views.kept import Checkpoint
from workers.replay.folding import Folding, OutcomeDiffers
from workers.replay.report import Compared
from workers.replay.streams import Tell

_ATTEMPTS = 5


class Rebuilding:
    """Rebuilds views from facts and recorded outcomes alone."""

    def __init__(self, log: RedisLog) -> None:
        self._log, self._recorded = log, RedisViewStore(log.client)
        self._fleet = FleetFacts(log)
        self._merge = MergeCache()

    def partition(self, number: int, tell: Tell = lambda _position: None) -> Compared:
        """Rebuild one partition and switch; killed at any point, the live views are as they were, or are the rebuilt ones.

        Raises:
            OutcomeDiffers: the facts give another outcome than is recorded: `twinfold replay` says which.
            RebuildSuperseded: somebody else began to rebuild the partition meanwhile.
            LogLostItsTail, UnreadableFact, CannotFold: it cannot be folded to where the views are.
            LogUnavailable: Redis did not answer.
        """
        began = time.monotonic()
        for attempt in itertools.count(1):
            try:
                with seldom():
                    found = self._once(number, tell)
            except PathsMissing:
                # The fleet came to name other properties since this attempt began.
                if attempt == _ATTEMPTS:
                    raise
            else:
                return msgspec.structs.replace(found, seconds=time.monotonic() - began)
        raise AssertionError

    def _once(self, number: int, tell: Tell) -> Compared:
        self._fleet.read_on()
        staging = Staging(self._log.client, number)
        reached(FailPoint.REBUILD_BEGUN)
        facts = EventsAhead(
            self._log,
            number,
            skips=lambda: self._fleet.skipped(number),
            seen=lambda some: tell(some[-1].position) if some else None,
        )
        folding = Folding(number, events=facts, fleet=self._fleet, merge=self._merge)
        written = Checkpoint()
        partition, rounds, switch = folding.partition, 0, Switch.MOVED
        outcomes = 0
        while switch is Switch.MOVED:
            rounds += 1
            # Looked at before the checkpoint that it comes with, or it could be newer than that.
            newest = RawStreams(self._log.client).head(f"{name(number)}:outcomes")
            seen = staging.seen()
            live = msgspec.json.decode(seen, type=Checkpoint) if seen else Checkpoint()
            self._fleet.read_on()
            outcomes, vector = self._target(number, live, newest)
            self._fold(folding, outcomes, vector)
            partition.rebuilt = 1 + (0 if live.rebuilt is UNSET else live.rebuilt)
            writes = writes_of(partition, None, expected=written)
            written = writes.checkpoint
            staging.write(writes)
            if rounds == 1:
                reached(FailPoint.REBUILD_STAGED)
            reached(FailPoint.REBUILD_BEFORE_SWITCH)
            switch = staging.switch(seen, outcomes=outcomes, checkpoint=checkpoint_of(partition))
        reached(FailPoint.REBUILD_AFTER_SWITCH)
        self._unblock(number)
        return Compared(
            number,
            facts=partition.vector.partition - len(facts.skipped),
            outcomes=outcomes,
            left_out=len(facts.skipped),
            vector=partition.vector,
            notes=(f"switched in round {rounds}",),
        )

    def _target(self, number: int, live: Checkpoint, newest: int) -> tuple[int, Vector]:
        """How many outcomes to fold through, and how far; what is recorded counts where the views are behind it, or gone."""
        if live.outcomes >= newest:
            return live.outcomes, live.vector
        (entry,) = self._recorded.outcomes(number, after=newest - 1, limit=1)
        return newest, msgspec.json.decode(entry.data, type=Outcome).after

    def _fold(self, folding: Folding, outcomes: int, vector: Vector) -> None:
        number = folding.partition.number
        steps = folding.through(self._recorded, upto=Vector(2**63, 2**63), outcomes=outcomes, decided=None)
        for step in steps:
            if step.recorded != step.folded:
                raise OutcomeDiffers(number, step.position)
        folding.fold_to(vector)
        folding.partition.release_paths()
        # What was decided is recorded; nothing more may follow.
        last = folding.decide(outcomes + 1, None)
        if last.folded is not None:
            raise OutcomeDiffers(number, last.position)

    def _unblock(self, number: int) -> None:
        blocked = self._recorded.blocked(number)
        if blocked is not None and not blocked.position:
            self._recorded.block(number, None)
