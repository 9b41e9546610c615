"""The manifest of a stream in the archive: its segments, with their positions, digests and times."""

from collections.abc import Iterator, Sequence

import msgspec

from events.log.entries import genesis
from events.log.errors import ManifestDamaged
from events.log.object_store import ObjectStore

FORMAT = 2
"""The format of segments and manifests; a reader rejects a later one."""


class Segment(msgspec.Struct, frozen=True):
    """The entries of one stream at positions `first` to `last`, in one file.

    `bytes` and `sha256` are those of the file; `before` and `after` (hex) are the values of the stream's chain before and
    after the entries (events/log/entries.py); `first_at` and `last_at` are the entries' times in milliseconds.
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
        """The number of entries."""
        return self.last - self.first + 1


class ArchiveManifest(msgspec.Struct, frozen=True):
    """The segments of one stream, in order and without a gap from position 1 on."""

    stream: str
    epoch: str
    segments: tuple[Segment, ...] = ()
    format: int = FORMAT


def folder_of(stream: str) -> str:
    """`p03` -> `events/p03`, `p03:assignments` -> `assignments/p03`."""
    # Apart, so that the pattern `events/*/*.parquet` gives an auditor's query the events of all streams and nothing else.
    slot, colon, _ = stream.partition(":")
    return f"assignments/{slot}" if colon else f"events/{slot}"


def segment_name(stream: str, first: int, last: int, *, sha256: str) -> str:
    """The name of a segment's file, as in `events/p03/000000000001-000000050000-1f0c9a2b.parquet`."""
    # Padded, so that names sort by position. With a part of the digest: two movers of different versions write the same entries
    # in other bytes, and neither must overwrite the file that the other one has recorded.
    return f"{folder_of(stream)}/{first:012d}-{last:012d}-{sha256[:8]}.parquet"


def manifest_name(stream: str) -> str:
    """The name of a stream's manifest, as in `manifests/events/p03.json`."""
    return f"manifests/{folder_of(stream)}.json"


def manifest_of(object_store: ObjectStore, stream: str) -> ArchiveManifest | None:
    """The manifest of a stream, for readers without Redis; `None` if the archive has none.

    Raises:
        ManifestDamaged: it does not decode, has another stream or a later format, or its segments are not one chain.
        ObjectStoreUnavailable: the archive does not answer.
    """
    data = object_store.get(manifest_name(stream))
    if data is None:
        return None
    try:
        manifest = msgspec.json.decode(data, type=ArchiveManifest)
    except msgspec.DecodeError as error:
        raise ManifestDamaged(object_store.url, manifest_name(stream), str(error)) from error
    if manifest.stream != stream or manifest.format > FORMAT:
        raise ManifestDamaged(
            object_store.url, manifest_name(stream), f"it belongs to {manifest.stream}, in format {manifest.format}"
        )
    for segment in not_continuing(stream, manifest.segments, epoch=manifest.epoch):
        why = f"{segment.name} does not continue the segment before it"
        raise ManifestDamaged(object_store.url, manifest_name(stream), why)
    return manifest


def not_continuing(stream: str, segments: Sequence[Segment], *, epoch: str) -> Iterator[Segment]:
    """The segments that do not continue the one before them, in position and chain."""
    last, chain = 0, genesis(epoch, stream).hex()
    for segment in segments:
        if segment.first != last + 1 or segment.last < segment.first or segment.before != chain:
            yield segment
        last, chain = segment.last, segment.after
