"""One segment: a Parquet file of entries, written group by group, and read whole, in part or by column."""

import hashlib
import io
import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from events import canonical
from events.log.archive.columns import DICTIONARIES, GroupRows, batch_of, schema
from events.log.archive.manifest import FORMAT, Segment, segment_name
from events.log.entries import RawEntry, digest, genesis, link
from events.log.errors import SegmentDamaged, SegmentMissing
from events.log.object_store import ObjectStore

GROUP_ENTRIES = 4096
GROUP_BYTES_MAX = 16 << 20
"""A row group ends at whichever comes first: who reads one holds all of it."""
SEGMENT_BYTES_MAX = 256 << 20
"""A segment ends here too, uncompressed: who writes one holds its compressed form."""

_ABOUT = b"twinfold"

_checked: dict[tuple[str, str, str], int] = {}
"""By place, name and SHA-256: the stamps of files that this process held against their SHA-256."""
_DELTAS = ("position", "version", "at", "recorded")


class _About(msgspec.Struct, frozen=True):
    """What a file says of itself, under the key `twinfold` of its metadata."""

    epoch: str
    stream: str
    first: int
    last: int
    before: str
    after: str
    format: int = FORMAT


class SegmentWriter:
    """Makes one segment of entries that come in order."""

    def __init__(self, stream: str, *, epoch: str, before: bytes) -> None:
        """Begin a segment; `before` is the chain's value up to here, `genesis` for the first."""
        import pyarrow as pa  # noqa: PLC0415 - slow to import, and most processes never archive
        import pyarrow.parquet as pq  # noqa: PLC0415

        self._stream, self._epoch, self._before = stream, epoch, before
        self._after = before
        self._sink = pa.BufferOutputStream()
        self._parquet = pq.ParquetWriter(
            self._sink,
            schema(),
            compression="zstd",
            use_dictionary=list(DICTIONARIES),
            column_encoding=dict.fromkeys(_DELTAS, "DELTA_BINARY_PACKED"),
            write_page_checksum=True,
        )
        self._group: list[RawEntry] = []
        self._group_bytes = 0
        self._first: RawEntry | None = None
        self._last: RawEntry | None = None
        self.count = 0
        self.size = 0
        """Of the entries' fields in bytes, before they are compressed."""

    def add(self, entry: RawEntry) -> None:
        """Add the next entry."""
        self._first = self._first or entry
        assert self._last is None or entry.position == self._last.position + 1, "a segment has no gaps"
        self._last = entry
        self._after = link(self._after, digest(self._stream, entry))
        size = sum(map(len, entry.fields.values()))
        self.count += 1
        self.size += size
        self._group.append(entry)
        self._group_bytes += size
        if len(self._group) >= GROUP_ENTRIES or self._group_bytes >= GROUP_BYTES_MAX:
            self._flush()

    def finish(self) -> tuple[Segment, bytes]:
        """The segment, and its file."""
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
            self._first.at,
            self._last.at,
        )
        return segment, data

    def _flush(self) -> None:
        if self._group:
            self._parquet.write_batch(batch_of(self._group), row_group_size=len(self._group))
        self._group, self._group_bytes = [], 0


class SegmentFile:
    """A segment's file, open for reading; its row groups are decoded when they are asked for."""

    def __init__(self, object_store: ObjectStore, segment: Segment, parquet: Any) -> None:
        self.object_store, self.segment, self._parquet = object_store, segment, parquet
        metadata = parquet.metadata
        counts = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        self.firsts = [segment.first + sum(counts[:number]) for number in range(len(counts))]
        """The position that each row group begins with."""

    @property
    def groups(self) -> int:
        """How many row groups it has."""
        return len(self.firsts)

    def rows(self, group: int, columns: Sequence[str] | None = None) -> GroupRows:
        """A row group, all its columns or some; `position` and `other` always come along.

        Raises:
            SegmentDamaged: it does not decode, or does not have the positions that it should.
            ObjectStoreUnavailable: the file cannot be read any more.
        """
        wanted = None if columns is None else list(dict.fromkeys(("position", *columns, "other")))
        rows: GroupRows = self.read(lambda parquet: GroupRows(parquet.read_row_group(group, columns=wanted)))
        end = (*self.firsts, self.segment.last + 1)[group + 1]
        if rows.first != self.firsts[group] or len(rows) != end - rows.first or rows.positions[-1] != end - 1:
            raise damaged(self.object_store, self.segment, f"row group {group} has other positions than it should")
        return rows

    def by_group(self, positions: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        """Positions in order, by the row group that has them."""
        for group, some in itertools.groupby(positions, lambda position: bisect_right(self.firsts, position) - 1):
            yield group, list(some)

    def close(self) -> None:
        """Let go of the file."""
        self._parquet.close(force=True)

    def read(self, how: Any) -> Any:
        """What `how` reads from the Parquet file, with its errors as ours."""
        return _reading(self.object_store, self.segment, lambda: how(self._parquet))


def open_whole(object_store: ObjectStore, segment: Segment) -> SegmentFile:
    """Fetch a segment and hold it against what the manifest says, every byte.

    Raises:
        SegmentMissing, SegmentDamaged: it is not what was written.
        ObjectStoreUnavailable: the archive does not answer.
    """
    data = object_store.get(segment.name)
    if data is None:
        raise missing(object_store, segment)
    if len(data) != segment.bytes:
        raise damaged(object_store, segment, f"{len(data)} bytes instead of {segment.bytes}")
    if hashlib.sha256(data).hexdigest() != segment.sha256:
        raise damaged(object_store, segment, "its bytes have another SHA-256 than was written down")
    return _open(object_store, segment, io.BytesIO(data))


def open_part(object_store: ObjectStore, segment: Segment) -> SegmentFile:
    """Open a segment for reading a part of it.

    The first time in a process, and again whenever the file was written since, it is fetched and held against what the manifest
    says, every byte: pages have checksums, but whoever forges one makes them too.

    Raises:
        SegmentMissing, SegmentDamaged, ObjectStoreUnavailable: as `open_whole`.
    """
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

    parquet = _reading(
        object_store,
        segment,
        lambda: pq.ParquetFile(
            pa.PythonFile(source, mode="r")
            if not isinstance(source, io.BytesIO)
            else pa.BufferReader(source.getbuffer()),
            read_dictionary=list(DICTIONARIES),
            page_checksum_verification=True,
        ),
    )
    said = (parquet.metadata.metadata or {}).get(_ABOUT)
    about = _reading(object_store, segment, lambda: msgspec.json.decode(said or b"", type=_About))
    if about.format > FORMAT:
        raise damaged(object_store, segment, f"it has format {about.format}, and this version reads up to {FORMAT}")
    wanted = (segment.stream, segment.first, segment.last, segment.before, segment.after)
    if (about.stream, about.first, about.last, about.before, about.after) != wanted:
        raise damaged(
            object_store, segment, f"it says to be {about.stream}:{about.first} to {about.last} of epoch {about.epoch}"
        )
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
    """The error that a segment's file is not there."""
    return SegmentMissing(object_store.url, segment.name, segment.stream, segment.first, segment.last)


def damaged(object_store: ObjectStore, segment: Segment, why: str) -> SegmentDamaged:
    """The error that a segment's file is not what was written."""
    return SegmentDamaged(object_store.url, segment.name, segment.stream, segment.first, segment.last, why=why)


def verify(object_store: ObjectStore, segment: Segment) -> None:
    """Read a segment back: its bytes, its rows, and the chain over them.

    Raises:
        SegmentMissing, SegmentDamaged, ObjectStoreUnavailable: as `open_whole`.
    """
    opened = open_whole(object_store, segment)
    found = chained(segment.stream, bytes.fromhex(segment.before), _entries(opened))
    if found.hex() != segment.after:
        raise damaged(object_store, segment, "the chain over its entries ends in another value than was written down")


def chained(stream: str, before: bytes, entries: Iterable[RawEntry]) -> bytes:
    """The chain's value after some entries."""
    after = before
    for entry in entries:
        after = link(after, digest(stream, entry))
    return after


def _entries(opened: SegmentFile) -> Iterable[RawEntry]:
    for group in range(opened.groups):
        rows = opened.rows(group)
        yield from rows.entries(0, len(rows))


def chain_start(epoch: str, stream: str, segments: Sequence[Segment]) -> bytes:
    """The chain's value that the next segment begins with."""
    return bytes.fromhex(segments[-1].after) if segments else genesis(epoch, stream)
