"""The log as the archive alone has it: for who replays or examines it without the Redis that it came from."""

from collections.abc import Mapping

from events.envelope import Envelope
from events.log.archive.manifest import manifest_name, manifest_of
from events.log.archive.notes import Notes
from events.log.archive.shelf import Shelf
from events.log.depot import Depot
from events.log.entries import RawEntry
from events.log.errors import LogLostItsTail, LogNotInitialised, ManifestDamaged
from events.log.facts import LogInitialised
from events.log.keys import FLEET, name
from events.log.port import Fact
from events.settings import hide_password


class InManifests:
    """The catalogue of whoever has the files alone: all that is listed counts."""

    def __init__(self, depot: Depot) -> None:
        self._depot = depot

    def notes(self, stream: str) -> Notes:
        """See `events.log.archive.shelf.Catalogue`.

        Raises:
            ManifestDamaged, DepotUnavailable: it cannot be read.
        """
        found = manifest_of(self._depot, stream)
        return Notes() if found is None else Notes(found.segments, found.written)

    def depot(self) -> Depot:
        """See `events.log.archive.shelf.Catalogue`."""
        return self._depot


class ArchivedLog:
    """The reading half of `events.log.port.Log`, and of `RawStreams`, over an archive; it ends where each stream's segments end."""

    def __init__(self, url: str) -> None:
        """Open the archive at a URL.

        Raises:
            LogNotInitialised: it does not have the log's first fact.
            ManifestDamaged, SegmentMissing, SegmentDamaged, DepotUnavailable: it cannot be read.
        """
        depot = Depot(url)
        self.shelf = Shelf(InManifests(depot))
        fleet = manifest_of(depot, name(FLEET))
        if fleet is None or not fleet.segments:
            raise LogNotInitialised(hide_password(url))
        (first,) = self.read(FLEET, after=0, limit=1)
        if not isinstance(first.fact, LogInitialised) or first.fact.epoch != fleet.epoch:
            raise ManifestDamaged(
                url, manifest_name(name(FLEET)), f"it is of epoch {fleet.epoch}, its first fact of another"
            )
        self.partitions, self.epoch = first.fact.partitions, first.fact.epoch

    def head(self, stream: int) -> int:
        """The last position of a fact that a segment has."""
        return self._end(name(stream))

    def heads(self) -> Mapping[int, int]:
        """`head` of every stream of facts."""
        return {stream: self.head(stream) for stream in (FLEET, *range(self.partitions))}

    def read(self, stream: int, *, after: int, limit: int) -> list[Envelope[Fact]]:
        """Facts at positions after + 1 and on, at most `limit`.

        Raises:
            LogLostItsTail: `after` lies beyond the head.
            UnreadableFact, SegmentMissing, SegmentDamaged, DepotUnavailable: they cannot be had.
        """
        head, found = self.head(stream), list[Envelope[Fact]]()
        if after > head:
            raise LogLostItsTail(name(stream), expected=after, found=head)
        while len(found) < limit and (at := after + len(found)) < head:
            found += self.shelf.envelopes(name(stream), after=at, limit=limit - len(found))
        return found

    def entries(self, stream: str, *, after: int, limit: int) -> list[RawEntry]:
        """Entries of a stream of facts or outcomes at positions after + 1 and on, at most `limit`.

        Raises:
            SegmentMissing, SegmentDamaged, DepotUnavailable: they cannot be had.
        """
        head, found = self._end(stream), list[RawEntry]()
        while len(found) < limit and (at := after + len(found)) < head:
            found += self.shelf.entries(stream, after=at, limit=limit - len(found))
        return found

    def position_at(self, stream: int, at: int) -> int:
        """The last position whose time is <= `at` (milliseconds); 0 when there is none.

        Raises:
            SegmentMissing, SegmentDamaged, DepotUnavailable: it cannot be had.
        """
        self._end(name(stream))
        return self.shelf.position_at(name(stream), at)

    def _end(self, stream: str) -> int:
        """As of when the stream was asked for first, so that it is the same from then on."""
        return self.shelf.trimmed(stream) or self.shelf.look(stream)
