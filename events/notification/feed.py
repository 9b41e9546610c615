"""The events and assignment changes of all streams as notifications, from any positions on."""

import heapq
import itertools

import msgspec
from pyroaring import BitMap

from events.canonical import JsonObject
from events.envelope import Envelope
from events.fleet.assignments import AssignmentChange
from events.log.errors import LogLostItsTail, UnreadableEvent
from events.log.keys import FLEET
from events.log.port import Event, Log
from events.notification.cloud_event import EventLocation, Notification, of_assignment_change, of_event, of_unreadable
from events.notification.positions import Positions, names_of
from events.projection_store.device_pages import device_ids
from events.projection_store.port import ProjectionStore
from events.rollout.events import Devices
from events.rollout.sets import FleetSet
from events.stored_projection.partition_reader import ids_of, pages_of
from events.stored_projection.stored_partition import AssignmentEntry

DEVICES_NAMED_MAX = 100
"""The most devices that a move of an assignment change names; its count is the total."""


class Feed:
    """Reads notifications. It has no state per reader, so a reader can come back after days.

    Every method raises LogUnavailable if Redis does not answer.
    """

    def __init__(self, log: Log, projections: ProjectionStore) -> None:
        self._log, self._projections = log, projections
        self._names = names_of(log.partitions)

    def heads(self) -> Positions:
        """Returns the current end of every stream."""
        numbers = range(self._log.partitions)
        heads = self._log.heads()
        partitions = self._projections.read_each(numbers)
        return (
            heads[FLEET],
            *(heads[number] for number in numbers),
            *(partition.checkpoint.assignment_changes for partition in partitions),
        )

    def read(self, after: Positions, upto: Positions, *, limit: int) -> list[Notification]:
        """Returns about `limit` notifications, in each stream's order, merged by time; LogLostItsTail if one is missing."""
        behind = [index for index, (low, high) in enumerate(zip(after, upto, strict=True)) if low < high]
        # An equal share for each stream, so that a busy stream does not delay the others.
        share = max(1, limit // max(1, len(behind)))
        streams = [self.of_stream(index, after[index], min(upto[index], after[index] + share)) for index in behind]
        return list(heapq.merge(*streams, key=lambda notification: notification.at))

    def of_stream(self, index: int, after: int, upto: int) -> list[Notification]:
        """Returns a stream's notifications from after + 1 to `upto`, or to an unreadable entry.

        Raises:
            As `read`.
        """
        if index > self._log.partitions:
            return self._assignment_changes(index, after, upto)
        number = index - 1 if index else FLEET
        try:
            events = self._log.read(number, after=after, limit=upto - after)
        except UnreadableEvent as error:
            if error.position == after + 1:
                return [of_unreadable(self.location(index, number, error.position))]
            events = self._log.read(number, after=after, limit=error.position - 1 - after)
        return [self.event(index, number, envelope) for envelope in events]

    def event(self, index: int, number: int, envelope: Envelope[Event]) -> Notification:
        """Returns an event as a notification."""
        return of_event(self.location(index, number, envelope.position), envelope, self._described)

    def _described(self, devices: Devices) -> JsonObject:
        members = FleetSet.of(devices)
        names: list[str] = []
        for number, ordinals in sorted(members.by_partition.items()):
            if named := BitMap(itertools.islice(ordinals, DEVICES_NAMED_MAX - len(names))):
                # During a rebuild, the projections do not have all ordinals yet; the missing devices are left out.
                projected = BitMap(range(self._projections.checkpoint(number).ordinals)) & named
                names += device_ids(self._projections, number, projected)
        return {"count": len(members), "devices": names}

    def _assignment_changes(self, index: int, after: int, upto: int) -> list[Notification]:
        number = index - 1 - self._log.partitions
        entries = self._projections.assignment_changes(number, after=after, limit=upto - after)
        notifications = []
        for expected, entry in enumerate(entries, after + 1):
            if entry.position != expected:
                raise LogLostItsTail(self._names[index], expected=expected, actual=entry.position)
            notifications.append(self.assignment_change(index, entry))
        if len(notifications) < upto - after:
            raise LogLostItsTail(self._names[index], expected=upto, actual=after + len(notifications))
        return notifications

    def assignment_change(self, index: int, entry: AssignmentEntry) -> Notification:
        """Returns an assignment change as a notification."""
        number = index - 1 - self._log.partitions
        assignment_change = msgspec.json.decode(entry.data, type=AssignmentChange)
        firsts = [BitMap(itertools.islice(move.ordinals(), DEVICES_NAMED_MAX)) for move in assignment_change.moves]
        pages = pages_of(BitMap.union(*firsts)) if firsts else ()
        stored = self._projections.read(number, fields=(("ids", pages),))
        named = [list(ids_of(first, stored)) for first in firsts]
        return of_assignment_change(self.location(index, number, entry.position), entry, assignment_change, named)

    def location(self, index: int, number: int, position: int) -> EventLocation:
        """Returns a location, by the stream's index among all positions and its partition number."""
        return EventLocation(self._log.epoch, index, self._names[index], number, position)
