"""The newest assignment changes, decoded once for all requests."""

import threading
from collections import OrderedDict
from collections.abc import Iterator

import msgspec
from pyroaring import BitMap

from events.fleet.assignments import Assignment
from events.projection_store.fleet_projection import FleetProjection

ASSIGNMENT_CHANGES_MAX = 500


class RecentChange(msgspec.Struct, frozen=True):
    """Devices that got the same assignment in one assignment change."""

    after: Assignment
    members: BitMap


class RecordedChange(msgspec.Struct, frozen=True):
    """An assignment change with its devices as bitmaps; `at` is in milliseconds since 1970."""

    position: int
    at: int
    changes: tuple[RecentChange, ...]


class RecentAssignments:
    """The last assignment changes of each partition that requests read."""

    def __init__(self, fleet_projection: FleetProjection) -> None:
        self._fleet_projection = fleet_projection
        self._lock = threading.Lock()
        self._changes: dict[int, OrderedDict[int, RecordedChange]] = {}

    def recorded(self, partition: int, *, after: int, upto: int | None = None) -> Iterator[RecordedChange]:
        """Assignment changes at positions after + 1 to `upto`, or to the newest."""
        position = after
        while upto is None or position < upto:
            with self._lock:
                recorded = self._changes.setdefault(partition, OrderedDict()).get(position + 1)
            if recorded is None:
                break
            position += 1
            yield recorded
        if upto is not None and position >= upto:
            return
        for number, at, assignment_change in self._fleet_projection.recorded(partition, after=position):
            if upto is not None and number > upto:
                return
            changes = tuple(RecentChange(moved.after, moved.ordinals()) for moved in assignment_change.moves)
            yield self._keep(partition, RecordedChange(number, at, changes))

    def _keep(self, partition: int, recorded: RecordedChange) -> RecordedChange:
        with self._lock:
            newest = self._changes.setdefault(partition, OrderedDict())
            newest[recorded.position] = recorded
            while len(newest) > ASSIGNMENT_CHANGES_MAX:
                newest.popitem(last=False)
        return recorded
