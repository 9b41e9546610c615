"""The newest assignment changes, decoded once for all requests."""

import threading
from collections import OrderedDict
from collections.abc import Iterator

import msgspec
from pyroaring import BitMap

from events.fleet.assignments import Assignment
from events.projection_store.fleet_projection import FleetProjection

ASSIGNMENT_CHANGES_MAX = 500


class RecordedChange(msgspec.Struct, frozen=True):
    """An assignment change: the devices that got each assignment. `at` is in milliseconds since 1970."""

    position: int
    at: int
    moves: tuple[tuple[Assignment, BitMap], ...]


class RecentAssignments:
    """The last assignment changes of each partition that requests read."""

    def __init__(self, fleet_projection: FleetProjection) -> None:
        self._fleet_projection = fleet_projection
        self._lock = threading.Lock()
        self._changes: dict[int, OrderedDict[int, RecordedChange]] = {}

    def recorded(self, partition: int, *, after: int, upto: int | None = None) -> Iterator[RecordedChange]:
        """Assignment changes at positions after + 1 to `upto`, or to the newest."""
        position = after
        with self._lock:
            newest = self._changes.setdefault(partition, OrderedDict())
        while upto is None or position < upto:
            with self._lock:
                recorded = newest.get(position + 1)
            if recorded is None:
                break
            position += 1
            yield recorded
        if upto is not None and position >= upto:
            return
        for number, at, assignment_change in self._fleet_projection.recorded(partition, after=position):
            if upto is not None and number > upto:
                return
            moves = tuple((move.after, move.ordinals()) for move in assignment_change.moves)
            recorded = RecordedChange(number, at, moves)
            with self._lock:
                newest[number] = recorded
                while len(newest) > ASSIGNMENT_CHANGES_MAX:
                    newest.popitem(last=False)
            yield recorded
