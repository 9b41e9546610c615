"""Verifies that the archive has every file, row and link of the chain that Redis has on record."""

from collections.abc import Callable, Iterator

from events.log.archive.manifest import manifest_name, manifest_of
from events.log.archive.notes import notes_of
from events.log.archive.segment import damaged, verify
from events.log.connect import Client
from events.log.entries import genesis
from events.log.errors import LogError, ManifestDamaged, SegmentDamaged, SegmentMissing
from events.log.object_store import ObjectStore


def faults(
    client: Client,
    object_store: ObjectStore,
    stream: str,
    *,
    epoch: str,
    progress: Callable[[str, int], None] = lambda _s, _n: None,
) -> Iterator[LogError]:
    """The faults of a stream's archive, each as the error that a reader would get.

    Raises:
        LogUnavailable, ObjectStoreUnavailable: Redis or the archive does not answer.
    """
    segments = notes_of(client, stream).segments
    chain, last = genesis(epoch, stream).hex(), 0
    for segment in segments:
        if segment.first != last + 1 or segment.before != chain:
            yield damaged(object_store, segment, "it does not continue the segment before it")
        chain, last = segment.after, segment.last
        try:
            verify(object_store, segment)
        except (SegmentDamaged, SegmentMissing) as error:
            yield error
        progress(stream, segment.count)
    try:
        listed = manifest_of(object_store, stream)
    except ManifestDamaged as error:
        yield error
        return
    if segments and (listed is None or listed.segments[: len(segments)] != segments):
        yield ManifestDamaged(object_store.url, manifest_name(stream), "its segments are not those recorded in Redis")
