"""Moves the log's older entries: written ahead in whole segments, read back, and taken out of Redis when nobody needs them there."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec

from events.log.archive.manifest import (
    ArchiveManifest,
    Segment,
    encode,
    folder_of,
    manifest_name,
)
from events.log.archive.notes import MOVED, TRIMMED, Made, location_of, note, notes_of, set_location, trim
from events.log.archive.retention_hold import RegisteredHolds, RetentionHold
from events.log.archive.segment import SEGMENT_BYTES_MAX, SegmentWriter, chain_start, chained, damaged, verify
from events.log.connect import Client
from events.log.entries import RawEntry, in_stream, stream_names
from events.log.errors import ArchiveElsewhere, LogLostItsTail
from events.log.failpoints import FailPoint, reached
from events.log.object_store import ObjectStore

SEGMENT_ENTRIES_DEFAULT = 50_000
_BATCH = 4096

Progress = Callable[[str, int], None]
"""Told the stream, and how many of its entries were just dealt with."""


def is_due(
    client: Client, *, partitions: int, segment_entries: int, before_at: int | None, head_of: Callable[[str], int]
) -> bool:
    """Whether a stream has a whole segment to write, or one to take out that is older than `before_at` (milliseconds).

    Raises:
        LogUnavailable: Redis does not answer.
    """
    for stream in stream_names(partitions):
        notes = notes_of(client, stream)
        if head_of(stream) - notes.written >= segment_entries:
            return True
        next_out = next((one for one in notes.segments if one.last > notes.trimmed), None)
        if before_at is not None and next_out is not None and next_out.last_at < before_at:
            return True
    return False


class Keeper(Protocol):
    """Keeps in Redis what goes on being needed of entries that are taken out of a stream."""

    def keep(self, stream: str, entries: Sequence[RawEntry]) -> None:
        """Called for all entries that are about to go, some at a time; again after a crash.

        Raises:
            UnreadableEvent: what is to be kept of an entry cannot be read.
        """
        ...


class ArchivedStream(msgspec.Struct, frozen=True, rename="camel"):
    """What became of one stream: segments and entries written, and taken out of Redis; `held_by` is who needs the next ones."""

    stream: str
    segments: int = 0
    written: int = 0
    bytes: int = 0
    trimmed: int = 0
    held_by: str = ""


class PlannedMove(msgspec.Struct, frozen=True, rename="camel"):
    """What would become of one stream: positions up to which it would be written and trimmed, from those where it is."""

    stream: str
    head: int
    written: int
    would_be_written: int
    trimmed: int
    would_be_trimmed: int
    holders: dict[str, int]
    held_by: str = ""


class Mover:
    """Writes and trims the streams of one log. Safe to kill at any step, and to run twice at once: Redis decides who was first."""

    def __init__(
        self,
        client: Client,
        object_store: ObjectStore,
        *,
        made: Made,
        holdings: Sequence[RetentionHold] = (),
        keepers: Sequence[Keeper] = (),
        segment_entries: int = SEGMENT_ENTRIES_DEFAULT,
    ) -> None:
        self._client, self._object_store, self._made = client, object_store, made
        self._holdings = (*holdings, RegisteredHolds(client))
        self._keepers = keepers
        self._segment_entries = segment_entries
        self.streams = stream_names(made.partitions)

    def settle(self, *, may_move: bool = False) -> None:
        """Say in Redis that the archive is at this object store, where nothing says yet where it is.

        Only who is told so in so many words may move it: what was archived so far must be there then.

        Raises:
            ArchiveElsewhere: it is at another place, and may not move here.
            ObjectStoreUnavailable, LogUnavailable: one of them does not answer.
        """
        known = location_of(self._client)
        if known == self._object_store.url:
            return
        if known is not None:
            if not may_move:
                raise ArchiveElsewhere(known=known, asked=self._object_store.url)
            for stream in self.streams:
                for segment in notes_of(self._client, stream).segments:
                    if self._object_store.size(segment.name) != segment.bytes:
                        raise ArchiveElsewhere(known=known, asked=self._object_store.url, missing=segment.name)
        set_location(self._client, self._object_store.url, self._made)

    def _stay(self) -> None:
        """Stop a run that began before the archive was moved: what it would do is at the former place."""
        known = location_of(self._client)
        if known is not None and known != self._object_store.url:
            raise ArchiveElsewhere(known=known, asked=self._object_store.url)

    # -- writing ahead

    def write(self, stream: str, progress: Progress = lambda _stream, _count: None) -> ArchivedStream:
        """Write every whole segment that a stream has beyond what is written; it stays in Redis as well.

        Raises:
            LogLostItsTail: entries are missing in Redis that are not in the archive.
            ArchiveElsewhere: the archive was moved meanwhile.
            SegmentMissing, SegmentDamaged: what was written does not read back.
            ObjectStoreUnavailable, LogUnavailable: one of them does not answer, or has no room.
        """
        self._stay()
        notes = notes_of(self._client, stream)
        segments = list(notes.segments)
        self._tidy(stream, segments)
        self._list(stream, segments)
        moved = ArchivedStream(stream)
        while (made := self._next(stream, segments, progress)) is not None:
            segment, data = made
            self._object_store.put(segment.name, data)
            reached(FailPoint.ARCHIVE_PUT)
            verify(self._object_store, segment)
            reached(FailPoint.ARCHIVE_VERIFIED)
            self._list(stream, (*segments, segment))
            reached(FailPoint.ARCHIVE_LISTED)
            self._stay()
            if not note(self._client, segment):
                break  # Another process was faster, and goes on.
            reached(FailPoint.ARCHIVE_NOTED)
            segments.append(segment)
            moved = ArchivedStream(
                stream, moved.segments + 1, moved.written + segment.count, moved.bytes + segment.bytes
            )
        return moved

    def _tidy(self, stream: str, segments: Sequence[Segment]) -> None:
        """Remove files that a killed process left behind and another one's took the place of."""
        listed = {segment.name for segment in segments}
        written = segments[-1].last if segments else 0
        for name in self._object_store.names(folder_of(stream)):
            first = name.rpartition("/")[2].partition("-")[0]
            if name not in listed and first.isdigit() and int(first) <= written:
                self._object_store.delete(name)

    def _list(self, stream: str, segments: Sequence[Segment]) -> None:
        data = encode(ArchiveManifest(stream, self._made.epoch, tuple(segments)))
        if segments and self._object_store.get(manifest_name(stream)) != data:
            self._object_store.put(manifest_name(stream), data)

    def _next(self, stream: str, segments: Sequence[Segment], progress: Progress) -> tuple[Segment, bytes] | None:
        """The next whole segment; `None` where the stream has not enough for one."""
        after = segments[-1].last if segments else 0
        if not self._has(stream, after + self._segment_entries):
            return None
        writer = SegmentWriter(stream, epoch=self._made.epoch, before=chain_start(self._made.epoch, stream, segments))
        for entry in self._entries(stream, after, after + self._segment_entries):
            writer.add(entry)
            if writer.count % _BATCH == 0:
                progress(stream, _BATCH)
            if writer.size >= SEGMENT_BYTES_MAX:
                break
        progress(stream, writer.count % _BATCH)
        return writer.finish()

    def _has(self, stream: str, position: int) -> bool:
        return bool(in_stream(self._client, stream, after=position - 1, limit=1))

    def _entries(self, stream: str, after: int, upto: int) -> Iterator[RawEntry]:
        while after < upto:
            some = in_stream(self._client, stream, after=after, limit=min(_BATCH, upto - after))
            if not some or some[0].position != after + 1:
                raise LogLostItsTail(stream, expected=after + 1, found=some[0].position if some else after)
            yield from some
            after = some[-1].position

    # -- taking out

    def trim(self, stream: str, *, before_at: int, progress: Progress = lambda _stream, _count: None) -> ArchivedStream:
        """Take out of Redis the written segments whose last entry is older than `before_at` (milliseconds) and that nobody holds.

        Each is read back once more and held against what Redis has, entry by entry, before it goes.

        Raises:
            ArchiveElsewhere: the archive was moved meanwhile.
            SegmentMissing, SegmentDamaged: the archive does not have what is to go; it stays.
            UnreadableEvent: nobody can keep what goes on being needed of an entry; it stays.
            ObjectStoreUnavailable, LogUnavailable: one of them does not answer.
        """
        notes = notes_of(self._client, stream)
        trimmed, count = notes.trimmed, 0
        for segment in notes.segments:
            if segment.last <= trimmed:
                continue
            holder = self._in_the_way(stream, segment, before_at)
            if holder is None:
                self._compare(segment, progress)
                reached(FailPoint.ARCHIVE_KEPT)
                self._stay()
                holder = trim(self._client, stream, expected=trimmed, upto=segment.last)
            if holder != TRIMMED:
                return ArchivedStream(stream, trimmed=count, held_by="" if holder == MOVED else holder)
            reached(FailPoint.ARCHIVE_TRIMMED)
            trimmed, count = segment.last, count + segment.count
        return ArchivedStream(stream, trimmed=count)

    def _compare(self, segment: Segment, progress: Progress) -> None:
        verify(self._object_store, segment)

        def told() -> Iterator[RawEntry]:
            for number, entry in enumerate(self._entries(segment.stream, segment.first - 1, segment.last), 1):
                batch.append(entry)
                if number % _BATCH == 0 or entry.position == segment.last:
                    for keeper in self._keepers:
                        keeper.keep(segment.stream, batch)
                    progress(segment.stream, len(batch))
                    batch.clear()
                yield entry

        batch: list[RawEntry] = []
        after = chained(segment.stream, bytes.fromhex(segment.before), told())
        if after.hex() != segment.after:
            raise damaged(
                self._object_store, segment, "its entries are others than those in Redis, which are left there"
            )
        reached(FailPoint.ARCHIVE_COMPARED)

    def _in_the_way(self, stream: str, segment: Segment, before_at: int) -> str | None:
        """Who keeps a segment in Redis: `age`, `head`, or a holder."""
        if segment.last_at >= before_at:
            return "age"
        if not self._has(stream, segment.last + 1):
            return "head"
        holders = self.holders(stream)
        slowest = min(holders, key=lambda name: holders[name], default="")
        return slowest if slowest and holders[slowest] < segment.last else None

    def holders(self, stream: str) -> dict[str, int]:
        """How far each holder of a stream is.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        return {name: position for one in self._holdings for name, position in one.positions(stream).items()}

    # -- saying what would be done

    def waiting(self, stream: str, *, head: int, before_at: int | None) -> PlannedMove:
        """What `write`, and `trim` unless `before_at` is `None`, would do with a stream whose head is known.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        notes = notes_of(self._client, stream)
        would_be_written = notes.written + (head - notes.written) // self._segment_entries * self._segment_entries
        would_be_trimmed, held_by = notes.trimmed, ""
        for segment in notes.segments:
            if before_at is None or segment.last <= notes.trimmed:
                continue
            holder = self._in_the_way(stream, segment, before_at)
            if holder is not None:
                held_by = holder
                break
            would_be_trimmed = segment.last
        return PlannedMove(
            stream,
            head,
            notes.written,
            max(notes.written, would_be_written),
            notes.trimmed,
            would_be_trimmed,
            self.holders(stream),
            held_by,
        )
