"""One stream of the log folded again and held against what is recorded of it."""

import itertools
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from events.collecting import seldom
from events.envelope import Envelope, Vector
from events.fleet.errors import CannotFold
from events.fleet.merge_cache import MergeCache
from events.fleet.outcome import Outcome
from events.history.snapshots import Snapshots
from events.log.documents import DeviceDocuments, FleetDocuments
from events.log.errors import LogLostItsTail, UnreadableFact
from events.log.events_ahead import EventsAhead
from events.log.fleet_facts import FleetFacts
from events.log.keys import FLEET, name
from events.log.port import Log
from events.view_store.port import ViewStore
from events.views.keeping import cause_of
from events.views.kept import Kept, OutcomeEntry
from workers.replay.differing import difference_of_bytes, first_difference
from workers.replay.documents import Beside
from workers.replay.folding import Folding, Outcomes, Step
from workers.replay.report import NAMED_MAX, Compared, Difference
from workers.replay.snapshots import SnapshotsPassed
from workers.replay.tracing import traced
from workers.replay.views import count_of, differences

CannotBeRead = (UnreadableFact, LogLostItsTail, CannotFold)
Tell = Callable[[int], None]
"""Is told how many facts of the stream are folded."""

_DEVICES_NAMED = 5


class Named:
    """Differences as they are found: the first of each kind by name, the others as a number."""

    def __init__(self) -> None:
        self._by_kind: dict[str, list[Difference]] = {}
        self.more = 0

    def add(self, found: Iterable[Difference]) -> None:
        """Take some more."""
        for one in found:
            some = self._by_kind.setdefault(one.kind, [])
            if len(some) < NAMED_MAX:
                some.append(one)
            else:
                self.more += 1

    @property
    def named(self) -> tuple[Difference, ...]:
        """Those that are told one by one."""
        return tuple(itertools.chain.from_iterable(self._by_kind.values()))


class Replay:
    """Folds streams of a log again, from facts alone; what is stored is only looked at to compare."""

    def __init__(
        self,
        log: Log,
        recorded: Outcomes,
        views: ViewStore | None,
        *,
        upto: Callable[[int], int | None] = lambda _stream: None,
        snapshots: Snapshots | None = None,
    ) -> None:
        """`upto` answers the last position of a stream that counts; `None` is the newest.

        Where there are no `views`, as of an archive alone, outcomes are what there is to compare, and `upto` names an end.
        """
        self._log, self._recorded, self._views, self._upto = log, recorded, views, upto
        self._snapshots = snapshots
        self._fleet = FleetFacts(log)
        self._merge = MergeCache()

    def stream(self, stream: int, tell: Tell = lambda _position: None) -> Compared:
        """Fold one stream and compare.

        Raises:
            LogUnavailable: Redis did not answer.
            LogLostItsTail, UnreadableFact, CannotFold: it cannot be folded to where it is recorded to be.
        """
        with seldom():
            return self._compared(stream, tell)

    def _compared(self, stream: int, tell: Tell) -> Compared:
        began, cpu = time.monotonic(), time.process_time()
        self._fleet.read_on()
        found = self._of_fleet(tell) if stream == FLEET else self._of_partition(stream, tell)
        position = found.facts + found.left_out
        named = traced(self._log, stream, found.differences, skips=lambda: self._fleet.skipped(stream), upto=position)
        found = msgspec.structs.replace(found, differences=named)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return msgspec.structs.replace(
            found,
            seconds=time.monotonic() - began,
            cpu_seconds=time.process_time() - cpu,
            memory_bytes_max=peak,
        )

    # -- the fleet's stream: documents alone

    def _of_fleet(self, tell: Tell) -> Compared:
        beside = Beside(self._log, FLEET, FleetDocuments())
        upto = self._upto(FLEET)
        facts = EventsAhead(
            self._log,
            FLEET,
            skips=lambda: self._fleet.skipped(FLEET),
            seen=_telling(beside.see, tell),
            stops=() if upto is None else (upto,),
        )
        named = Named()
        if upto is None:
            named.add(beside.differences(facts))
            named.add(beside.faults)
        else:
            for _ in facts.runs(upto):
                pass
        return Compared(
            FLEET,
            facts=facts.position - len(facts.skipped),
            documents=beside.compared,
            left_out=len(facts.skipped),
            apart=len(beside.apart),
            differences=named.named,
            more=named.more,
            notes=_stopped(facts),
        )

    # -- a partition: outcomes, views, twins

    def _of_partition(self, number: int, tell: Tell) -> Compared:
        upto = Vector(*(_or_all(self._upto(stream)) for stream in (number, FLEET)))
        # All of it as of one moment, before anything is folded: so that nothing of it moves meanwhile.
        stored = None if self._views is None else self._views.load(number)
        self._fleet.read_on()
        if stored is not None and not stored.checkpoint.vector.is_within(upto):
            stored = None
        documents_too = self._upto(number) is None
        documents = DeviceDocuments()
        beside = Beside(self._log, number, documents)
        named, outcomes = Named(), 0
        passed = SnapshotsPassed(self._snapshots if documents_too else None, number, documents, named.add)
        seen: Callable[[Sequence[Envelope[Any]]], None] = beside.see if documents_too else _nothing
        facts = EventsAhead(
            self._log,
            number,
            skips=lambda: self._fleet.skipped(number),
            seen=_telling(seen, tell),
            stops=passed.stops if documents_too else (upto.partition,),
        )
        folding = Folding(number, events=facts, fleet=self._fleet, merge=self._merge, on_the_way=passed)
        decided = None if stored is None else stored.checkpoint.decided
        count = None if stored is None else stored.checkpoint.outcomes
        for step in folding.through(self._recorded, upto=upto, outcomes=count, decided=decided):
            outcomes += step.recorded is not None
            named.add(self._outcome_differences(number, step, folding))
            passed.pass_by(folding, step)
        views = 0
        if stored is not None:
            folded = self._folded_to(folding, stored, named, passed)
            views = count_of(folded)
            named.add(differences(number, stored, folded))
        else:
            folding.fold_to(_within_head(upto, folding.partition.vector, self._log.head(number), self._fleet))
        passed.end()
        vector = folding.partition.vector
        if documents_too:
            named.add(beside.differences(facts))
            # What a stopped partition waits for at its checkpoint is told as such.
            is_blocked = self._views is not None and self._views.blocked(number) is not None
            named.add(one for one in beside.faults if not is_blocked)
        return Compared(
            number,
            facts=facts.position - len(facts.skipped),
            outcomes=outcomes,
            views=views,
            documents=beside.compared,
            snapshots=passed.compared,
            left_out=len(facts.skipped),
            apart=len(beside.apart),
            vector=vector,
            differences=named.named,
            more=named.more,
            notes=_stopped(facts),
        )

    def _folded_to(self, folding: Folding, stored: Kept, named: Named, passed: SnapshotsPassed) -> Kept:
        """The kept form at the recorded checkpoint; anything that is decided there is not recorded."""
        partition = folding.partition
        vector = stored.checkpoint.vector
        if partition.vector.is_within(vector):
            folding.fold_to(vector)
        partition.release_paths()
        last = folding.decide(partition.outcomes + 1, None)
        named.add(self._outcome_differences(partition.number, last, folding))
        passed.pass_by(folding, last)
        partition.rebuilt = stored.checkpoint.rebuilt
        return passed.kept(partition)

    def _outcome_differences(self, number: int, step: Step, folding: Folding) -> Iterator[Difference]:
        place = f"{name(number)}:outcomes:{step.position}"
        if step.recorded == step.folded:
            return
        recorded = _outcome_in(step.recorded)
        before = (step.outcome or recorded or Outcome(number, Vector(), step.after, ())).before
        span = cause_of(number, before, step.after)
        devices = sorted(_concerned(recorded, step.outcome))
        names = folding.partition.directory.ids
        concerned = tuple(names[ordinal] for ordinal in devices[:_DEVICES_NAMED] if ordinal < len(names))
        found = _parting(step.recorded, step.folded)
        yield Difference(
            "outcome",
            place,
            path=found[0],
            stored=found[1],
            folded=found[2],
            facts=span,
            first_fact=self._first_of(number, before, step.after, set(concerned)),
            devices=concerned,
        )

    def _first_of(self, number: int, before: Vector, after: Vector, concerned: set[str]) -> str:
        """The first fact between two vectors that is of a device concerned; else the first of the fleet, or of them all."""
        position = before.partition
        while position < after.partition:
            try:
                some = self._log.read(number, after=position, limit=min(1000, after.partition - position))
            except (UnreadableFact, LogLostItsTail):
                break
            for envelope in some:
                if envelope.subject.partition("/")[0] in concerned:
                    return f"{name(number)}:{envelope.position}"
            position = some[-1].position
        if after.fleet > before.fleet:
            return f"{name(FLEET)}:{before.fleet + 1}"
        return f"{name(number)}:{before.partition + 1}" if after.partition > before.partition else ""


def _telling(seen: Callable[[Sequence[Envelope[Any]]], None], tell: Tell) -> Callable[[Sequence[Envelope[Any]]], None]:
    def see(facts: Sequence[Envelope[Any]]) -> None:
        seen(facts)
        if facts:
            tell(facts[-1].position)

    return see


def _nothing(_facts: Sequence[Envelope[Any]]) -> None: ...


def _or_all(position: int | None) -> int:
    return 2**63 if position is None else position


def _within_head(upto: Vector, least: Vector, head: int, fleet: FleetFacts) -> Vector:
    return Vector(max(least.partition, min(upto.partition, head)), max(least.fleet, min(upto.fleet, fleet.position)))


def _stopped(facts: EventsAhead) -> tuple[str, ...]:
    return () if facts.stopped is None else (str(facts.stopped),)


def _outcome_in(entry: OutcomeEntry | None) -> Outcome | None:
    try:
        return None if entry is None else msgspec.json.decode(entry.data, type=Outcome)
    except msgspec.DecodeError:
        return None


def _concerned(recorded: Outcome | None, folded: Outcome | None) -> set[int]:
    """The ordinals of devices that moved otherwise."""
    moved: list[set[tuple[int, bytes, bytes]]] = []
    for outcome in (recorded, folded):
        try:
            moved.append(
                {
                    (ordinal, msgspec.json.encode(move.before), msgspec.json.encode(move.after))
                    for move in (outcome.moves if outcome else ())
                    for ordinal in move.ordinals()
                }
            )
        except ValueError:
            moved.append(set())
    return {ordinal for ordinal, _, _ in moved[0] ^ moved[1]}


def _parting(recorded: OutcomeEntry | None, folded: OutcomeEntry | None) -> tuple[str, str, str]:
    if recorded is None:
        return "", "", "an outcome that is not recorded"
    if folded is None:
        return "", "an outcome", "nothing that is decided here"
    found = difference_of_bytes(recorded.data, folded.data)
    if found is not None:
        return found
    pair = [{"at": one.at, "cause": one.cause, "position": one.position} for one in (recorded, folded)]
    return first_difference(*pair) or ("", "", "")
