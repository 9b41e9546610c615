"""The recorded events and assignment changes of a system, merged in the order of their times."""

import heapq
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from events.device.events import DesiredDelivered, PropertiesReported
from events.envelope import Envelope
from events.fleet.assignments import AssignmentChange
from events.fleet.configuration import AGENT, HUB
from events.log.errors import UnreadableEvent
from events.log.events import BlockResolved
from events.log.keys import FLEET
from events.log.port import Event, Log
from events.projection_store.port import ProjectionStore

_BATCH = 1000


class RecordedEntry(msgspec.Struct, frozen=True):
    """An event of a stream, or an assignment change of a partition, at its time (milliseconds)."""

    at: int
    stream: int
    event: Envelope[Event] | None = None
    assignment_change: AssignmentChange | None = None


class History:
    """The log and the assignment changes of a system; every method reads them anew."""

    def __init__(self, log: Log, recorded: ProjectionStore, *, until: int | None = None) -> None:
        """Entries later than `until` (milliseconds) are skipped."""
        self._log, self._recorded, self._until = log, recorded, until
        self.partitions = log.partitions
        self._skipped: dict[int, set[int]] = {stream: set() for stream in (FLEET, *range(log.partitions))}
        # Events that an operator skipped were never applied in reality, so the backtest skips them too.
        for envelope in self._events(FLEET):
            if isinstance(envelope.event, BlockResolved):
                self._skipped[envelope.event.stream].add(envelope.event.position)

    def fleet(self) -> Iterator[Envelope[Event]]:
        """The fleet's events."""
        return (entry.event for entry in self._stream(FLEET) if entry.event is not None)

    def events(self) -> Iterator[RecordedEntry]:
        """All events by time; at equal times the fleet's come first."""
        streams = [self._stream(stream) for stream in (FLEET, *range(self.partitions))]
        return heapq.merge(*streams, key=lambda entry: (entry.at, entry.stream))

    def all(self) -> Iterator[RecordedEntry]:
        """Events and assignment changes by time; at equal times an assignment change comes after the events that caused it."""
        streams = [self._stream(stream) for stream in (FLEET, *range(self.partitions))]
        streams += [self._assignment_changes(number) for number in range(self.partitions)]
        return heapq.merge(*streams, key=lambda entry: (entry.at, entry.assignment_change is not None, entry.stream))

    def _stream(self, stream: int) -> Iterator[RecordedEntry]:
        skipped = self._skipped[stream]
        for envelope in self._events(stream):
            if self._until is not None and envelope.at > self._until:
                return
            if envelope.position not in skipped:
                yield RecordedEntry(envelope.at, stream, event=envelope)

    def _events(self, stream: int) -> Iterator[Envelope[Event]]:
        after, limit = 0, _BATCH
        while True:
            try:
                envelopes = self._log.read(stream, after=after, limit=limit) if limit else []
            except UnreadableEvent as error:
                # A batch fails as a whole. The events before the unreadable one are read in a batch of their own.
                if error.position > after + 1:
                    limit = error.position - 1 - after
                    continue
                if error.position not in self._skipped[stream] and stream != FLEET:
                    raise
                after, limit = error.position, _BATCH
                continue
            if not envelopes:
                return
            yield from envelopes
            after, limit = envelopes[-1].position, _BATCH

    def _assignment_changes(self, number: int) -> Iterator[RecordedEntry]:
        after = 0
        while entries := self._recorded.assignment_changes(number, after=after, limit=_BATCH):
            for entry in entries:
                if self._until is not None and entry.at > self._until:
                    return
                after = entry.position
                yield RecordedEntry(
                    entry.at, number, assignment_change=msgspec.json.decode(entry.data, type=AssignmentChange)
                )


def is_answer(envelope: Envelope[Event]) -> bool:
    """Whether an event is a device's answer to its configuration: that it received a section, or an agent's report about it."""
    event, module_id = envelope.event, envelope.subject.partition("/")[2]
    if isinstance(event, DesiredDelivered):
        return True
    if not isinstance(event, PropertiesReported):
        return False
    return module_id == AGENT or (module_id == HUB and bool(health_part(event.patch)))


def health_part(patch: Mapping[str, Any]) -> dict[str, Any]:
    """The members of an agent's report that tell how the device is with its configuration; all others are dropped."""
    reduced = {name: patch[name] for name in ("lastDesiredVersion", "lastDesiredStatus") if name in patch}
    for group in ("systemModules", "modules"):
        modules = patch.get(group)
        if isinstance(modules, dict):
            reduced[group] = {name: _status(module) for name, module in modules.items()}
        elif group in patch:
            reduced[group] = modules
    return reduced


def _status(module: Any) -> Any:
    # A device may report anything: what is no object stays, so that the judgement sees the same malformed value.
    if not isinstance(module, dict):
        return module
    return {name: value for name, value in module.items() if name == "runtimeStatus"}


def code_in(patch: Mapping[str, Any]) -> int | None:
    """The status code in a report; `None` when it has none."""
    status = patch.get("lastDesiredStatus")
    code = status.get("code") if isinstance(status, dict) else None
    return code if isinstance(code, int) else None
