"""Whether the archive has what Redis says it has: every file, every row, every link of the chain."""

from collections.abc import Callable, Iterator

from events.log.archive.manifest import manifest_name, manifest_of
from events.log.archive.notes import notes_of
from events.log.archive.segment import damaged, verify
from events.log.connect import Client
from events.log.depot import Depot
from events.log.entries import genesis
from events.log.errors import LogError, ManifestDamaged, SegmentDamaged, SegmentMissing


def faults(
    client: Client, depot: Depot, stream: str, *, epoch: str, progress: Callable[[str, int], None] = lambda _s, _n: None
) -> Iterator[LogError]:
    """What is wrong with a stream's part of the archive, each thing as the error that a reader would meet.

    Raises:
        LogUnavailable, DepotUnavailable: Redis or the archive does not answer.
    """
    segments = notes_of(client, stream).segments
    chain, last = genesis(epoch, stream).hex(), 0
    for segment in segments:
        if segment.first != last + 1 or segment.before != chain:
            yield damaged(depot, segment, "it does not go on where the one before it ends")
        chain, last = segment.after, segment.last
        try:
            verify(depot, segment)
        except (SegmentDamaged, SegmentMissing) as error:
            yield error
        progress(stream, segment.count)
    try:
        listed = manifest_of(depot, stream)
    except ManifestDamaged as error:
        yield error
        return
    if segments and (listed is None or listed.segments[: len(segments)] != segments):
        yield ManifestDamaged(depot.url, manifest_name(stream), "it lists other segments than Redis")
