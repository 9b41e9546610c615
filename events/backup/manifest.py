"""The files of a backup: blocks of entries and records of keys, MessagePack in gzip, and the manifest with every file's digest."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Sequence
from itertools import chain
from typing import Literal, TypeVar

import msgspec

from events import canonical
from events.backup.errors import BackupDamaged
from events.log.archive.manifest import Segment
from events.log.entries import RawEntry, fields_of

FORMAT = 1
FOLDER = "backups"

ENTRIES_MAX = 10_000
BYTES_MAX = 8 << 20
"""A block is full with ENTRIES_MAX entries, or with BYTES_MAX bytes before compression."""

UNPACKED_BYTES_MAX = 64 << 20
"""The largest unpacked size of a compressed file; larger content is stored uncompressed."""
# A restore holds a whole unpacked file in memory, and the file may come from an attacker: a few kilobytes of gzip can unpack to any
# size.


class File(msgspec.Struct, frozen=True):
    """A file of a backup, named by the SHA-256 of its stored bytes."""

    sha256: str
    bytes: int

    @property
    def name(self) -> str:
        """The path from the root of the location; equal files are stored once."""
        return f"files/{self.sha256[:2]}/{self.sha256}"


class Block(msgspec.Struct, frozen=True):
    """Entries `first` to `last` of a stream; `chain` is the stream's chain value after the last one, in hexadecimal.

    A `full` block never changes: the next backup at the same location reuses it, if the log's entry at `last` still has the
    digest `end` (hexadecimal).
    """

    first: int
    last: int
    chain: str
    file: File
    full: bool
    end: str = ""


class Stream(msgspec.Struct, frozen=True):
    """A stream up to `head`, with its `key` in Redis; positions before the first block are in `segments` of the archive.

    `chain` is the stream's chain value before the first block, in hexadecimal. `gaps` are lost positions, first to last: a
    partition that stopped at one stops there again after a restore. Entries up to `trimmed` are only in the archive.
    """

    name: str
    key: str
    head: int
    chain: str
    blocks: tuple[Block, ...] = ()
    gaps: tuple[tuple[int, int], ...] = ()
    segments: tuple[Segment, ...] = ()
    trimmed: int = 0


class BackupManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The manifest of one backup. `at` is in milliseconds.

    `beside` are records of keys beside the log; `archive` and `local` are the archive's segments and the files of the data
    directory, by name. `private` are key files and credentials; `private_at` is their location, empty if they were left out.
    `key_ids` counts the secrets by the id of their key.
    """

    id: str
    format: int
    made_by: str
    epoch: str
    partitions: int
    at: int
    streams: tuple[Stream, ...]
    beside: tuple[File, ...] = ()
    archive: dict[str, File] = {}
    local: dict[str, File] = {}
    private: dict[str, File] = {}
    private_at: str = ""
    key_ids: dict[str, int] = {}

    def files(self) -> list[File]:
        """Returns all files at the backup's location."""
        private = self.private.values() if self.private_at == HERE else ()
        blocks = (block.file for stream in self.streams for block in stream.blocks)
        return [*blocks, *self.beside, *self.archive.values(), *self.local.values(), *private]


HERE = "here"
"""The value of `private_at` for the location of the backup itself."""


def name_of(backup_id: str) -> str:
    """Returns the path of a backup's manifest."""
    return f"{FOLDER}/{backup_id}.json"


def encode(manifest: BackupManifest) -> bytes:
    """Returns the manifest with its own digest, which reveals changes."""
    body = canonical.encode(manifest)
    return canonical.encode({"backup": msgspec.Raw(body), "sha256": hashlib.sha256(body).hexdigest()})


class _Signed(msgspec.Struct, frozen=True):
    backup: msgspec.Raw
    sha256: str


def decode(name: str, data: bytes) -> BackupManifest:
    """Returns the manifest that `encode` wrote.

    Raises:
        BackupDamaged: the data is not a manifest, or was changed.
    """
    try:
        signed = msgspec.json.decode(data, type=_Signed)
        if hashlib.sha256(signed.backup).hexdigest() != signed.sha256:
            raise BackupDamaged(name, "was changed: its own digest differs")
        manifest = msgspec.json.decode(signed.backup, type=BackupManifest)
    except msgspec.DecodeError as error:
        raise BackupDamaged(name, f"cannot be read: {error}") from error
    if manifest.format != FORMAT:
        raise BackupDamaged(
            name, f"has format {manifest.format}, and this version of twinfold reads only format {FORMAT}"
        )
    return manifest


# -- blocks and records


class Record(msgspec.Struct, frozen=True, array_like=True):
    """Members of a Redis key: fields and values of a `hash`, or entries of a `stream`, each a flat tuple of id and fields.

    `expires_ms` is the remaining lifetime; negative for no expiry.
    """

    kind: Literal["hash", "stream"]
    key: str
    members: tuple[tuple[bytes, ...], ...]
    expires_ms: int = -1


_entries = msgspec.msgpack.Decoder(list[tuple[int, tuple[bytes, ...]]])
_records = msgspec.msgpack.Decoder(list[Record])
T = TypeVar("T")


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


def pack_records(records: Sequence[Record]) -> bytes:
    """Returns records of keys beside the log as a file."""
    return _packed(records)


def _packed(content: object) -> bytes:
    data = msgspec.msgpack.encode(content)
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
