"""The events that led a device to where it is: its partition read backwards once, as far as the caller wants."""

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


class Traced(msgspec.Struct, frozen=True):
    """What was found, looking back from a position to `back_to` (+ 1).

    `last_changes` has, for each property, the event since which it has been as it is. `reported` is the agent's last report,
    `by_hand` the last configuration set by hand; `registered` and `retired` begin and end the device's last generation.
    `undecided` are the events that workers have not come to, and `moving` those that came with the assignment change.
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
"""The first look back; each further one is twice as long, up to WINDOW_ENTRIES_MAX."""
WINDOW_ENTRIES_MAX = 16_000
NOT_THERE = (LogLostItsTail, ObjectStoreUnavailable, SegmentDamaged, SegmentMissing)
"""What ends a look back before its time."""


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
) -> Traced:
    """Look back from a position of the device's partition, over at most so many entries, or to where they cannot be read.

    `decided` is how far workers have come, `span` the (after, upto) of the assignment change that gave the device what it has.

    Raises:
        LogUnavailable: Redis does not answer.
    """
    last_changes = LastChanges(device_id, values)
    modules = {prop.module for prop in values if prop.module} | {AGENT}
    subjects = [device_id, *sorted(module_subject(device_id, module) for module in modules)]
    seen = _Seen(device_id)
    upper, least, window = upto, max(0, upto - entries_max), WINDOW_ENTRIES
    while upper > least and not (seen.registered and last_changes.is_done):
        after = max(least, upper - window)
        try:
            envelopes = _readable(streams, subjects, partitions=partitions, after=after, upto=upper)
        except NOT_THERE:
            break
        for envelope in reversed(envelopes):
            last_changes.note(envelope)
            seen.note(envelope, decided=decided, span=span)
            if seen.registered:
                break
        upper, window = after, min(2 * window, WINDOW_ENTRIES_MAX)
    return seen.traced(upper, last_changes)


def _readable(
    streams: RawStreams, subjects: Sequence[str], *, partitions: int, after: int, upto: int
) -> list[Envelope[Event]]:
    """The events of some subjects. Skips those that do not decode: they stop workers, but not an explanation."""
    envelopes: list[Envelope[Event]] = []
    while True:
        try:
            envelopes.extend(events_of(streams, subjects, partitions=partitions, after=after, upto=upto))
        except UnreadableEvent as error:
            after = error.position
        else:
            return envelopes


class _Seen:
    """What was passed on the way back, newest first."""

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
            # It follows from an assignment, and none follows from it.
            return
        if envelope.subject == self._device_id:
            self._last.setdefault(type(envelope.event), envelope)
        if envelope.position > decided:
            self._undecided.append(envelope)
        elif span[0] < envelope.position <= span[1]:
            self._moving.append(envelope)

    def traced(self, back_to: int, last_changes: LastChanges) -> Traced:
        return Traced(
            0 if self.registered else back_to,
            last_changes.found,
            self._reported,
            self._last.get(ConfigurationSet),
            self.registered,
            self._last.get(DeviceRetired),
            _ascending(self._undecided),
            _ascending(self._moving),
        )


def _ascending(newest_first: Sequence[Envelope[Any]]) -> tuple[Envelope[Any], ...]:
    return tuple(reversed(newest_first))
