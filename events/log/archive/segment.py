"""Segments: Parquet files of entries, written group by group, and read whole, in part or by column."""

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from events import canonical
from events.log.archive.columns import DICTIONARIES, GroupRows, batch_of, schema
from events.log.archive.manifest import FORMAT, Segment, segment_name
from events.log.entries import RawEntry, digest, link
from events.log.errors import SegmentDamaged, SegmentMissing
from events.log.object_store import ObjectStore

# A row group ends at whichever limit comes first: a reader has a whole group in memory.
GROUP_ENTRIES = 4096
GROUP_BYTES_MAX = 16 << 20
SEGMENT_BYTES_MAX = 256 << 20
"""The size before compression at which a segment ends early: a writer has the whole compressed file in memory."""

_ABOUT = b"twinfold"

_checked: dict[tuple[str, str, str], int] = {}
"""The stamps of files whose SHA-256 this process has checked, by location, name and SHA-256."""
_DELTAS = ("position", "version", "at", "recorded")


class _About(msgspec.Struct, frozen=True):
    """The description of a segment in its own file, under the key `twinfold` of the metadata."""

    epoch: str
    stream: str
    first: int
    last: int
    before: str
    after: str
    format: int = FORMAT


class SegmentWriter:
    """Writes one segment from entries in order."""

    def __init__(self, stream: str, *, epoch: str, before: bytes) -> None:
        """Start a segment; `before` is the chain's value before its first entry (`genesis` for the first segment)."""
        import pyarrow as pa  # noqa: PLC0415 - slow to import, and most processes never archive
        import pyarrow.parquet as pq  # noqa: PLC0415

        self._stream, self._epoch, self._before, self._after = stream, epoch, before, before
        self._sink = pa.BufferOutputStream()
        self._parquet = pq.ParquetWriter(
            self._sink,
            schema(),
            compression="zstd",
            use_dictionary=list(DICTIONARIES),
            column_encoding=dict.fromkeys(_DELTAS, "DELTA_BINARY_PACKED"),
            write_page_checksum=True,
        )
        self._group, self._group_bytes = list[RawEntry](), 0
        self._first: RawEntry | None = None
        self._last: RawEntry | None = None
        # Of entries that have a time; a damaged one without a time must not hide the others from a search by time.
        self._first_at = self._last_at = 0
        self.count = self.size = 0
        """The bytes of the entries' fields before compression."""

    def add(self, entry: RawEntry) -> None:
        """Add the next entry."""
        self._first = self._first or entry
        assert self._last is None or entry.position == self._last.position + 1, "a segment has no gaps"
        self._last, at = entry, entry.at
        self._first_at, self._last_at = self._first_at or at, max(self._last_at, at)
        self._after = link(self._after, digest(self._stream, entry))
        size = sum(map(len, entry.fields.values()))
        self.count += 1
        self.size += size
        self._group.append(entry)
        self._group_bytes += size
        if len(self._group) >= GROUP_ENTRIES or self._group_bytes >= GROUP_BYTES_MAX:
            self._flush()

    def finish(self) -> tuple[Segment, bytes]:
        """The segment and the bytes of its file."""
        assert self._first is not None, "a segment has an entry"
        assert self._last is not None
        self._flush()
        first, last = self._first.position, self._last.position
        about = _About(self._epoch, self._stream, first, last, self._before.hex(), self._after.hex())
        self._parquet.add_key_value_metadata({_ABOUT: canonical.encode(about)})
        self._parquet.close()
        data = self._sink.getvalue().to_pybytes()
        sha256 = hashlib.sha256(data).hexdigest()
        segment = Segment(
            segment_name(self._stream, first, last, sha256=sha256),
            self._stream,
            first,
            last,
            len(data),
            sha256,
            about.before,
            about.after,
            self._first_at,
            self._last_at,
        )
        return segment, data

    def _flush(self) -> None:
        if self._group:
            self._parquet.write_batch(batch_of(self._group), row_group_size=len(self._group))
        self._group, self._group_bytes = [], 0


class SegmentFile:
    """A segment's file, open for reading; a row group is decoded when it is read."""

    def __init__(self, object_store: ObjectStore, segment: Segment, parquet: Any) -> None:
        self.object_store, self.segment, self._parquet = object_store, segment, parquet
        metadata = parquet.metadata
        counts = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        self.firsts = [segment.first + sum(counts[:number]) for number in range(len(counts))]
        """The first position of each row group."""

    def rows(self, group: int) -> GroupRows:
        """A row group.

        Raises:
            SegmentDamaged: it does not decode, or has other positions than it should.
            ObjectStoreUnavailable: the file cannot be read any more.
        """
        rows: GroupRows = self.read(lambda parquet: GroupRows(parquet.read_row_group(group)))
        end = (*self.firsts, self.segment.last + 1)[group + 1]
        if rows.first != self.firsts[group] or len(rows) != end - rows.first or rows.positions[-1] != end - 1:
            raise damaged(self.object_store, self.segment, f"row group {group} has other positions than it should")
        return rows

    def close(self) -> None:
        """Close the file."""
        self._parquet.close(force=True)

    def read(self, how: Any) -> Any:
        """The result of `how` on the Parquet file; errors of pyarrow become `SegmentDamaged`."""
        return _reading(self.object_store, self.segment, lambda: how(self._parquet))


def open_whole(object_store: ObjectStore, segment: Segment) -> SegmentFile:
    """Fetch a segment and check every byte of it by the SHA-256 in the manifest.

    Raises:
        SegmentMissing, SegmentDamaged: the file is missing or was changed.
        ObjectStoreUnavailable: the archive does not answer.
    """
    data = object_store.get(segment.name)
    if data is None:
        raise missing(object_store, segment)
    if len(data) != segment.bytes:
        raise damaged(object_store, segment, f"{len(data)} bytes instead of {segment.bytes}")
    if hashlib.sha256(data).hexdigest() != segment.sha256:
        raise damaged(object_store, segment, "its SHA-256 is not the recorded one")
    return _open(object_store, segment, data)


def open_part(object_store: ObjectStore, segment: Segment) -> SegmentFile:
    """Open a segment for reading a part of it, after its SHA-256 was checked once in this process.

    Raises:
        SegmentMissing, SegmentDamaged, ObjectStoreUnavailable: as `open_whole`.
    """
    # Parquet's page checksums find a disk's faults, but a forger writes them anew. So the whole file is checked at first use
    # and whenever its stamp has changed (tests/archive/test_damage.py). That costs 1.4 times a later read (0025).
    location = (object_store.url, segment.name, segment.sha256)
    try:
        stamp = object_store.stamp(segment.name)
        if _checked.get(location) == stamp:
            return _open(object_store, segment, object_store.open(segment.name))
    except FileNotFoundError:
        raise missing(object_store, segment) from None
    opened = open_whole(object_store, segment)
    _checked[location] = stamp
    return opened


def _open(object_store: ObjectStore, segment: Segment, source: Any) -> SegmentFile:
    import pyarrow as pa  # noqa: PLC0415 - slow to import, and most processes never look into the archive
    import pyarrow.parquet as pq  # noqa: PLC0415

    def opened() -> Any:
        file = pa.BufferReader(source) if isinstance(source, bytes) else pa.PythonFile(source, mode="r")
        return pq.ParquetFile(file, read_dictionary=list(DICTIONARIES), page_checksum_verification=True)

    parquet = _reading(object_store, segment, opened)
    metadata = (parquet.metadata.metadata or {}).get(_ABOUT)
    about = _reading(object_store, segment, lambda: msgspec.json.decode(metadata or b"", type=_About))
    if about.format > FORMAT:
        raise damaged(object_store, segment, f"it has format {about.format}; this version reads up to {FORMAT}")
    expected = (segment.stream, segment.first, segment.last, segment.before, segment.after)
    if (about.stream, about.first, about.last, about.before, about.after) != expected:
        described = f"it describes itself as {about.stream}:{about.first} to {about.last} of epoch {about.epoch}"
        raise damaged(object_store, segment, described)
    if parquet.metadata.num_rows != segment.count:
        raise damaged(object_store, segment, f"{parquet.metadata.num_rows} rows instead of {segment.count}")
    return SegmentFile(object_store, segment, parquet)


def _reading(object_store: ObjectStore, segment: Segment, how: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - as above

    try:
        return how()
    except (pa.ArrowException, msgspec.DecodeError, OSError, ValueError, KeyError) as error:
        raise damaged(object_store, segment, f"it cannot be read: {str(error).splitlines()[0]}") from error


def missing(object_store: ObjectStore, segment: Segment) -> SegmentMissing:
    """The error for a segment whose file does not exist."""
    return SegmentMissing(object_store.url, segment.name, segment.stream, segment.first, segment.last)


def damaged(object_store: ObjectStore, segment: Segment, why: str) -> SegmentDamaged:
    """The error for a segment whose file was changed."""
    return SegmentDamaged(object_store.url, segment.name, segment.stream, segment.first, segment.last, why=why)


def verify(object_store: ObjectStore, segment: Segment) -> None:
    """Check a segment: its bytes, its rows, and the chain over its entries.

    Raises:
        SegmentMissing, SegmentDamaged, ObjectStoreUnavailable: as `open_whole`.
    """
    opened = open_whole(object_store, segment)
    groups = map(opened.rows, range(len(opened.firsts)))
    entries = (entry for rows in groups for entry in rows.entries(0, len(rows)))
    if chained(segment.stream, bytes.fromhex(segment.before), entries).hex() != segment.after:
        raise damaged(object_store, segment, "the chain over its entries does not end in the recorded value")


def chained(stream: str, before: bytes, entries: Iterable[RawEntry]) -> bytes:
    """The chain's value after these entries."""
    after = before
    for entry in entries:
        after = link(after, digest(stream, entry))
    return after
