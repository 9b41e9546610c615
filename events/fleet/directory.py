"""The devices of a partition: device id ↔ ordinal; the sets live, edge-capable and enabled; the children of parents."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping

from pyroaring import BitMap

from events.fleet.packed import PAGE_ITEMS


class Directory:
    """The devices of a partition. Ordinals count its registrations from 0."""

    # Ordinals are never reused: assignment changes in the log name devices by them for ever (docs/decisions/0003).
    def __init__(self) -> None:
        self.ids: list[str] = []
        self.live, self.edge, self.enabled = BitMap(), BitMap(), BitMap()
        self.ordinal_of: dict[str, int] = {}
        self.changed_ids: set[str] = set()
        self.changed_pages: set[int] = set()
        """The pages of `ids`, of PAGE_ITEMS each, that changed since the last commit."""
        self._sorted: list[str] | None = None

    def restore(self, ids: list[str], live: BitMap, edge: BitMap, enabled: BitMap) -> None:
        """Restore the stored devices."""
        self.ids, self.live, self.edge, self.enabled = ids, live, edge, enabled
        self.ordinal_of = {ids[ordinal]: ordinal for ordinal in live}
        self._sorted = None

    def recall(self, count: int, ordinal_by_id: Mapping[str, int], live: BitMap, edge: BitMap, enabled: BitMap) -> None:
        """Restore the sets of `count` registrations, with the ids of only the live devices in `ordinal_by_id`."""
        self.ids, self.live, self.edge, self.enabled = [""] * count, live, edge, enabled
        for device_id, ordinal in ordinal_by_id.items():
            self.ids[ordinal] = device_id
        self.ordinal_of = dict(ordinal_by_id)
        self._sorted = None

    def register(self, device_id: str, *, edge: bool, enabled: bool) -> int:
        """Register a device with the next ordinal, which is returned."""
        ordinal = len(self.ids)
        self.ids.append(device_id)
        self.ordinal_of[device_id] = ordinal
        self.live.add(ordinal)
        self.changed_ids.add(device_id)
        self.changed_pages.add(ordinal // PAGE_ITEMS)
        self.update(ordinal, edge=edge, enabled=enabled)
        self._sorted = None
        return ordinal

    def update(self, ordinal: int, *, edge: bool, enabled: bool) -> None:
        """Set whether a device is edge-capable and enabled."""
        for members, holds in ((self.edge, edge), (self.enabled, enabled)):
            if holds:
                members.add(ordinal)
            else:
                members.discard(ordinal)

    def retire(self, device_id: str) -> int:
        """Remove a device and return its ordinal, which stays unused."""
        ordinal = self.ordinal_of.pop(device_id)
        self.changed_ids.add(device_id)
        for members in (self.live, self.edge, self.enabled):
            members.discard(ordinal)
        self._sorted = None
        return ordinal

    def between(self, *, low: str | None, high: str | None, low_open: bool, high_open: bool) -> BitMap:
        """The live ordinals whose id is in a range, by code point; `None` is no bound, `*_open` excludes the bound."""
        if self._sorted is None:
            self._sorted = sorted(self.ordinal_of)
        names = self._sorted
        start = 0 if low is None else (bisect_right if low_open else bisect_left)(names, low)
        end = len(names) if high is None else (bisect_left if high_open else bisect_right)(names, high)
        return BitMap([self.ordinal_of[name] for name in names[start:end]])


class Children:
    """The children by parent. A device has at most one parent, which can be in another partition; only its scope is stored."""

    def __init__(self) -> None:
        self.of: dict[str, BitMap] = {}
        self._parent_of: dict[int, str] = {}
        self.changed: set[str] = set()
        """The scopes that gained or lost a child since the last commit."""

    def restore(self, of: Mapping[str, BitMap]) -> None:
        """Restore the stored children."""
        self.of = dict(of)
        self._parent_of = {ordinal: scope for scope, members in of.items() for ordinal in members}

    def put(self, ordinal: int, scope: str) -> None:
        """Set a device's parent; an empty scope removes it."""
        previous_scope = self._parent_of.get(ordinal, "")
        if previous_scope == scope:
            return
        if previous_scope:
            del self._parent_of[ordinal]
            self.of[previous_scope].discard(ordinal)
            if not self.of[previous_scope]:
                del self.of[previous_scope]
            self.changed.add(previous_scope)
        if scope:
            self._parent_of[ordinal] = scope
            self.of.setdefault(scope, BitMap()).add(ordinal)
            self.changed.add(scope)
