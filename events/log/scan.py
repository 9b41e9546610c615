"""Searches a stream by the fields of its entries: by column in segments, entry by entry in Redis."""

import contextlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import msgspec

from events.envelope import Envelope
from events.log.archive.manifest import Segment
from events.log.codec import decode_entry
from events.log.entries import RawEntry
from events.log.errors import ObjectStoreUnavailable, SegmentDamaged, SegmentMissing
from events.log.keys import FLEET, device_of, name, partition_of
from events.log.port import Event
from events.log.raw import RawStreams


class EntryFilter(msgspec.Struct, frozen=True):
    """Conditions on an entry; every condition that is not `None` must hold.

    `subjects` are exact; `devices` include their modules; `types` as in `TwinPatched`; `authors` as in `user:ada`; `causes`
    are exact; `since` and `until` are milliseconds, both inclusive.
    """

    subjects: frozenset[str] | None = None
    devices: frozenset[str] | None = None
    types: frozenset[str] | None = None
    authors: frozenset[str] | None = None
    causes: frozenset[str] | None = None
    since: int | None = None
    until: int | None = None

    def includes(self, entry: RawEntry) -> bool:
        """Whether an entry matches; an entry without a field that has a condition does not."""
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
        """The columns with a condition, each with the values that are allowed."""
        named = {"subject": self.subjects, "type": self.types, "by": self.authors, "cause": self.causes}
        yield from ((column, values) for column, values in named.items() if values is not None)


def scan(
    streams: RawStreams, stream: str, entry_filter: EntryFilter, *, after: int = 0, upto: int | None = None
) -> Iterator[RawEntry]:
    """The matching entries of a stream in order, from position after + 1 to `upto` (default: the head when it is reached).

    Raises:
        LogLostItsTail, LogUnavailable: as `RawStreams.read`.
        SegmentMissing, SegmentDamaged, ObjectStoreUnavailable: an archived entry cannot be read.
    """
    # Segments are read even for entries that Redis has too: reading two columns of a file costs milliseconds, and a filter in
    # Redis would cost the server 5 to 11 times the processor time of XRANGE (docs/decisions/0025).
    for segment in streams.segments(stream):
        if segment.last <= after or (upto is not None and segment.first > upto):
            continue
        if segment.first > after + 1:
            break  # The notes have lost a segment; reading on below finds its entries in Redis, or names it.
        low, high = max(after, segment.first - 1), segment.last if upto is None else min(upto, segment.last)
        try:
            yield from _in_segment(streams, segment, entry_filter, low, high)
        except (SegmentMissing, SegmentDamaged, ObjectStoreUnavailable):
            if low < streams.trimmed(stream):
                raise
            # Redis has these entries too, so the search goes on there; `twinfold archive verify` reports the file.
            break
        after = high
    for entry in streams.entries(stream, after=after, upto=upto):
        if entry_filter.includes(entry):
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
    """The events of subjects that share a stream, in order, from position after + 1 to `upto`.

    With `fleet` they are subjects of the fleet's stream; otherwise devices of one partition and their modules.

    Raises:
        LogLostItsTail, LogUnavailable, UnreadableEvent: as `Log.read`; events of other subjects are not decoded.
        SegmentMissing, SegmentDamaged, ObjectStoreUnavailable: an archived entry cannot be read.
    """
    entry_filter = EntryFilter(subjects=frozenset(subjects))
    stream = name(FLEET if fleet else partition_of(device_of(subjects[0]), partitions))
    for entry in scan(streams, stream, entry_filter, after=after, upto=upto):
        yield decode_entry(stream, entry.position, entry.fields)


def _in_segment(
    streams: RawStreams, segment: Segment, entry_filter: EntryFilter, after: int, upto: int
) -> Sequence[RawEntry]:
    if entry_filter.since is not None and segment.last_at < entry_filter.since:
        return ()
    if entry_filter.until is not None and segment.first_at > entry_filter.until:
        return ()
    with contextlib.closing(streams.opened(segment)) as opened:
        positions = opened.read(lambda parquet: _matching(parquet, segment, entry_filter))
        chosen = [position for position in positions if after < position <= upto]
        entries: list[RawEntry] = []
        # A row group without any of the positions is not read.
        for group, in_group in groupby(chosen, lambda position: bisect_right(opened.firsts, position) - 1):
            rows = opened.rows(group)
            entries += rows.picked([position - rows.first for position in in_group])
        return [entry for entry in entries if entry_filter.includes(entry)]


def _matching(parquet: Any, segment: Segment, entry_filter: EntryFilter) -> list[int]:
    """Positions of the rows that can match. Rows with `other` are included: only their whole entry can decide."""
    import numpy as np  # noqa: PLC0415 - slow to import, and most processes never look into the archive
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    columns = dict(entry_filter.columns())
    names = [*columns, *({"subject"} - columns.keys() if entry_filter.devices is not None else ()), "other"]
    table = parquet.read(columns=names, use_threads=False)
    keep = np.ones(segment.count, dtype=bool)
    for column, values in columns.items():
        keep &= _rows_where(table.column(column), partial(pc.is_in, value_set=pa.array(sorted(values), pa.string())))
    if entry_filter.devices is not None:
        devices = pa.array(sorted(entry_filter.devices), pa.string())
        # A device id holds no slash; what comes behind the first one is the module's.
        bare = partial(pc.replace_substring_regex, pattern="/.*", replacement="")
        keep &= _rows_where(table.column("subject"), lambda subjects: pc.is_in(bare(subjects), value_set=devices))
    other = table.column("other")
    if other.null_count < len(other):
        keep |= other.is_valid().to_numpy()
    return [segment.first + int(row) for row in np.flatnonzero(keep)]


def _rows_where(column: Any, test: Callable[[Any], Any]) -> Any:
    """Whether the value of each row passes the test; a row without a value does not."""
    import numpy as np  # noqa: PLC0415 - as above

    matches = []
    for chunk in column.chunks:
        # The test runs once for each value of the dictionary, not for each row. The index of a null row leads to the `False`
        # at the end.
        passes = np.append(test(chunk.dictionary).to_numpy(zero_copy_only=False).astype(bool), False)
        matches.append(passes[chunk.indices.fill_null(len(passes) - 1).to_numpy(zero_copy_only=False)])
    return np.concatenate(matches)
