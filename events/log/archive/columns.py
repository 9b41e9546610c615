"""Converts entries of a stream to the columns of a segment, and back."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import msgspec

from events.envelope import Envelope, Principal
from events.log.codec import FIELDS, RECORDED, UPCASTERS, Upcaster, decode_entry
from events.log.entries import RawEntry
from events.log.port import Event

DICTIONARIES = ("type", "subject", "by", "cause")
_KEYS = tuple(field.encode() for field in FIELDS)
_NUMBERS = (b"version", b"at")
_ASSIGNMENT_CHANGE_KEYS = (*_KEYS, RECORDED)
_RECORDED = RECORDED.decode()
_FEW = 64
"""The number of rows of a group up to which they are read value by value."""
_NAMES = {field: field.encode() for field in FIELDS}

_events = msgspec.json.Decoder(Event)


def schema() -> Any:
    """The schema of a segment: `at` and `recorded` in milliseconds, `data` as JSON.

    Only assignment changes have `recorded`. `other` is null for an entry that the columns give back byte by byte. For any
    other entry it has all fields as stored, and the columns have what they can hold.
    """
    import pyarrow as pa  # noqa: PLC0415 - slow to import, and most processes never look into the archive

    text = pa.dictionary(pa.int32(), pa.string())
    kinds = {**dict.fromkeys(DICTIONARIES, text), "version": pa.int64(), "at": pa.int64(), "data": pa.string()}
    columns = [pa.field(name, kinds[name]) for name in FIELDS]
    columns += [pa.field(_RECORDED, pa.int64()), pa.field("other", pa.binary())]
    return pa.schema([pa.field("position", pa.int64(), nullable=False), *columns])


def batch_of(entries: Sequence[RawEntry]) -> Any:
    """A pyarrow record batch of entries."""
    import pyarrow as pa  # noqa: PLC0415 - as above

    plain = [is_plain(entry.fields) for entry in entries]
    rows = [entry.fields if fits else _readable(entry.fields) for entry, fits in zip(entries, plain, strict=True)]
    columns: list[Any] = [pa.array([entry.position for entry in entries], pa.int64())]
    for name in FIELDS:
        values = [row.get(_NAMES[name]) for row in rows]
        if _NAMES[name] in _NUMBERS:
            columns.append(pa.array([None if value is None else int(value) for value in values], pa.int64()))
        elif name in DICTIONARIES:
            columns.append(pa.array(values, pa.string()).dictionary_encode())
        else:
            columns.append(pa.array(values, pa.string()))
    recorded = [row.get(RECORDED) for row in rows]
    columns.append(pa.array([None if value is None else int(value) for value in recorded], pa.int64()))
    unfit = [
        None if fits else msgspec.msgpack.encode(list(entry.fields.items()))
        for entry, fits in zip(entries, plain, strict=True)
    ]
    return pa.record_batch([*columns, pa.array(unfit, pa.binary())], schema=schema())


def is_plain(fields: Mapping[bytes, bytes]) -> bool:
    """Whether the columns give the fields back byte by byte."""
    names = tuple(fields)
    if names == _ASSIGNMENT_CHANGE_KEYS:
        if not _is_number(fields[RECORDED]):
            return False
    elif names != _KEYS:
        return False
    return all(_is_number(fields[key]) for key in _NUMBERS) and _is_text(fields)


def _is_number(value: bytes) -> bool:
    # Only the canonical form: `007` would come back as `7`, and the digest of the entry would be another.
    return value.isdigit() and len(value) < 19 and (value[:1] != b"0" or value == b"0")  # noqa: PLR2004 - of 64 bits


def _is_text(fields: Mapping[bytes, bytes]) -> bool:
    try:
        b"".join(fields.values()).decode()
        for key in _KEYS:
            fields[key].decode()
    except UnicodeDecodeError:
        return False
    return True


def _readable(fields: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The fields of an entry that does not fit the columns, as far as a column can show them."""
    columns = {key: fields[key] for key in _KEYS if key in fields}
    for key in _NUMBERS:
        if key in columns and not _is_number(columns[key]):
            del columns[key]
    return {key: value.decode(errors="replace").encode() for key, value in columns.items()}


class GroupRows:
    """The rows of one row group; each column becomes a list when it is first used."""

    def __init__(self, table: Any) -> None:
        """`table` has the columns to read, and at least one row."""
        self._table = table.combine_chunks()
        self._columns = {name: self._table.column(name).chunk(0) for name in self._table.column_names}

    def __len__(self) -> int:
        return len(self._columns["position"])

    @cached_property
    def first(self) -> int:
        """The position of the first row."""
        return int(self._columns["position"][0].as_py())

    @cached_property
    def positions(self) -> list[int]:
        """The position of each row."""
        return _numbers(self._columns["position"])

    @cached_property
    def ats(self) -> list[int]:
        """The time of each row in milliseconds; of a row without a readable time, that of the row before it."""
        numbers = _numbers(self._columns["at"])
        # Times of a stream never fall, and a search by time relies on that.
        return list(accumulate(numbers, max)) if self._columns["at"].null_count else numbers

    @cached_property
    def _versions(self) -> list[int]:
        return _numbers(self._columns["version"])

    @cached_property
    def _recorded(self) -> list[int | None]:
        """When each row was written; empty if no row has it, as in a file of events or of an older version."""
        column = self._columns.get(_RECORDED)
        if column is None or column.null_count == len(column):
            return []
        times: list[int | None] = column.to_pylist()
        return times

    @property
    def is_plain(self) -> bool:
        """Whether no row has anything in `other`."""
        other = self._columns["other"]
        return bool(other.null_count == len(other))

    def entries(self, start: int, stop: int) -> list[RawEntry]:
        """Rows `start` to `stop` (exclusive) as entries, each field as it was stored."""
        types, subjects, authors, causes = (self._texts[name][start:stop] for name in DICTIONARIES)
        versions = [b"%d" % number for number in self._versions[start:stop]]
        ats = [b"%d" % number for number in self.ats[start:stop]]
        rows = zip(types, subjects, versions, ats, authors, causes, self._data(start, stop), strict=True)
        positions = self.positions[start:stop]
        entries = [
            RawEntry(position, dict(zip(_KEYS, row, strict=True)))
            for position, row in zip(positions, rows, strict=True)
        ]
        for entry, recorded in zip(entries, self._recorded[start:stop], strict=False):
            if recorded is not None:
                entry.fields[RECORDED] = b"%d" % recorded
        if not self.is_plain:
            for number, other in enumerate(self._columns["other"][start:stop].to_pylist()):
                if other is not None:
                    entries[number] = RawEntry(positions[number], dict(msgspec.msgpack.decode(other)))
        return entries

    def picked(self, numbers: Sequence[int]) -> list[RawEntry]:
        """The rows of these numbers as entries, in the order of the numbers."""
        if len(numbers) > _FEW:
            # A search by type matches hundreds of rows in a group. Taking them first and decoding them together needs a
            # quarter to half of the time of decoding whole groups (docs/decisions/0048).
            return GroupRows(self._table.take(list(numbers))).entries(0, len(numbers))
        entries = []
        for number in numbers:
            other = self._columns["other"][number].as_py()
            if other is None:
                values = (str(self._columns[name][number].as_py()).encode() for name in FIELDS)
                fields = dict(zip(_KEYS, values, strict=True))
                if self._recorded and (recorded := self._recorded[number]) is not None:
                    fields[RECORDED] = b"%d" % recorded
            else:
                fields = dict(msgspec.msgpack.decode(other))
            entries.append(RawEntry(self.first + number, fields))
        return entries

    def envelopes(
        self, stream: str, start: int, stop: int, *, upcasters: Mapping[bytes, Upcaster] = UPCASTERS
    ) -> list[Envelope[Event]]:
        """Rows `start` to `stop` as events.

        Raises:
            UnreadableEvent: one of them does not decode.
        """
        # Decoding column by column is faster. If an event does not decode, the loop below finds which one, for its error.
        if self.is_plain and not upcasters:
            with contextlib.suppress(msgspec.DecodeError, ValueError, RecursionError):
                columns = (
                    range(self.first + start, self.first + stop),
                    self._decoded["subject"][start:stop],
                    self._versions[start:stop],
                    self.ats[start:stop],
                    self._authors[start:stop],
                    self._decoded["cause"][start:stop],
                    map(_events.decode, self._data(start, stop)),
                )
                return list(map(Envelope, *columns))
        return [
            decode_entry(stream, entry.position, entry.fields, upcasters=upcasters)
            for entry in self.entries(start, stop)
        ]

    @cached_property
    def _texts(self) -> dict[str, list[bytes]]:
        return {name: _taken(self._columns[name], str.encode) for name in DICTIONARIES}

    @cached_property
    def _decoded(self) -> dict[str, list[str]]:
        return {name: _taken(self._columns[name], str) for name in ("subject", "cause")}

    @cached_property
    def _authors(self) -> list[Principal]:
        return _taken(self._columns["by"], Principal.parse)

    def _data(self, start: int, stop: int) -> Iterator[bytes]:
        column = self._columns["data"]
        if column.null_count:
            return iter([text.encode() if text is not None else b"" for text in column[start:stop].to_pylist()])
        return _slices(column, start, stop)


def _numbers(column: Any) -> list[int]:
    if column.null_count:
        return [number or 0 for number in column.to_pylist()]
    numbers: list[int] = column.to_numpy().tolist()
    return numbers


def _taken(column: Any, convert: Callable[[str], Any]) -> list[Any]:
    """The converted value of each row; `None` for a null row, which only an entry with `other` has."""
    values, indices = list(map(convert, column.dictionary.to_pylist())), column.indices
    if indices.null_count:
        return [None if index is None else values[index] for index in indices.to_pylist()]
    return [values[index] for index in indices.to_numpy().tolist()]


def _slices(column: Any, start: int, stop: int) -> Iterator[bytes]:
    """The bytes of each row, sliced from the column's one buffer."""
    # Without pyarrow's `to_pylist`, which decodes each row to a text that would be encoded again at once.
    import numpy as np  # noqa: PLC0415 - as pyarrow

    _, offsets, data = column.buffers()
    begin = column.offset + start
    ends = np.frombuffer(offsets, dtype=np.int32)[begin : begin + stop - start + 1].tolist()
    base = ends[0]
    text = data.slice(base, ends[-1] - base).to_pybytes() if data is not None else b""
    return (text[low - base : high - base] for low, high in pairwise(ends))
