"""The facts of one subject, out of all those of its stream."""

from collections.abc import Iterator, Sequence

from events.envelope import Envelope
from events.log.codec import decode_entry
from events.log.keys import FLEET, device_of, name, partition_of
from events.log.port import Fact
from events.log.raw import RawStreams
from events.log.scan import Wanted, scan


def facts_of(
    streams: RawStreams,
    subjects: Sequence[str],
    *,
    partitions: int,
    fleet: bool = False,
    after: int = 0,
    upto: int | None = None,
) -> Iterator[Envelope[Fact]]:
    """The facts of some subjects that share a stream, in their order, from position after + 1 to `upto`.

    `fleet` says that they are subjects of the fleet's stream; otherwise they are devices of one partition and their modules.

    Raises:
        LogLostItsTail, LogUnavailable, UnreadableFact: as `Log.read`; facts of others are not decoded.
        SegmentMissing, SegmentDamaged, DepotUnavailable: the archive does not have what was archived.
    """
    wanted = Wanted(subjects=frozenset(subjects))
    stream = name(FLEET if fleet else partition_of(device_of(subjects[0]), partitions))
    for entry in scan(streams, stream, wanted, after=after, upto=upto):
        yield decode_entry(stream, entry.position, entry.fields)
