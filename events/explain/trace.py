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
    last_changes, agent = LastChanges(device_id, values), module_subject(device_id, AGENT)
    modules = {prop.module for prop in values if prop.module} | {AGENT}
    subjects = [device_id, *sorted(module_subject(device_id, module) for module in modules)]
    newest: dict[type[Event], Envelope[Any]] = {}
    reported: Envelope[Any] | None = None
    undecided: list[Envelope[Any]] = []
    moving: list[Envelope[Any]] = []
    upper, least, window = upto, max(0, upto - entries_max), WINDOW_ENTRIES
    while upper > least and not (DeviceRegistered in newest and last_changes.is_done):
        after = max(least, upper - window)
        try:
            envelopes = _readable(streams, subjects, partitions=partitions, after=after, upto=upper)
        except NOT_THERE:
            break
        for envelope in reversed(envelopes):
            last_changes.note(envelope)
            if envelope.subject == agent and isinstance(envelope.event, PropertiesReported):
                reported = reported or envelope
                continue
            if isinstance(envelope.event, DesiredDelivered):
                continue  # the effect of an assignment, never the cause of one
            if envelope.subject == device_id:
                newest.setdefault(type(envelope.event), envelope)
            if envelope.position > decided:
                undecided.append(envelope)
            elif span[0] < envelope.position <= span[1]:
                moving.append(envelope)
            # Older events are of an earlier device with the same id.
            if DeviceRegistered in newest:
                break
        upper, window = after, min(2 * window, WINDOW_ENTRIES_MAX)
    return DeviceTrace(
        0 if DeviceRegistered in newest else upper,
        last_changes.by_property,
        reported,
        newest.get(ConfigurationSet),
        newest.get(DeviceRegistered),
        newest.get(DeviceRetired),
        tuple(reversed(undecided)),
        tuple(reversed(moving)),
    )


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
