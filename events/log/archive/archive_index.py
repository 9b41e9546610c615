"""Finds archived entries by stream and position, at the location of the archive that Redis has."""

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
"""The limits of a reader's cache: compressed bytes of files, and decoded row groups."""

K = TypeVar("K")
V = TypeVar("V")


class _Recent(Generic[K, V]):
    """A cache of the most recently used values, up to a total weight."""

    def __init__(self, weight_max: int, weigh: Callable[[V], int]) -> None:
        self._values: OrderedDict[K, V] = OrderedDict()
        self._weigh, self._weight_max = weigh, weight_max

    def get(self, key: K, make: Callable[[], V]) -> V:
        if key not in self._values:
            self._values[key] = make()
            # One value stays, whatever it weighs: a segment of more than 32 MiB must be readable too.
            while len(self._values) > 1 and sum(map(self._weigh, self._values.values())) > self._weight_max:
                self._values.popitem(last=False)
        self._values.move_to_end(key)
        return self._values[key]


class ArchiveIndex:
    """The archived entries of a log. Opens the object store, and imports Parquet, at the first read of an archived entry."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._notes: dict[str, Notes] = {}
        self._object_store: ObjectStore | None = None
        self._lock = threading.Lock()
        self._files: _Recent[str, SegmentFile] = _Recent(FILES_BYTES_MAX, lambda opened: opened.segment.bytes)
        self._groups: _Recent[tuple[str, int], GroupRows] = _Recent(GROUPS_MAX, lambda _: 1)

    # -- notes

    def trimmed(self, stream: str) -> int:
        """The last position that only the archive has, by the notes that were read last; does not ask Redis."""
        return self._last_notes(stream).trimmed

    def refresh(self, stream: str) -> int:
        """Read the notes on a stream again; returns the last position that only the archive has.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        self._notes[stream] = notes_of(self._client, stream)
        return self._notes[stream].trimmed

    def segments(self, stream: str) -> Sequence[Segment]:
        """The current segments of a stream, in order; Redis may have the entries of the last ones too.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        self.refresh(stream)
        return self._last_notes(stream).segments

    def object_store(self) -> ObjectStore:
        """The object store of the archive.

        Raises:
            LogUnavailable: Redis does not answer.
            ObjectStoreUnavailable: its URL has no driver, or Redis has no URL.
        """
        if self._object_store is None:
            url = location_of(self._client)
            if url is None:
                raise ObjectStoreUnavailable("of the archive", "Redis does not have its location")
            self._object_store = ObjectStore(url)
        return self._object_store

    def _last_notes(self, stream: str) -> Notes:
        return self._notes.get(stream) or Notes()

    # -- reading on

    def entries(self, stream: str, *, after: int, limit: int) -> list[RawEntry]:
        """At most `limit` archived entries from position after + 1 on, up to the end of their row group.

        Raises:
            SegmentMissing, SegmentDamaged, ObjectStoreUnavailable, LogUnavailable: they cannot be read.
        """
        rows, start, stop = self._rows(stream, after, limit)
        return rows.entries(start, stop)

    def envelopes(self, stream: str, *, after: int, limit: int) -> list[Envelope[Event]]:
        """The same entries as events.

        Raises:
            SegmentMissing, SegmentDamaged, ObjectStoreUnavailable, LogUnavailable, UnreadableEvent: they cannot be read.
        """
        rows, start, stop = self._rows(stream, after, limit)
        return rows.envelopes(stream, start, stop)

    def _rows(self, stream: str, after: int, limit: int) -> tuple[GroupRows, int, int]:
        notes = self._last_notes(stream)
        assert after < notes.trimmed, "the rest is in Redis"
        segment = notes.segments[bisect_left(notes.segments, after + 1, key=lambda segment_at: segment_at.last)]
        # An API process reads in several threads, which share the caches.
        with self._lock:
            opened = self._files.get(segment.name, lambda: self._open(open_whole, segment))
            group = bisect_right(opened.firsts, after + 1) - 1
            rows = self._groups.get((segment.name, group), lambda: opened.rows(group))
        start = after + 1 - rows.first
        return rows, start, min(len(rows), start + limit)

    def position_at(self, stream: str, at: int) -> int:
        """The last position that only the archive has whose time is <= `at` (milliseconds); 0 if there is none.

        Raises:
            SegmentMissing, SegmentDamaged, ObjectStoreUnavailable, LogUnavailable: its segment cannot be read.
        """
        notes = self._last_notes(stream)
        before = bisect_right(notes.segments, at, key=lambda segment_at: segment_at.first_at)
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
        """A segment, opened for reading a part of it.

        Raises:
            SegmentMissing, SegmentDamaged, ObjectStoreUnavailable, LogUnavailable: it cannot be read.
        """
        return self._open(open_part, segment)

    def _open(self, opens: Callable[[ObjectStore, Segment], SegmentFile], segment: Segment) -> SegmentFile:
        try:
            return opens(self.object_store(), segment)
        except SegmentMissing:
            if self._object_store is None or location_of(self._client) == self._object_store.url:
                raise
        # The file is missing because the archive was moved since this process opened it.
        self._object_store = None
        return opens(self.object_store(), segment)
