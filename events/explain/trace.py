"""The events behind a device's current state, found by one backward read of its partition."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from events.device.events import ConfigurationSet, DesiredDelivered, DeviceRegistered, DeviceRetired, PropertiesReported
from events.device.identifiers import AGENT, module_subject
from events.envelope import Envelope
from events.explain.last_change import LastChanges, Property
from events.log.errors import LogLostItsTail, ObjectStoreUnavailable, SegmentDamaged, SegmentMissing, UnreadableEvent
from events.log.port import Event
from events.log.raw import RawStreams
from events.log.scan import events_of


class DeviceTrace(msgspec.Struct, frozen=True):
    """The events of a device between a position and `back_to` (exclusive).

    `last_changes` has the last change of each property. `reported` is the agent's last report, `by_hand` the last configuration
    set by hand; `registered` and `retired` begin and end the device's last generation. `undecided` are the events that workers
    have not processed, and `moving` the events of the last assignment change.
    """

    back_to: int = 0
    last_changes: Mapping[Property, Envelope[Any]] = {}
    reported: Envelope[Any] | None = None
    by_hand: Envelope[Any] | None = None
    registered: Envelope[Any] | None = None
    retired: Envelope[Any] | None = None
    undecided: tuple[Envelope[Any], ...] = ()
    moving: tuple[Envelope[Any], ...] = ()


WINDOW_ENTRIES = 1000
"""The size of the first read; each further one is twice as long, up to WINDOW_ENTRIES_MAX."""
WINDOW_ENTRIES_MAX = 16_000
NOT_THERE = (LogLostItsTail, ObjectStoreUnavailable, SegmentDamaged, SegmentMissing)
"""Errors that end a trace early: an explanation with fewer causes is better than none."""


def trace(
    streams: RawStreams,
    device_id: str,
    values: Mapping[Property, Any],
    *,
    partitions: int,
    upto: int,
    decided: int,
    span: tuple[int, int],
    entries_max: int,
) -> DeviceTrace:
    """Returns the events found by reading the device's partition backwards from `upto`, over at most `entries_max` entries.

    Stops at entries that cannot be read. `decided` is the position that workers have reached, `span` the (after, upto) of the
    device's last assignment change.

    Raises:
        LogUnavailable: Redis does not answer.
    """
    last_changes = LastChanges(device_id, values)
    modules = {prop.module for prop in values if prop.module} | {AGENT}
    subjects = [device_id, *sorted(module_subject(device_id, module) for module in modules)]
    builder = _TraceBuilder(device_id)
    upper, least, window = upto, max(0, upto - entries_max), WINDOW_ENTRIES
    while upper > least and not (builder.registered and last_changes.is_done):
        after = max(least, upper - window)
        try:
            envelopes = _readable(streams, subjects, partitions=partitions, after=after, upto=upper)
        except NOT_THERE:
            break
        for envelope in reversed(envelopes):
            last_changes.note(envelope)
            builder.note(envelope, decided=decided, span=span)
            # Older events are of an earlier device with the same id.
            if builder.registered:
                break
        upper, window = after, min(2 * window, WINDOW_ENTRIES_MAX)
    return builder.trace(upper, last_changes)


def _readable(
    streams: RawStreams, subjects: Sequence[str], *, partitions: int, after: int, upto: int
) -> list[Envelope[Event]]:
    """The events of these subjects. Skips events that do not decode: they stop workers, but not an explanation."""
    envelopes: list[Envelope[Event]] = []
    while True:
        try:
            envelopes.extend(events_of(streams, subjects, partitions=partitions, after=after, upto=upto))
        except UnreadableEvent as error:
            after = error.position
        else:
            return envelopes


class _TraceBuilder:
    """Collects the events of a trace, newest first."""

    def __init__(self, device_id: str) -> None:
        self._device_id = device_id
        self._agent = module_subject(device_id, AGENT)
        self._last: dict[type[Event], Envelope[Any]] = {}
        self._reported: Envelope[Any] | None = None
        self._undecided: list[Envelope[Any]] = []
        self._moving: list[Envelope[Any]] = []

    @property
    def registered(self) -> Envelope[Any] | None:
        return self._last.get(DeviceRegistered)

    def note(self, envelope: Envelope[Any], *, decided: int, span: tuple[int, int]) -> None:
        if envelope.subject == self._agent and isinstance(envelope.event, PropertiesReported):
            self._reported = self._reported or envelope
            return
        if isinstance(envelope.event, DesiredDelivered):
            # It is the effect of an assignment, never the cause of one.
            return
        if envelope.subject == self._device_id:
            self._last.setdefault(type(envelope.event), envelope)
        if envelope.position > decided:
            self._undecided.append(envelope)
        elif span[0] < envelope.position <= span[1]:
            self._moving.append(envelope)

    def trace(self, back_to: int, last_changes: LastChanges) -> DeviceTrace:
        return DeviceTrace(
            0 if self.registered else back_to,
            last_changes.by_property,
            self._reported,
            self._last.get(ConfigurationSet),
            self.registered,
            self._last.get(DeviceRetired),
            tuple(reversed(self._undecided)),
            tuple(reversed(self._moving)),
        )
