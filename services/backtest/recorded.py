"""What is recorded, in the order of its times: facts of devices and of the fleet, and the outcomes that gave devices what they ran."""

import heapq
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from events.device.facts import DesiredDelivered, PropertiesReported
from events.envelope import Envelope
from events.fleet.configuration import AGENT, HUB
from events.fleet.outcome import Outcome
from events.log.errors import UnreadableFact
from events.log.facts import BlockResolved
from events.log.keys import FLEET
from events.log.port import Fact, Log
from events.view_store.port import ViewStore

_BATCH = 1000


class Happened(msgspec.Struct, frozen=True):
    """A fact at its time, in a stream, or an outcome of a partition."""

    at: int
    stream: int
    fact: Envelope[Fact] | None = None
    outcome: Outcome | None = None


class History:
    """The log and the outcomes of a system; it can be gone through more than once."""

    def __init__(self, log: Log, recorded: ViewStore, *, until: int | None = None) -> None:
        """`until` (milliseconds) leaves out what is later."""
        self._log, self._recorded, self._until = log, recorded, until
        self.partitions = log.partitions
        self._left_out: dict[int, set[int]] = {stream: set() for stream in (FLEET, *range(log.partitions))}
        for envelope in self._facts(FLEET):
            if isinstance(envelope.fact, BlockResolved):
                self._left_out[envelope.fact.stream].add(envelope.fact.position)

    def fleet(self) -> Iterator[Envelope[Fact]]:
        """The fleet's facts."""
        return (one.fact for one in self._stream(FLEET) if one.fact is not None)

    def facts(self) -> Iterator[Happened]:
        """All facts, by time; of one time, the fleet's first."""
        streams = [self._stream(stream) for stream in (FLEET, *range(self.partitions))]
        return heapq.merge(*streams, key=lambda one: (one.at, one.stream))

    def all(self) -> Iterator[Happened]:
        """Facts and outcomes, by time; of one time, outcomes after the facts that they follow from."""
        streams = [self._stream(stream) for stream in (FLEET, *range(self.partitions))]
        streams += [self._outcomes(number) for number in range(self.partitions)]
        return heapq.merge(*streams, key=lambda one: (one.at, one.outcome is not None, one.stream))

    def _stream(self, stream: int) -> Iterator[Happened]:
        left_out = self._left_out[stream]
        for envelope in self._facts(stream):
            if self._until is not None and envelope.at > self._until:
                return
            if envelope.position not in left_out:
                yield Happened(envelope.at, stream, fact=envelope)

    def _facts(self, stream: int) -> Iterator[Envelope[Fact]]:
        after, limit = 0, _BATCH
        while True:
            try:
                some = self._log.read(stream, after=after, limit=limit) if limit else []
            except UnreadableFact as error:
                if error.position > after + 1:
                    limit = error.position - 1 - after
                    continue
                if self._left_out and error.position not in self._left_out[stream] and stream != FLEET:
                    raise
                after, limit = error.position, _BATCH
                continue
            if not some:
                return
            yield from some
            after, limit = some[-1].position, _BATCH

    def _outcomes(self, number: int) -> Iterator[Happened]:
        after = 0
        while some := self._recorded.outcomes(number, after=after, limit=_BATCH):
            for entry in some:
                if self._until is not None and entry.at > self._until:
                    return
                after = entry.position
                yield Happened(entry.at, number, outcome=msgspec.json.decode(entry.data, type=Outcome))


def is_answer(envelope: Envelope[Fact]) -> bool:
    """Whether a fact is what a device answers: it says how the device is with what it was given."""
    fact, module_id = envelope.fact, envelope.subject.partition("/")[2]
    if isinstance(fact, DesiredDelivered):
        return True
    if not isinstance(fact, PropertiesReported):
        return False
    return module_id == AGENT or (module_id == HUB and bool(telling(fact.patch)))


def telling(patch: Mapping[str, Any]) -> dict[str, Any]:
    """What of an agent's report says how a device is with its configuration: the rest is of no use for that."""
    kept = {name: patch[name] for name in ("lastDesiredVersion", "lastDesiredStatus") if name in patch}
    for group in ("systemModules", "modules"):
        found = patch.get(group)
        if isinstance(found, dict):
            kept[group] = {name: _status(one) for name, one in found.items()}
        elif group in patch:
            kept[group] = found
    return kept


def _status(module: Any) -> Any:
    return (
        {"runtimeStatus": module["runtimeStatus"]}
        if isinstance(module, dict) and "runtimeStatus" in module
        else ({} if isinstance(module, dict) else module)
    )


def code_in(patch: Mapping[str, Any]) -> int | None:
    """The code that a report answers with, if it does."""
    status = patch.get("lastDesiredStatus")
    code = status.get("code") if isinstance(status, dict) else None
    return code if isinstance(code, int) else None
