"""The log as an archive alone has it: facts and outcomes by position, without any Redis."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

from events.envelope import Envelope
from events.log.archive.columns import Rows
from events.log.archive.manifest import Segment, manifest_of
from events.log.archive.segment import Opened, open_whole
from events.log.depot import Depot
from events.log.entries import stream_names
from events.log.errors import LogError
from events.log.facts import LogInitialised
from events.log.keys import FLEET, name
from events.log.port import Fact
from events.view_store.redis import OUTCOMES, outcome_of
from events.views.kept import OutcomeEntry


class ArchiveEmpty(LogError):
    """An archive does not have the first fact of a log."""

    def __init__(self, url: str) -> None:
        super().__init__(f"the archive at {url} has no log: its first segment of the fleet's stream is missing")
        self.url = url


class ArchivedLog:
    """Reads what was archived of a log; a file is held against the manifest, every byte, before anything of it is used."""

    def __init__(self, url: str) -> None:
        """Open the archive at a URL.

        Raises:
            ArchiveEmpty: there is no log in it.
            DepotUnavailable, ManifestDamaged, SegmentMissing, SegmentDamaged: it cannot be read.
        """
        self._depot = Depot(url)
        self._segments: dict[str, Sequence[Segment]] = {}
        self._open: tuple[str, Opened] | None = None
        self._rows: tuple[str, int, Rows] | None = None
        first = self.read(FLEET, after=0, limit=1)
        if not first or not isinstance(first[0].fact, LogInitialised):
            raise ArchiveEmpty(self._depot.url)
        self.partitions = first[0].fact.partitions
        self.epoch = first[0].fact.epoch
        for stream in stream_names(self.partitions):
            self._of(stream)

    def _of(self, stream: str) -> Sequence[Segment]:
        if stream not in self._segments:
            manifest = manifest_of(self._depot, stream)
            self._segments[stream] = () if manifest is None else manifest.segments
        return self._segments[stream]

    def head(self, stream: int) -> int:
        """The last archived position of a stream of facts; 0 where it has none."""
        segments = self._of(name(stream))
        return segments[-1].last if segments else 0

    def heads(self) -> Mapping[int, int]:
        """`head` of every stream."""
        return {stream: self.head(stream) for stream in (FLEET, *range(self.partitions))}

    def read(self, stream: int, *, after: int, limit: int) -> list[Envelope[Fact]]:
        """Archived facts at positions after + 1 and on, at most `limit`.

        Raises:
            SegmentMissing, SegmentDamaged, DepotUnavailable, UnreadableFact: they cannot be had.
        """
        facts: list[Envelope[Fact]] = []
        while len(facts) < limit and (rows := self._rows_at(name(stream), after + len(facts))) is not None:
            start = after + len(facts) + 1 - rows.first
            facts += rows.envelopes(name(stream), start, min(len(rows), start + limit - len(facts)))
        return facts

    def outcomes(self, partition: int, *, after: int, limit: int) -> Sequence[OutcomeEntry]:
        """Archived outcomes at positions after + 1 and on, at most `limit`.

        Raises:
            SegmentMissing, SegmentDamaged, DepotUnavailable: they cannot be had.
        """
        found = self._rows_at(f"{name(partition)}:{OUTCOMES}", after)
        if found is None:
            return []
        start = after + 1 - found.first
        return [outcome_of(one) for one in found.entries(start, min(len(found), start + limit))]

    def position_at(self, stream: int, at: int) -> int:
        """The last archived position of a stream of facts whose time is <= `at` (milliseconds); 0 when there is none."""
        segments = self._of(name(stream))
        before = bisect_right(segments, at, key=lambda one: one.first_at)
        position = segments[before - 1].first - 1 if before else 0
        while (some := self._rows_at(name(stream), position)) is not None:
            number = bisect_right(some.ats, at)
            if number < len(some):
                return some.first + number - 1
            position = some.first + len(some) - 1
        return position

    def _rows_at(self, stream: str, after: int) -> Rows | None:
        segments = self._of(stream)
        if not segments or after >= segments[-1].last:
            return None
        segment = segments[bisect_left(segments, after + 1, key=lambda one: one.last)]
        # One file and one group of it at a time: streams are read in order.
        if self._open is None or self._open[0] != segment.name:
            self._open = (segment.name, open_whole(self._depot, segment))
        opened = self._open[1]
        group = bisect_right(opened.firsts, after + 1) - 1
        if self._rows is None or self._rows[:2] != (segment.name, group):
            self._rows = (segment.name, group, opened.rows(group))
        return self._rows[2]
