"""The one form of a file of a backup: MessagePack under gzip, for entries of a stream and for keys beside the log."""

import gzip
import io
import zlib
from collections.abc import Sequence
from typing import Literal, TypeVar

import msgspec

from events.backup.errors import BackupDamaged
from events.log.entries import RawEntry

ENTRIES_MAX = 10_000
BYTES_MAX = 8 << 20
"""A block is full with so many entries, or so many bytes before they are packed."""

UNPACKED_BYTES_MAX = 64 << 20
"""What a file unpacks to is no longer than that, or than the file itself: what is longer is stored as it is.

Who restores holds one whole file, and may have it from somebody else: a few kilobytes of gzip can be made to unpack to any size.
"""

_LEVEL = 1
_STORED = 0


class Record(msgspec.Struct, frozen=True, array_like=True):
    """Members of a key of Redis: `hash` fields and values, or `stream` entries, each an id and its fields, flat.

    `expires_ms` is for how long it is kept from then on; negative for good.
    """

    kind: Literal["hash", "stream"]
    key: str
    members: tuple[tuple[bytes, ...], ...]
    expires_ms: int = -1


_Entry = tuple[int, tuple[bytes, ...]]
_entries = msgspec.msgpack.Decoder(list[_Entry])
_records = msgspec.msgpack.Decoder(list[Record])
T = TypeVar("T")


def size_of(entry: RawEntry) -> int:
    """Bytes of an entry's names and values."""
    return sum(len(field) + len(value) for field, value in entry.fields.items())


def pack(entries: Sequence[RawEntry]) -> bytes:
    """Entries as a file; the same entries give the same bytes."""
    return _packed([(one.position, tuple(part for pair in one.fields.items() for part in pair)) for one in entries])


def unpack(name: str, data: bytes) -> list[RawEntry]:
    """Entries of a file.

    Raises:
        BackupDamaged: it holds something else.
    """
    flat = _unpacked(name, data, _entries)
    if any(len(parts) % 2 for _, parts in flat):
        raise BackupDamaged(name, "has a field without a value")
    return [RawEntry(position, dict(zip(parts[::2], parts[1::2], strict=True))) for position, parts in flat]


def pack_records(records: Sequence[Record]) -> bytes:
    """What lies beside the log as a file."""
    return _packed(records)


def unpack_records(name: str, data: bytes) -> list[Record]:
    """What lies beside the log, from a file.

    Raises:
        BackupDamaged: it holds something else.
    """
    records = _unpacked(name, data, _records)
    for record in records:
        for member in record.members:
            if len(member) != 2 if record.kind == "hash" else len(member) % 2 == 0:  # noqa: PLR2004 - a field and its value
                raise BackupDamaged(name, f"has a field without a value in {record.key[:80]}")
    return records


def _packed(value: object) -> bytes:
    data = msgspec.msgpack.encode(value)
    return gzip.compress(data, _LEVEL if len(data) <= UNPACKED_BYTES_MAX else _STORED, mtime=0)


def _unpacked(name: str, data: bytes, decoder: "msgspec.msgpack.Decoder[T]") -> T:
    limit = max(UNPACKED_BYTES_MAX, len(data))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            # It is at its end, and its checksum looked at, only if there is less.
            unpacked = file.read(limit + 1)
        if len(unpacked) > limit:
            raise BackupDamaged(name, f"unpacks to more than {limit} bytes, which no backup does")
        return decoder.decode(unpacked)
    except (OSError, EOFError, zlib.error, msgspec.DecodeError, ValueError) as error:
        raise BackupDamaged(name, f"cannot be unpacked: {error}") from error
