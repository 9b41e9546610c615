"""The newest outcomes, decoded once for all who ask."""

import threading
from collections import OrderedDict
from collections.abc import Iterator

import msgspec
from pyroaring import BitMap

from events.fleet.rows import Row
from events.view_store.fleet_view import FleetView

OUTCOMES_MAX = 500


class Change(msgspec.Struct, frozen=True):
    """Devices that came to one assignment by one outcome."""

    after: Row
    members: BitMap


class Recorded(msgspec.Struct, frozen=True):
    """An outcome, ready to be asked who is in it."""

    position: int
    at: int
    changes: tuple[Change, ...]


class Recent:
    """The last outcomes of each partition, as far as somebody asked for them."""

    def __init__(self, view: FleetView) -> None:
        self._view = view
        self._lock = threading.Lock()
        self._kept: dict[int, OrderedDict[int, Recorded]] = {}

    def recorded(self, partition: int, *, after: int, upto: int | None = None) -> Iterator[Recorded]:
        """Outcomes at positions after + 1 to `upto`, or to the newest."""
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
        for number, at, outcome in self._view.recorded(partition, after=position):
            if upto is not None and number > upto:
                return
            changes = tuple(Change(moved.after, moved.ordinals()) for moved in outcome.moves)
            yield self._keep(partition, Recorded(number, at, changes))

    def _keep(self, partition: int, recorded: Recorded) -> Recorded:
        with self._lock:
            kept = self._kept.setdefault(partition, OrderedDict())
            kept[recorded.position] = recorded
            while len(kept) > OUTCOMES_MAX:
                kept.popitem(last=False)
        return recorded
