"""Entries of one stream by what is in their fields: column by column in segments, and on in what Redis alone has."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec

from events.envelope import Envelope
from events.log.archive.manifest import Segment
from events.log.archive.segment import SegmentFile
from events.log.codec import decode_entry
from events.log.entries import RawEntry
from events.log.errors import ObjectStoreUnavailable, SegmentDamaged, SegmentMissing
from events.log.keys import FLEET, device_of, name, partition_of
from events.log.port import Event
from events.log.raw import RawStreams


class EntryFilter(msgspec.Struct, frozen=True):
    """Which entries; each condition that is not `None` must hold.

    `subjects` are exact; `devices` are devices with all their modules; `types` as in `TwinPatched`; `authors` as in
    `user:ada`; `causes` are exact; `since` and `until` are milliseconds, both included.
    """

    subjects: frozenset[str] | None = None
    devices: frozenset[str] | None = None
    types: frozenset[str] | None = None
    authors: frozenset[str] | None = None
    causes: frozenset[str] | None = None
    since: int | None = None
    until: int | None = None

    def includes(self, entry: RawEntry) -> bool:
        """Whether an entry is wanted; one without a field that is asked for is not."""
        for column, values in self.columns():
            value = entry.fields.get(column.encode())
            if value is None or value.decode(errors="replace") not in values:
                return False
        if self.devices is not None:
            subject = entry.fields.get(b"subject", b"").decode(errors="replace")
            if device_of(subject) not in self.devices:
                return False
        if self.since is None and self.until is None:
            return True
        at = entry.fields.get(b"at", b"")
        return at.isdigit() and (self.since or 0) <= int(at) <= (int(at) if self.until is None else self.until)

    def columns(self) -> Iterator[tuple[str, frozenset[str]]]:
        """The columns that have to have one of some values."""
        named = {"subject": self.subjects, "type": self.types, "by": self.authors, "cause": self.causes}
        yield from ((column, values) for column, values in named.items() if values is not None)


def scan(
    streams: RawStreams, stream: str, wanted: EntryFilter, *, after: int = 0, upto: int | None = None
) -> Iterator[RawEntry]:
    """The wanted entries of a stream in order, at positions after + 1 to `upto`, or to the head when it is reached.

    Segments are used as far as they are written, also for what is in Redis as well: of each, the columns that are asked for
    are read first, and the rest of it where something was found.

    Raises:
        LogLostItsTail, LogUnavailable: as `RawStreams.read`.
        SegmentMissing, SegmentDamaged, ObjectStoreUnavailable: the archive does not have what was archived.
    """
    for segment in streams.archive_index.segments(stream):
        if segment.last <= after or (upto is not None and segment.first > upto):
            continue
        low, high = max(after, segment.first - 1), segment.last if upto is None else min(upto, segment.last)
        try:
            yield from _in_segment(streams, segment, wanted, low, high)
        except (SegmentMissing, SegmentDamaged, ObjectStoreUnavailable):
            if low < streams.archive_index.trimmed(stream):
                raise
            # It is in Redis as well; `twinfold archive verify` finds what is wrong with the file.
            break
        after = high
    for entry in streams.entries(stream, after=after, upto=upto):
        if wanted.includes(entry):
            yield entry


def events_of(
    streams: RawStreams,
    subjects: Sequence[str],
    *,
    partitions: int,
    fleet: bool = False,
    after: int = 0,
    upto: int | None = None,
) -> Iterator[Envelope[Event]]:
    """The events of some subjects that share a stream, in their order, from position after + 1 to `upto`.

    `fleet` says that they are subjects of the fleet's stream; otherwise they are devices of one partition and their modules.

    Raises:
        LogLostItsTail, LogUnavailable, UnreadableEvent: as `Log.read`; events of others are not decoded.
        SegmentMissing, SegmentDamaged, ObjectStoreUnavailable: the archive does not have what was archived.
    """
    wanted = EntryFilter(subjects=frozenset(subjects))
    stream = name(FLEET if fleet else partition_of(device_of(subjects[0]), partitions))
    for entry in scan(streams, stream, wanted, after=after, upto=upto):
        yield decode_entry(stream, entry.position, entry.fields)


def _in_segment(
    streams: RawStreams, segment: Segment, wanted: EntryFilter, after: int, upto: int
) -> Sequence[RawEntry]:
    if wanted.since is not None and segment.last_at < wanted.since:
        return ()
    if wanted.until is not None and segment.first_at > wanted.until:
        return ()
    with contextlib.closing(streams.archive_index.opened(segment)) as opened:
        positions = opened.read(lambda parquet: _matching(parquet, segment, wanted))
        chosen = [position for position in positions if after < position <= upto]
        return [entry for entry in _at(opened, chosen) if wanted.includes(entry)]


def _matching(parquet: Any, segment: Segment, wanted: EntryFilter) -> list[int]:
    """Positions of rows that may be wanted, by their dictionaries; entries with `other` say themselves."""
    import numpy as np  # noqa: PLC0415 - slow to import, and most processes never look into the archive
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    columns = dict(wanted.columns())
    names = [*columns, *({"subject"} - columns.keys() if wanted.devices is not None else ()), "other"]
    table = parquet.read(columns=names, use_threads=False)
    keep = np.ones(segment.count, dtype=bool)
    for column, values in columns.items():
        keep &= _rows_where(table.column(column), partial(pc.is_in, value_set=pa.array(sorted(values), pa.string())))
    if wanted.devices is not None:
        devices = pa.array(sorted(wanted.devices), pa.string())
        # A device id holds no slash; what comes behind the first one is the module's.
        bare = partial(pc.replace_substring_regex, pattern="/.*", replacement="")
        keep &= _rows_where(table.column("subject"), lambda subjects: pc.is_in(bare(subjects), value_set=devices))
    other = table.column("other")
    if other.null_count < len(other):
        keep |= other.is_valid().to_numpy()
    return [segment.first + int(row) for row in np.flatnonzero(keep)]


def _rows_where(column: Any, test: Callable[[Any], Any]) -> Any:
    """Which rows have a word that passes; a row without one does not."""
    import numpy as np  # noqa: PLC0415 - as above

    found = []
    for chunk in column.chunks:
        passes = np.append(test(chunk.dictionary).to_numpy(zero_copy_only=False).astype(bool), False)
        found.append(passes[chunk.indices.fill_null(len(passes) - 1).to_numpy(zero_copy_only=False)])
    return np.concatenate(found)


def _at(opened: SegmentFile, positions: Sequence[int]) -> Iterator[RawEntry]:
    """The entries at some positions, in order; a row group with none of them is not read."""
    for group, some in opened.by_group(positions):
        rows = opened.rows(group)
        yield from rows.picked([position - rows.first for position in some])
