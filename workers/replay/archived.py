"""Reads a log from its archive alone, without Redis: events and assignment changes by position."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

from events.envelope import Envelope
from events.log.archive.columns import GroupRows
from events.log.archive.manifest import Segment, manifest_name, manifest_of
from events.log.archive.segment import SegmentFile, open_whole
from events.log.entries import stream_names
from events.log.errors import LogError, ManifestDamaged
from events.log.events import LogInitialised
from events.log.keys import FLEET, name
from events.log.object_store import ObjectStore
from events.log.port import Event
from events.projection_store.redis import ASSIGNMENT_CHANGES, assignment_change_of
from events.stored_projection.stored_partition import AssignmentEntry


class ArchiveEmpty(LogError):
    """The archive does not have the first event of a log."""

    def __init__(self, url: str) -> None:
        super().__init__(f"the archive at {url} has no log: the first segment of the stream `fleet` is missing")
        self.url = url


class ArchivedLog:
    """Reads an archived log. Every byte of a file is checked against the manifest before the file is used."""

    def __init__(self, url: str) -> None:
        """Open the archive at a URL.

        Raises:
            ArchiveEmpty: it has no log.
            ObjectStoreUnavailable, ManifestDamaged, SegmentMissing, SegmentDamaged: it cannot be read.
        """
        self._object_store = ObjectStore(url)
        self._segments: dict[str, Sequence[Segment]] = {}
        self._epoch = ""
        self._open: tuple[str, SegmentFile] | None = None
        self._rows: tuple[str, int, GroupRows] | None = None
        first = self.read(FLEET, after=0, limit=1)
        if not first or not isinstance(first[0].event, LogInitialised):
            raise ArchiveEmpty(self._object_store.url)
        self.partitions = first[0].event.partitions
        # Read every manifest now: a damaged archive is then reported before hours of replay.
        for stream in stream_names(self.partitions):
            self._segments_of(stream)

    def _segments_of(self, stream: str) -> Sequence[Segment]:
        if stream not in self._segments:
            manifest = manifest_of(self._object_store, stream)
            if manifest is not None and manifest.epoch != (self._epoch or manifest.epoch):
                why = f"it is of another log, with the epoch {manifest.epoch} instead of {self._epoch}"
                raise ManifestDamaged(self._object_store.url, manifest_name(stream), why)
            if manifest is not None:
                self._epoch = manifest.epoch
            self._segments[stream] = () if manifest is None else manifest.segments
        return self._segments[stream]

    def head(self, stream: int) -> int:
        """The last archived position of a stream of events; 0 if there is none."""
        segments = self._segments_of(name(stream))
        return segments[-1].last if segments else 0

    def heads(self) -> Mapping[int, int]:
        """`head` of every stream."""
        return {stream: self.head(stream) for stream in (FLEET, *range(self.partitions))}

    def read(self, stream: int, *, after: int, limit: int) -> list[Envelope[Event]]:
        """Archived events at positions after + 1 and on, at most `limit`.

        Raises:
            SegmentMissing, SegmentDamaged, ObjectStoreUnavailable, UnreadableEvent: they cannot be read.
        """
        events: list[Envelope[Event]] = []
        while len(events) < limit and (rows := self._rows_at(name(stream), after + len(events))) is not None:
            start = after + len(events) + 1 - rows.first
            events += rows.envelopes(name(stream), start, min(len(rows), start + limit - len(events)))
        return events

    def assignment_changes(self, partition: int, *, after: int, limit: int) -> Sequence[AssignmentEntry]:
        """Archived assignment changes at positions after + 1 and on, at most `limit`.

        Raises:
            SegmentMissing, SegmentDamaged, ObjectStoreUnavailable: they cannot be read.
        """
        rows = self._rows_at(f"{name(partition)}:{ASSIGNMENT_CHANGES}", after)
        if rows is None:
            return []
        start = after + 1 - rows.first
        return [assignment_change_of(entry) for entry in rows.entries(start, min(len(rows), start + limit))]

    def position_at(self, stream: int, at: int) -> int:
        """The last archived position of a stream of events whose time is <= `at` (milliseconds); 0 if there is none."""
        segments = self._segments_of(name(stream))
        before = bisect_right(segments, at, key=lambda segment: segment.first_at)
        position = segments[before - 1].first - 1 if before else 0
        while (rows := self._rows_at(name(stream), position)) is not None:
            number = bisect_right(rows.ats, at)
            if number < len(rows):
                return rows.first + number - 1
            position = rows.first + len(rows) - 1
        return position

    def _rows_at(self, stream: str, after: int) -> GroupRows | None:
        segments = self._segments_of(stream)
        if not segments or after >= segments[-1].last:
            return None
        segment = segments[bisect_left(segments, after + 1, key=lambda segment: segment.last)]
        # One file and one row group are enough: streams are read in order.
        if self._open is None or self._open[0] != segment.name:
            self._open = (segment.name, open_whole(self._object_store, segment))
        opened = self._open[1]
        group = bisect_right(opened.firsts, after + 1) - 1
        if self._rows is None or self._rows[:2] != (segment.name, group):
            self._rows = (segment.name, group, opened.rows(group))
        return self._rows[2]
