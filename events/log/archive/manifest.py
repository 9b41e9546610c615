"""Which segments a stream has in the archive, and where what was archived begins and ends."""

import msgspec

from events import canonical
from events.log.errors import ManifestDamaged
from events.log.object_store import ObjectStore

FORMAT = 2
"""Of segments and manifests; a reader refuses what is newer."""


class Segment(msgspec.Struct, frozen=True):
    """Some entries of one stream in one file, positions `first` to `last`.

    `bytes` and `sha256` are the file's; `before` and `after` (hex) the values of the stream's chain around the entries
    (events/log/entries.py); `first_at` and `last_at` the entries' times in milliseconds.
    """

    name: str
    stream: str
    first: int
    last: int
    bytes: int
    sha256: str
    before: str
    after: str
    first_at: int
    last_at: int

    @property
    def count(self) -> int:
        """How many entries it has."""
        return self.last - self.first + 1


class ArchiveManifest(msgspec.Struct, frozen=True):
    """The segments of one stream in order, without a gap from position 1 on."""

    stream: str
    epoch: str
    segments: tuple[Segment, ...] = ()
    format: int = FORMAT


def folder_of(stream: str) -> str:
    """`p03` -> `events/p03`, `p03:assignments` -> `assignments/p03`: a pattern finds the events of all streams, and changes alone."""
    slot, colon, _ = stream.partition(":")
    return f"assignments/{slot}" if colon else f"events/{slot}"


def segment_name(stream: str, first: int, last: int, *, sha256: str) -> str:
    """`events/p03/000000000001-000000050000-1f0c9a2b.parquet`; by name is by position.

    The end is of the file's digest: two movers of different versions, which write the same entries in other bytes, do not
    overwrite each other's file.
    """
    return f"{folder_of(stream)}/{first:012d}-{last:012d}-{sha256[:8]}.parquet"


def manifest_name(stream: str) -> str:
    """Where the manifest of a stream is: `manifests/events/p03.json`."""
    return f"manifests/{folder_of(stream)}.json"


def encode(manifest: ArchiveManifest) -> bytes:
    """Canonical bytes of a manifest."""
    return canonical.encode(manifest)


def manifest_of(object_store: ObjectStore, stream: str) -> ArchiveManifest | None:
    """The manifest of a stream as the archive has it, for who reads without Redis; `None` where it has none.

    Raises:
        ManifestDamaged: it does not decode, or is of another stream or a later format.
        ObjectStoreUnavailable: the archive does not answer.
    """
    data = object_store.get(manifest_name(stream))
    if data is None:
        return None
    try:
        found = msgspec.json.decode(data, type=ArchiveManifest)
    except msgspec.DecodeError as error:
        raise ManifestDamaged(object_store.url, manifest_name(stream), str(error)) from error
    if found.stream != stream or found.format > FORMAT:
        raise ManifestDamaged(
            object_store.url, manifest_name(stream), f"it is of {found.stream}, format {found.format}"
        )
    return found
