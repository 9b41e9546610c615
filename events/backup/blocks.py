"""The file format of a backup: MessagePack in gzip, for entries of a stream and for keys beside the log."""

import gzip
import io
import zlib
from collections.abc import Sequence
from itertools import chain
from typing import Literal, TypeVar

import msgspec

from events.backup.errors import BackupDamaged
from events.log.entries import RawEntry

ENTRIES_MAX = 10_000
BYTES_MAX = 8 << 20
"""A block is full with ENTRIES_MAX entries, or with BYTES_MAX bytes before compression."""

UNPACKED_BYTES_MAX = 64 << 20
"""The largest unpacked size of a compressed file; larger content is stored uncompressed."""
# A restore holds a whole unpacked file in memory, and the file may come from an attacker: a few kilobytes of gzip can unpack to any
# size.


class Record(msgspec.Struct, frozen=True, array_like=True):
    """Members of a Redis key: fields and values of a `hash`, or entries of a `stream`, each a flat tuple of id and fields.

    `expires_ms` is the remaining lifetime; negative for no expiry.
    """

    kind: Literal["hash", "stream"]
    key: str
    members: tuple[tuple[bytes, ...], ...]
    expires_ms: int = -1


_Entry = tuple[int, tuple[bytes, ...]]
_entries = msgspec.msgpack.Decoder(list[_Entry])
_records = msgspec.msgpack.Decoder(list[Record])
T = TypeVar("T")


def fields_of(parts: Sequence[bytes]) -> dict[bytes, bytes]:
    """Returns fields from their names and values, one after the other."""
    return dict(zip(parts[::2], parts[1::2], strict=True))


def pack(entries: Sequence[RawEntry]) -> bytes:
    """Returns entries as a file; the same entries give the same bytes."""
    return _packed([(entry.position, tuple(chain(*entry.fields.items()))) for entry in entries])


def unpack(name: str, data: bytes) -> list[RawEntry]:
    """Returns the entries in a file.

    Raises:
        BackupDamaged: the file has other content.
    """
    flat = _unpacked(name, data, _entries)
    if any(len(parts) % 2 for _, parts in flat):
        raise BackupDamaged(name, "has a field without a value")
    return [RawEntry(position, fields_of(parts)) for position, parts in flat]


def pack_records(records: Sequence[Record]) -> bytes:
    """Returns records of keys beside the log as a file."""
    return _packed(records)


def unpack_records(name: str, data: bytes) -> list[Record]:
    """Returns the records of keys beside the log in a file.

    Raises:
        BackupDamaged: the file has other content.
    """
    records = _unpacked(name, data, _records)
    for record in records:
        for member in record.members:
            if len(member) != 2 if record.kind == "hash" else len(member) % 2 == 0:  # noqa: PLR2004 - a field and its value
                raise BackupDamaged(name, f"has a field without a value in {record.key[:80]}")
    return records


def _packed(value: object) -> bytes:
    data = msgspec.msgpack.encode(value)
    # `mtime=0`: equal content has to give equal bytes, so that it is stored once.
    return gzip.compress(data, compresslevel=1 if len(data) <= UNPACKED_BYTES_MAX else 0, mtime=0)


def _unpacked(name: str, data: bytes, decoder: "msgspec.msgpack.Decoder[T]") -> T:
    limit = max(UNPACKED_BYTES_MAX, len(data))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            # One byte beyond the limit: only a read that reaches the end verifies the checksum.
            unpacked = file.read(limit + 1)
        if len(unpacked) > limit:
            raise BackupDamaged(name, f"unpacks to more than {limit} bytes, the maximum")
        return decoder.decode(unpacked)
    except (OSError, EOFError, zlib.error, msgspec.DecodeError, ValueError) as error:
        raise BackupDamaged(name, f"cannot be unpacked: {error}") from error
