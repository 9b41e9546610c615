"""The list of a backup: every file with its digest, the head of every stream, and which key opens the secrets."""

import hashlib

import msgspec

from events import canonical
from events.backup.errors import BackupDamaged
from events.log.archive.manifest import Segment

FORMAT = 1
FOLDER = "backups"


class File(msgspec.Struct, frozen=True):
    """A file of a backup, named by the SHA-256 of its bytes as they are stored."""

    sha256: str
    bytes: int

    @property
    def name(self) -> str:
        """Where it is, from the root of the backup's place on; files that are equal are one."""
        return f"files/{self.sha256[:2]}/{self.sha256}"


class Block(msgspec.Struct, frozen=True):
    """Entries `first` to `last` of a stream; `chain` is the stream's chain value after the last one, in hexadecimal.

    A `full` one never changes: the next backup of the same place takes it over as it is, if the log still ends it with the entry
    whose digest is `end`, in hexadecimal.
    """

    first: int
    last: int
    chain: str
    file: File
    full: bool
    end: str = ""


class Stream(msgspec.Struct, frozen=True):
    """A stream up to `head`, as `key` in Redis; positions before the first block's are in the segments of the archive.

    `chain` is the stream's chain value before the first block, in hexadecimal. `gaps` are positions, first to last, that nobody
    has any more: a partition that stopped at one stops there again after a restore. `segments` are the archive's.
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
    """One backup. `at` is in milliseconds.

    `beside` are records of what lies beside the log; `archive` and `local` the archive's segments and the files of the data
    directory by their names. `private` are those that open or pass for the system; they are where `private_at` says, which is empty
    where they were left out. `key_ids` counts the secrets by the key file that opens them.
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
        """Every file, those left elsewhere excepted."""
        private = self.private.values() if self.private_at == HERE else ()
        blocks = (block.file for stream in self.streams for block in stream.blocks)
        return [*blocks, *self.beside, *self.archive.values(), *self.local.values(), *private]


HERE = "here"
"""Stands in `private_at` for the place of the backup itself."""


def name_of(backup_id: str) -> str:
    """Where the list of a backup is."""
    return f"{FOLDER}/{backup_id}.json"


def encode(manifest: BackupManifest) -> bytes:
    """The list with a digest of itself, so that a change of it is noticed."""
    body = canonical.encode(manifest)
    return canonical.encode({"backup": msgspec.Raw(body), "sha256": hashlib.sha256(body).hexdigest()})


class _Signed(msgspec.Struct, frozen=True):
    backup: msgspec.Raw
    sha256: str


def decode(name: str, data: bytes) -> BackupManifest:
    """Read what `encode` wrote.

    Raises:
        BackupDamaged: it is not that.
    """
    try:
        signed = msgspec.json.decode(data, type=_Signed)
        if hashlib.sha256(signed.backup).hexdigest() != signed.sha256:
            raise BackupDamaged(name, "was changed: its own digest does not fit")
        found = msgspec.json.decode(signed.backup, type=BackupManifest)
    except msgspec.DecodeError as error:
        raise BackupDamaged(name, f"cannot be read: {error}") from error
    if found.format != FORMAT:
        raise BackupDamaged(name, f"has format {found.format}, this twinfold reads {FORMAT}")
    return found
