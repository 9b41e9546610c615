"""The newest assignment changes, decoded once for all who ask."""

import threading
from collections import OrderedDict
from collections.abc import Iterator

import msgspec
from pyroaring import BitMap

from events.fleet.assignments import Assignment
from events.projection_store.fleet_projection import FleetProjection

ASSIGNMENT_CHANGES_MAX = 500


class RecentChange(msgspec.Struct, frozen=True):
    """Devices that came to one assignment by one assignment change."""

    after: Assignment
    members: BitMap


class Recorded(msgspec.Struct, frozen=True):
    """An assignment change, ready to be asked who is in it."""

    position: int
    at: int
    changes: tuple[RecentChange, ...]


class Recent:
    """The last assignment changes of each partition, as far as somebody asked for them."""

    def __init__(self, fleet_projection: FleetProjection) -> None:
        self._fleet_projection = fleet_projection
        self._lock = threading.Lock()
        self._kept: dict[int, OrderedDict[int, Recorded]] = {}

    def recorded(self, partition: int, *, after: int, upto: int | None = None) -> Iterator[Recorded]:
        """Assignment changes at positions after + 1 to `upto`, or to the newest."""
        position = after
        while upto is None or position < upto:
            with self._lock:
                found = self._kept.setdefault(partition, OrderedDict()).get(position + 1)
            if found is None:
                break
            position += 1
            yield found
        if upto is not None and position >= upto:
            return
        for number, at, assignment_change in self._fleet_projection.recorded(partition, after=position):
            if upto is not None and number > upto:
                return
            changes = tuple(RecentChange(moved.after, moved.ordinals()) for moved in assignment_change.moves)
            yield self._keep(partition, Recorded(number, at, changes))

    def _keep(self, partition: int, recorded: Recorded) -> Recorded:
        with self._lock:
            kept = self._kept.setdefault(partition, OrderedDict())
            kept[recorded.position] = recorded
            while len(kept) > ASSIGNMENT_CHANGES_MAX:
                kept.popitem(last=False)
        return recorded
