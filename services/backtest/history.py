"""What really happened: events and assignment changes in the order of their times, and how each device answered."""

import heapq
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from events import canonical
from events.device.events import DesiredDelivered, DeviceRegistered, PropertiesReported
from events.envelope import Envelope
from events.fleet.assignments import AssignmentChange
from events.fleet.configuration import AGENT, HUB
from events.log.errors import UnreadableEvent
from events.log.events import BlockResolved
from events.log.keys import FLEET
from events.log.port import Event, Log
from events.projection_store.port import ProjectionStore
from services.backtest.timeline import Grant, Timeline, version_in

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
        return heapq.merge(*self._streams(), key=_order)

    def all(self) -> Iterator[RecordedEntry]:
        """Events and assignment changes by time; at equal times an assignment change comes after the events that caused it."""
        return heapq.merge(*self._streams(), *map(self._assignment_changes, range(self.partitions)), key=_order)

    def _streams(self) -> list[Iterator[RecordedEntry]]:
        return [self._stream(stream) for stream in (FLEET, *range(self.partitions))]

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
                change = msgspec.json.decode(entry.data, type=AssignmentChange)
                yield RecordedEntry(entry.at, number, assignment_change=change)


def _order(entry: RecordedEntry) -> tuple[int, bool, int]:
    return entry.at, entry.assignment_change is not None, entry.stream


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


# -- how devices answered


class RecordedAnswer(msgspec.Struct, frozen=True):
    """A device's answer, `after_ms` after it was given a version of a module's section; without `patch` only that it received it."""

    after_ms: int
    patch: dict[str, Any] | None


class Recorded:
    """The `timeline` of a history up to its `end` (milliseconds), and the answers by device, module and version of its section."""

    def __init__(self) -> None:
        self.timeline, self.end = Timeline(), 0
        self._answers: dict[tuple[int, int, str, int], list[RecordedAnswer]] = {}
        self._patches: dict[bytes, dict[str, Any]] = {}
        self.unmatched = 0
        """Number of reports about a version that the device was never given; the backtest cannot use them."""

    def answers(self, device: tuple[int, int], configuration: str, module_id: str) -> list[RecordedAnswer]:
        """The answers of a device to a module's section of a configuration; empty if it never had that or never answered."""
        grants = self.timeline.grants.get(device, ())
        # The versions that the section had on the device within the configuration, in order, each once.
        versions = dict.fromkeys(
            grant.versions.get(module_id) for grant in grants if grant.configuration == configuration
        )
        keys = [(*device, module_id, version) for version in versions if version is not None]
        return [answer for key in keys for answer in self._answers.get(key, [])]

    def hear(self, device: tuple[int, int], module_id: str, envelope: Envelope[Event]) -> None:
        """Store a device's answer."""
        grants, event = self.timeline.grants.get(device, []), envelope.event
        if isinstance(event, DesiredDelivered):
            for name, version in event.versions.items():
                if grant := _about(grants, name, version):
                    self._note(device, grant, envelope.at, name, None)
            return
        patch = health_part(getattr(event, "patch", {}))
        grant = _about(grants, module_id, version_in(patch))
        if grant is None:
            self.unmatched += 1
            return
        # Thousands of devices send equal patches; one copy of each keeps an answer at a few hundred bytes (decision 0030).
        self._note(device, grant, envelope.at, module_id, self._patches.setdefault(canonical.encode(patch), patch))
        self.timeline.answered(*device, grant, code_in(patch))

    def _note(
        self, device: tuple[int, int], grant: Grant, at: int, module_id: str, patch: dict[str, Any] | None
    ) -> None:
        answers = self._answers.setdefault((*device, module_id, grant.versions[module_id]), [])
        # The clocks of a worker and the API can differ, so an answer can be dated before its grant.
        answers.append(RecordedAnswer(max(0, at - grant.at), patch))


def _about(grants: list[Grant], module_id: str, version: int | None) -> Grant | None:
    """The grant that an answer is about: the first with the version that it names, else the device's last one."""
    if version is None:
        return grants[-1] if grants and module_id in grants[-1].versions else None
    return next((grant for grant in grants if grant.versions.get(module_id) == version), None)


def read_history(history: History) -> Recorded:
    """Read the history once."""
    recorded = Recorded()
    ordinals: list[dict[str, int]] = [{} for _ in range(history.partitions)]
    counts = [0] * history.partitions
    for entry in history.all():
        recorded.end = entry.at
        if entry.assignment_change is not None:
            for _ in recorded.timeline.decided(entry.stream, entry.assignment_change, entry.at):
                pass
            continue
        assert entry.event is not None
        if entry.stream == FLEET:
            recorded.timeline.acted(entry.event)
        elif isinstance(entry.event.event, DeviceRegistered):
            ordinals[entry.stream][entry.event.subject] = counts[entry.stream]
            counts[entry.stream] += 1
        elif is_answer(entry.event):
            device_id, _, module_id = entry.event.subject.partition("/")
            ordinal = ordinals[entry.stream].get(device_id)
            if ordinal is None:
                recorded.unmatched += 1
            else:
                recorded.hear((entry.stream, ordinal), module_id, entry.event)
    return recorded
