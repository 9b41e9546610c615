"""Moves older entries of the log to the archive: writes whole segments, verifies them, and later trims Redis.

Every function raises `LogUnavailable` or `ObjectStoreUnavailable` if Redis or the archive does not answer or has no space.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import msgspec

from events import canonical
from events.log import errors
from events.log.archive.manifest import ArchiveManifest, Segment, folder_of, manifest_name, manifest_of, not_continuing
from events.log.archive.notes import (
    MOVED,
    TRIMMED,
    RetentionHold,
    location_of,
    note,
    notes_of,
    registered_holds,
    set_location,
    trim,
)
from events.log.archive.segment import SEGMENT_BYTES_MAX, SegmentWriter, chained, damaged, verify
from events.log.connect import Client, newest_position
from events.log.entries import RawEntry, genesis, in_stream, key_of, stream_names
from events.log.events import LogInitialised
from events.log.failpoints import FailPoint, reached
from events.log.object_store import ObjectStore

SEGMENT_ENTRIES_DEFAULT = 50_000
_BATCH = 4096
_DAY_MS = 24 * 3600 * 1000

Progress = Callable[[str, int], None]
"""Called with a stream and the number of its entries that were just processed."""

Keeper = Callable[[str, Sequence[RawEntry]], None]
"""Stores in Redis what the system still needs of a stream's entries; called before they are trimmed, and again after a crash.

It raises `UnreadableEvent` for an entry that cannot be read, which is not trimmed.
"""


def overdue(before_at: int | None) -> int | None:
    """The time (milliseconds) of entries that are written although they fill no whole segment, if those before `before_at` leave.

    They are a day older than those, so that a stream with few entries gets one file a day at most.
    """
    return None if before_at is None else before_at - _DAY_MS


def is_due(
    client: Client, *, partitions: int, segment_entries: int, before_at: int | None, head_of: Callable[[str], int]
) -> bool:
    """Whether a stream has a segment to write, whole or overdue, or one older than `before_at` (milliseconds) to trim."""
    for stream in stream_names(partitions):
        notes = notes_of(client, stream)
        if head_of(stream) - notes.written >= segment_entries or is_overdue(
            client, stream, after=notes.written, overdue_at=overdue(before_at)
        ):
            return True
        next_out = next((segment for segment in notes.segments if segment.last > notes.trimmed), None)
        if before_at is not None and next_out is not None and next_out.last_at < before_at:
            return True
    return False


def is_overdue(client: Client, stream: str, *, after: int, overdue_at: int | None) -> bool:
    """Whether the first entry from position after + 1 on is older than `overdue_at` (milliseconds; `None`: no entry is).

    The newest entry of a stream is not, because it stays in Redis.
    """
    if overdue_at is None:
        return False
    oldest = in_stream(client, stream, after=after, limit=2)
    return len(oldest) > 1 and oldest[0].at < overdue_at


class ArchivedStream(msgspec.Struct, frozen=True, rename="camel"):
    """The result of one stream: segments and entries written, entries trimmed; `held_by` is the holder of the next ones."""

    stream: str
    segments: int = 0
    written: int = 0
    bytes: int = 0
    trimmed: int = 0
    held_by: str = ""


class PlannedMove(msgspec.Struct, frozen=True, rename="camel"):
    """The dry run of one stream: the positions up to which it is and would be written and trimmed."""

    stream: str
    head: int
    written: int
    would_be_written: int
    trimmed: int
    would_be_trimmed: int
    holders: dict[str, int]
    held_by: str = ""


class Mover:
    """Writes and trims the streams of one log."""

    # Safe to kill at any step (tests/archive/test_faults.py kills at each) and to run twice at once: a segment counts once
    # its line is in Redis, and a script adds that line only directly after the last one.

    def __init__(
        self,
        client: Client,
        object_store: ObjectStore,
        *,
        initialisation: LogInitialised,
        holdings: Sequence[RetentionHold] = (),
        keepers: Sequence[Keeper] = (),
        segment_entries: int = SEGMENT_ENTRIES_DEFAULT,
    ) -> None:
        self._client, self._object_store, self._initialisation = client, object_store, initialisation
        self._holdings: Sequence[RetentionHold] = (*holdings, partial(registered_holds, client))
        self._keepers = keepers
        self._segment_entries = segment_entries
        self.streams = stream_names(initialisation.partitions)

    def settle(self, *, may_move: bool = False) -> None:
        """Record this object store as the location of the archive, if none is recorded or `may_move` is set.

        Raises:
            ArchiveElsewhere: another location is recorded and `may_move` is not set, or files are missing here.
        """
        location = location_of(self._client)
        url = self._object_store.url
        if location == url:
            return
        if location is not None:
            if not may_move:
                raise errors.ArchiveElsewhere(recorded=location, configured=url)
            for segment in (segment for stream in self.streams for segment in notes_of(self._client, stream).segments):
                if self._object_store.size(segment.name) != segment.bytes:
                    raise errors.ArchiveElsewhere(recorded=location, configured=url, missing=segment.name)
        set_location(self._client, url, self._initialisation)

    def _stay(self) -> None:
        """Stop a run that began before the archive was moved; it would write to the previous location."""
        location = location_of(self._client)
        if location is not None and location != self._object_store.url:
            raise errors.ArchiveElsewhere(recorded=location, configured=self._object_store.url)

    # -- writing ahead

    def write(
        self, stream: str, progress: Progress = lambda _stream, _count: None, *, overdue_at: int | None = None
    ) -> ArchivedStream:
        """Write every whole segment of a stream that is not written yet; the entries stay in Redis.

        A rest that fills no segment becomes one, but for its newest entry, if its oldest is older than `overdue_at` (milliseconds).

        Raises:
            LogLostItsTail: entries are missing in Redis that are not in the archive.
            ArchiveElsewhere: the archive was moved during the run.
            SegmentMissing, SegmentDamaged: a file that was just written does not read back.
        """
        self._stay()
        notes = notes_of(self._client, stream)
        segments = list(notes.segments)
        self._tidy(stream, segments)
        self._list(stream, segments)
        moved = ArchivedStream(stream)
        while (next_segment := self._next(stream, segments, progress, overdue_at)) is not None:
            segment, data = next_segment
            # File, then manifest, then Redis. Killed in between, Redis never lists a file that is not there; a file that
            # nothing lists is deleted by `_tidy`, and a manifest with a segment too many is written again by `_list`.
            self._object_store.put(segment.name, data)
            reached(FailPoint.ARCHIVE_PUT)
            verify(self._object_store, segment)
            reached(FailPoint.ARCHIVE_VERIFIED)
            self._list(stream, (*segments, segment))
            reached(FailPoint.ARCHIVE_LISTED)
            self._stay()
            if not note(self._client, segment):
                break  # Another mover recorded a segment here, and continues.
            reached(FailPoint.ARCHIVE_NOTED)
            segments.append(segment)
            moved = ArchivedStream(
                stream, moved.segments + 1, moved.written + segment.count, moved.bytes + segment.bytes
            )
        return moved

    def _tidy(self, stream: str, segments: Sequence[Segment]) -> None:
        """Delete the files of killed movers whose entries are in a segment of another name."""
        listed = {segment.name for segment in segments}
        written = segments[-1].last if segments else 0
        for name in self._object_store.names(folder_of(stream)):
            first = name.rpartition("/")[2].partition("-")[0]
            if name not in listed and first.isdigit() and int(first) <= written:
                self._object_store.delete(name)

    def _list(self, stream: str, segments: Sequence[Segment]) -> None:
        data = canonical.encode(ArchiveManifest(stream, self._initialisation.epoch, tuple(segments)))
        if segments and self._object_store.get(manifest_name(stream)) != data:
            self._object_store.put(manifest_name(stream), data)

    def _next(
        self, stream: str, segments: Sequence[Segment], progress: Progress, overdue_at: int | None
    ) -> tuple[Segment, bytes] | None:
        """The next segment and its file; `None` if the stream has too few entries, and none is overdue."""
        after = segments[-1].last if segments else 0
        upto = after + self._segment_entries
        if not self._has(stream, upto):
            if not is_overdue(self._client, stream, after=after, overdue_at=overdue_at):
                return None
            upto = newest_position(self._client, key_of(stream)) - 1
        epoch = self._initialisation.epoch
        before = bytes.fromhex(segments[-1].after) if segments else genesis(epoch, stream)
        writer = SegmentWriter(stream, epoch=epoch, before=before)
        while after < upto and writer.size < SEGMENT_BYTES_MAX:
            count = writer.count
            for entry in self._batch(stream, after, upto):
                writer.add(entry)
                after = entry.position
                if writer.size >= SEGMENT_BYTES_MAX:
                    break
            progress(stream, writer.count - count)
        return writer.finish()

    def _has(self, stream: str, position: int) -> bool:
        return bool(in_stream(self._client, stream, after=position - 1, limit=1))

    def _batch(self, stream: str, after: int, upto: int) -> list[RawEntry]:
        """The next entries from position after + 1 on, at least one."""
        batch = in_stream(self._client, stream, after=after, limit=min(_BATCH, upto - after))
        if not batch or batch[0].position != after + 1:
            raise errors.LogLostItsTail(stream, expected=after + 1, actual=batch[0].position if batch else after)
        return batch

    # -- trimming

    def trim(self, stream: str, *, before_at: int, progress: Progress = lambda _stream, _count: None) -> ArchivedStream:
        """Trim the written segments whose last entry is older than `before_at` (milliseconds) and that no holder needs.

        Raises:
            ArchiveElsewhere: the archive was moved during the run.
            SegmentMissing, SegmentDamaged: the archive does not have the same entries as Redis; nothing is trimmed.
            UnreadableEvent: a keeper cannot read an entry; its segment is not trimmed.
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
        # Redis has the only other copy, so the file is read back once more, and the chain over Redis's own entries has to end
        # in the file's value. A Redis that lost its tail after the segment was written has other entries there.
        verify(self._object_store, segment)
        chain, after = bytes.fromhex(segment.before), segment.first - 1
        while after < segment.last:
            batch = self._batch(segment.stream, after, segment.last)
            chain, after = chained(segment.stream, chain, batch), batch[-1].position
            for keeper in self._keepers:
                keeper(segment.stream, batch)
            progress(segment.stream, len(batch))
        if chain.hex() != segment.after:
            raise damaged(self._object_store, segment, "its entries differ from those in Redis, which are not trimmed")
        reached(FailPoint.ARCHIVE_COMPARED)

    def _in_the_way(self, stream: str, segment: Segment, before_at: int) -> str | None:
        """Why a segment stays in Redis: `age`, `head`, or the name of a holder; `None` if it can be trimmed."""
        if segment.last_at >= before_at:
            return "age"
        if not self._has(stream, segment.last + 1):
            return "head"
        holders = self.holders(stream)
        slowest = min(holders, key=lambda name: holders[name], default="")
        return slowest if slowest and holders[slowest] < segment.last else None

    def holders(self, stream: str) -> dict[str, int]:
        """The position of each holder of a stream."""
        return {name: position for holding in self._holdings for name, position in holding(stream).items()}

    # -- dry run

    def waiting(self, stream: str, *, head: int, before_at: int | None) -> PlannedMove:
        """What `write`, and `trim` unless `before_at` is `None`, would do with a stream that has this head."""
        notes = notes_of(self._client, stream)
        would_be_written = notes.written + (head - notes.written) // self._segment_entries * self._segment_entries
        if is_overdue(self._client, stream, after=would_be_written, overdue_at=overdue(before_at)):
            would_be_written = head - 1
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


def faults(
    client: Client,
    object_store: ObjectStore,
    stream: str,
    *,
    epoch: str,
    progress: Progress = lambda _stream, _count: None,
) -> Iterator[errors.LogError]:
    """The faults of a stream's archive, by what Redis has on record, each as the error that a reader would get."""
    segments = notes_of(client, stream).segments
    for segment in not_continuing(stream, segments, epoch=epoch):
        yield damaged(object_store, segment, "it does not continue the segment before it")
    for segment in segments:
        try:
            verify(object_store, segment)
        except (errors.SegmentDamaged, errors.SegmentMissing) as error:
            yield error
        progress(stream, segment.count)
    try:
        listed = manifest_of(object_store, stream)
    except errors.ManifestDamaged as error:
        yield error
        return
    if segments and (listed is None or listed.segments[: len(segments)] != segments):
        yield errors.ManifestDamaged(
            object_store.url, manifest_name(stream), "its segments are not those recorded in Redis"
        )
