"""Entries of one stream by what is in their fields: column by column where they are archived, one after the other elsewhere."""

from collections.abc import Callable, Iterator

from events.log.raw import RawEntry, RawStreams
from events.log.scan import Wanted
from events.log.scan import scan as scan_columns


def scan(
    streams: RawStreams,
    stream: str,
    wanted: Wanted,
    may_be: Callable[[RawEntry], bool],
    *,
    after: int,
    upto: int,
) -> Iterator[RawEntry]:
    """The entries at positions after + 1 to `upto` that are among `wanted` and may be what is looked for, in order.

    Raises:
        LogLostItsTail, LogUnavailable, DepotUnavailable, SegmentMissing, SegmentDamaged: as `events.log.scan.scan`.
    """
    return (entry for entry in scan_columns(streams, stream, wanted, after=after, upto=upto) if may_be(entry))
