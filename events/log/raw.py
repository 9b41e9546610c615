"""Reads the streams of events and of assignment changes: from Redis, and older entries from the archive."""

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from events.envelope import Envelope
from events.log.archive.columns import GroupRows
from events.log.archive.manifest import Segment
from events.log.archive.notes import Notes, location_of, notes_of
from events.log.archive.segment import SegmentFile, open_part, open_whole
from events.log.codec import decode_entries
from events.log.connect import Client, newest_position, newest_positions
from events.log.entries import RawEntry, fields_in_stream, fields_of, key_of
from events.log.errors import LogLostItsTail, ObjectStoreUnavailable, SegmentMissing
from events.log.object_store import ObjectStore
from events.log.port import Event

BATCH_ENTRIES = 1000

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


class RawStreams:
    """The entries of every stream. Opens the object store, and imports Parquet, at the first read of an archived entry.

    Methods that ask Redis raise `LogUnavailable` if it does not answer; those that read archived entries raise
    `SegmentMissing`, `SegmentDamaged` or `ObjectStoreUnavailable` for one that cannot be read.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._notes: dict[str, Notes] = {}
        self._object_store: ObjectStore | None = None
        self._lock = threading.Lock()
        self._files: _Recent[str, SegmentFile] = _Recent(FILES_BYTES_MAX, lambda opened: opened.segment.bytes)
        self._groups: _Recent[tuple[str, int], GroupRows] = _Recent(GROUPS_MAX, lambda _: 1)

    def head(self, stream: str) -> int:
        """The newest position of a stream; 0 for an empty stream."""
        # trim.lua never removes the newest entry, so Redis knows the head without the archive.
        return newest_position(self.client, key_of(stream))

    def heads(self, streams: Sequence[str]) -> dict[str, int]:
        """`head` of each of these streams, in one round trip."""
        return dict(zip(streams, newest_positions(self.client, [*map(key_of, streams)]), strict=True))

    def read(self, stream: str, *, after: int, limit: int = BATCH_ENTRIES) -> list[RawEntry]:
        """At most `limit` entries from position after + 1 on, undecoded.

        Raises:
            LogLostItsTail: a position is missing.
        """
        return self._read(
            stream,
            after,
            limit,
            archived=GroupRows.entries,
            stored=lambda first, entries: [
                RawEntry(position, fields_of(words)) for position, words in enumerate(entries, first)
            ],
        )

    def events(self, stream: str, *, after: int, limit: int) -> list[Envelope[Event]]:
        """At most `limit` events from position after + 1 on.

        Raises:
            LogLostItsTail, UnreadableEvent: a position is missing, or an entry does not decode.
        """
        return self._read(
            stream,
            after,
            limit,
            archived=lambda rows, start, stop: rows.envelopes(stream, start, stop),
            stored=lambda first, entries: decode_entries(stream, first, entries),
        )

    def _read(
        self,
        stream: str,
        after: int,
        limit: int,
        *,
        archived: Callable[[GroupRows, int, int], list[V]],
        stored: Callable[[int, list[list[bytes]]], list[V]],
    ) -> list[V]:
        values: list[V] = []
        while len(values) < limit:
            at, left = after + len(values), limit - len(values)
            if at < self.trimmed(stream):
                values += archived(*self._rows(stream, at, left))
                continue
            # A thousand entries and their events fit into the caches of a processor: reading eight thousand at once takes 1.5
            # times as long for each (docs/decisions/0030).
            count = min(left, BATCH_ENTRIES)
            first, entries = fields_in_stream(self.client, stream, after=at, limit=count)
            # A stream that starts later was trimmed after this process last read its notes, or has lost entries. Reading the
            # notes again tells which; doing so only here saves a round trip with every read.
            if entries and first != at + 1:
                if self.refresh(stream) <= at:
                    raise LogLostItsTail(stream, expected=at + 1, actual=first)
                continue
            values += stored(first, entries)
            if len(entries) < count:
                return values
        return values

    def entries(self, stream: str, *, after: int = 0, upto: int | None = None) -> Iterator[RawEntry]:
        """Entries from position after + 1 to `upto` (default: the head when it is reached), read in batches.

        Raises:
            LogLostItsTail: a position is missing.
        """
        while upto is None or after < upto:
            limit = BATCH_ENTRIES if upto is None else min(BATCH_ENTRIES, upto - after)
            batch = self.read(stream, after=after, limit=limit)
            if not batch:
                return
            yield from batch
            after = batch[-1].position

    # -- the archive

    def trimmed(self, stream: str) -> int:
        """The last position that only the archive has, by the notes that were read last; does not ask Redis."""
        return (self._notes.get(stream) or Notes()).trimmed

    def refresh(self, stream: str) -> int:
        """Read the notes on a stream again; returns the last position that only the archive has."""
        self._notes[stream] = notes_of(self.client, stream)
        return self._notes[stream].trimmed

    def segments(self, stream: str) -> Sequence[Segment]:
        """The current segments of a stream, in order; Redis may have the entries of the last ones too."""
        self.refresh(stream)
        return self._notes[stream].segments

    def opened(self, segment: Segment) -> SegmentFile:
        """A segment, opened for reading a part of it."""
        return self._open(open_part, segment)

    def archived_at(self, stream: str, at: int) -> int:
        """The last position that only the archive has whose time is <= `at` (milliseconds); 0 if there is none."""
        notes = self._notes[stream]
        before = bisect_right(notes.segments, at, key=lambda segment_at: segment_at.first_at)
        if not before:
            return 0
        segment = notes.segments[before - 1]
        if segment.last_at <= at:
            if segment.last < notes.trimmed:
                self._segment(stream, segment.last + 1)
            return min(segment.last, notes.trimmed)
        after = segment.first - 1
        while True:
            rows, _, _ = self._rows(stream, after, 1)
            number = bisect_right(rows.ats, at)
            if number < len(rows):
                return rows.first + number - 1
            after = rows.first + len(rows) - 1

    def _rows(self, stream: str, after: int, limit: int) -> tuple[GroupRows, int, int]:
        """The row group of the entry after a position, and the numbers in it of at most `limit` rows from there on."""
        assert after < self._notes[stream].trimmed, "the rest is in Redis"
        segment = self._segment(stream, after + 1)
        # An API process reads in several threads, which share the caches.
        with self._lock:
            opened = self._files.get(segment.name, lambda: self._open(open_whole, segment))
            group = bisect_right(opened.firsts, after + 1) - 1
            rows = self._groups.get((segment.name, group), lambda: opened.rows(group))
        start = after + 1 - rows.first
        return rows, start, min(len(rows), start + limit)

    def _segment(self, stream: str, position: int) -> Segment:
        """The segment of a position that only the archive has, by the notes that were read last.

        Raises:
            LogLostItsTail: the notes have no segment with it.
        """
        segments = self._notes[stream].segments
        segment = next(iter(segments[bisect_left(segments, position, key=lambda segment_at: segment_at.last) :]), None)
        if segment is None or segment.first > position:
            raise LogLostItsTail(stream, expected=position, actual=0 if segment is None else segment.first)
        return segment

    def _open(self, opens: Callable[[ObjectStore, Segment], SegmentFile], segment: Segment) -> SegmentFile:
        try:
            return opens(self._archive(), segment)
        except SegmentMissing:
            if self._object_store is None or location_of(self.client) == self._object_store.url:
                raise
        # The file is missing because the archive was moved since this process opened it.
        self._object_store = None
        return opens(self._archive(), segment)

    def _archive(self) -> ObjectStore:
        if self._object_store is None:
            url = location_of(self.client)
            if url is None:
                raise ObjectStoreUnavailable("of the archive", "Redis does not have its location")
            self._object_store = ObjectStore(url)
        return self._object_store
