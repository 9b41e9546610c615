"""The manifest of a backup: every file with its digest, the head of every stream, and the keys of its secrets."""

import hashlib

import msgspec

from events import canonical
from events.backup.errors import BackupDamaged
from events.log.archive.manifest import Segment

FORMAT = 1
FOLDER = "backups"


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
