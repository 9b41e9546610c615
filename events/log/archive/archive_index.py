"""What was archived, as readers find it: by stream and position, from wherever Redis says that the archive is."""

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from events.envelope import Envelope
from events.log.archive.columns import GroupRows
from events.log.archive.manifest import Segment
from events.log.archive.notes import Notes, location_of, notes_of
from events.log.archive.segment import SegmentFile, open_part, open_whole
from events.log.connect import Client
from events.log.entries import RawEntry
from events.log.errors import ObjectStoreUnavailable, SegmentMissing
from events.log.object_store import ObjectStore
from events.log.port import Event

FILES_BYTES_MAX = 32 << 20
GROUPS_MAX = 8
"""What a reader keeps open: compressed files, and decoded row groups."""

K = TypeVar("K")
V = TypeVar("V")


class _Recent(Generic[K, V]):
    """The values that were asked for last, as long as they do not weigh too much together."""

    def __init__(self, weight_max: int, weigh: Callable[[V], int]) -> None:
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._weigh, self._weight_max = weigh, weight_max

    def get(self, key: K, make: Callable[[], V]) -> V:
        if key not in self._kept:
            self._kept[key] = make()
            while len(self._kept) > 1 and sum(map(self._weigh, self._kept.values())) > self._weight_max:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


class ArchiveIndex:
    """Entries that are in the archive. Nothing is asked for, or imported, before somebody reads what was archived."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._notes: dict[str, Notes] = {}
        self._object_store: ObjectStore | None = None
        self._lock = threading.Lock()
        self._files: _Recent[str, SegmentFile] = _Recent(FILES_BYTES_MAX, lambda one: one.segment.bytes)
        self._groups: _Recent[tuple[str, int], GroupRows] = _Recent(GROUPS_MAX, lambda _: 1)

    # -- what is known

    def trimmed(self, stream: str) -> int:
        """Up to which position a stream was known to be in the archive alone, at the last look; Redis is not asked."""
        return self._known(stream).trimmed

    def refresh(self, stream: str) -> int:
        """Look again how far a stream is in the archive alone.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        self._notes[stream] = notes_of(self._client, stream)
        return self._notes[stream].trimmed

    def segments(self, stream: str) -> Sequence[Segment]:
        """The segments of a stream by now, in order; their last ones may have entries that are in Redis as well.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        self.refresh(stream)
        return self._known(stream).segments

    def object_store(self) -> ObjectStore:
        """Where the archive is.

        Raises:
            LogUnavailable: Redis does not answer.
            ObjectStoreUnavailable: there is no driver for such a place, or nobody says where it is.
        """
        if self._object_store is None:
            url = location_of(self._client)
            if url is None:
                raise ObjectStoreUnavailable("the archive", "Redis does not say where it is")
            self._object_store = ObjectStore(url)
        return self._object_store

    def _known(self, stream: str) -> Notes:
        return self._notes.get(stream) or Notes()

    # -- reading on

    def entries(self, stream: str, *, after: int, limit: int) -> list[RawEntry]:
        """Archived entries at positions after + 1 and on, at most `limit`; as many as there are in one row group.

        Raises:
            SegmentMissing, SegmentDamaged, ObjectStoreUnavailable, LogUnavailable: they cannot be had.
        """
        rows, start, stop = self._rows(stream, after, limit)
        return rows.entries(start, stop)

    def envelopes(self, stream: str, *, after: int, limit: int) -> list[Envelope[Event]]:
        """The same, as events.

        Raises:
            SegmentMissing, SegmentDamaged, ObjectStoreUnavailable, LogUnavailable, UnreadableEvent: they cannot be had.
        """
        rows, start, stop = self._rows(stream, after, limit)
        return rows.envelopes(stream, start, stop)

    def _rows(self, stream: str, after: int, limit: int) -> tuple[GroupRows, int, int]:
        notes = self._known(stream)
        assert after < notes.trimmed, "the rest is in Redis"
        segment = notes.segments[bisect_left(notes.segments, after + 1, key=lambda one: one.last)]
        # An API process answers in several threads.
        with self._lock:
            opened = self._files.get(segment.name, lambda: self._found(open_whole, segment))
            group = bisect_right(opened.firsts, after + 1) - 1
            rows = self._groups.get((segment.name, group), lambda: opened.rows(group))
        start = after + 1 - rows.first
        return rows, start, min(len(rows), start + limit)

    def position_at(self, stream: str, at: int) -> int:
        """The last archived position whose time is <= `at` (milliseconds), of those in the archive alone; 0 for none.

        Raises:
            SegmentMissing, SegmentDamaged, ObjectStoreUnavailable, LogUnavailable: it cannot be had.
        """
        notes = self._known(stream)
        before = bisect_right(notes.segments, at, key=lambda one: one.first_at)
        if not before:
            return 0
        segment = notes.segments[before - 1]
        if segment.last_at <= at:
            return min(segment.last, notes.trimmed)
        after = segment.first - 1
        while True:
            rows, _, _ = self._rows(stream, after, 1)
            number = bisect_right(rows.ats, at)
            if number < len(rows):
                return rows.first + number - 1
            after = rows.first + len(rows) - 1

    # -- by column

    def opened(self, segment: Segment) -> SegmentFile:
        """A segment, open for reading a part of it.

        Raises:
            SegmentMissing, SegmentDamaged, ObjectStoreUnavailable, LogUnavailable: it cannot be had.
        """
        return self._found(open_part, segment)

    def _found(self, opens: Callable[[ObjectStore, Segment], SegmentFile], segment: Segment) -> SegmentFile:
        try:
            return opens(self.object_store(), segment)
        except SegmentMissing:
            if self._object_store is None or location_of(self._client) == self._object_store.url:
                raise
        # The archive has moved house.
        self._object_store = None
        return opens(self.object_store(), segment)
