"""A log that keeps appended events in memory, so that later commands are decided as if they were written."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from events.envelope import Envelope, Principal
from events.log.chunks import split
from events.log.keys import FLEET, device_of, partition_of
from events.log.port import AT_APPEND, Chunk, Event, Head, Log, LogOverlay, Proposed, Stored, Written

_AT_APPEND = b'_at":%d' % AT_APPEND


class ImaginedLog(LogOverlay):
    """A `Log` over another one, which is never written. `proposed` are the events that would be in it, in order."""

    def __init__(self, log: Log) -> None:
        super().__init__(log)
        self._over: dict[tuple[int, str], Stored] = {}
        self.proposed: list[Proposed] = []

    def append(
        self,
        batch: Sequence[Proposed],
        *,
        command_id: str,
        by: Principal,
        at: int,
        cause: str = "",
        fence: int | None = None,
    ) -> tuple[Chunk, ...]:
        """Keep a batch, as `Log.append` would write it. It never conflicts: there are no other writers.

        Raises:
            EventTooLarge: as `Log.append`.
        """
        del command_id, by, cause, fence
        chunks = []
        for piece in split(batch, partitions=self.partitions):
            versions = tuple(self._take(piece.stream, batch[index], at) for index in piece.indices)
            chunks.append(Written(piece.stream, piece.indices, 0, versions, repeated=False, woke=False))
        self.proposed += batch
        return tuple(chunks)

    def _take(self, stream: int, proposed: Proposed, at: int) -> int:
        (stored,) = self.load([proposed.subject], fleet=stream == FLEET)
        generation = stored.head.generation if proposed.generation is None else proposed.generation
        head = Head(proposed.expected_version + 1, generation)
        self._over[stream, proposed.subject] = msgspec.structs.replace(stored, head=head)
        for subject, document in proposed.snapshots:
            (under,) = self.load([subject], fleet=stream == FLEET)
            # The append script would put the time here (decisions/0010).
            snapshot = None if document is None else document.replace(_AT_APPEND, b'_at":%d' % at)
            self._over[stream, subject] = msgspec.structs.replace(under, snapshot=snapshot)
        return head.version

    def load(self, subjects: Sequence[str], *, fleet: bool = False) -> list[Stored]:
        """Heads and snapshots of subjects, with the events in memory."""
        streams = [FLEET if fleet else partition_of(device_of(subject), self.partitions) for subject in subjects]
        locations = list(zip(streams, subjects, strict=True))
        stored_subjects = [subject for stream, subject in locations if (stream, subject) not in self._over]
        stored = iter(self._log.load(stored_subjects, fleet=fleet) if stored_subjects else [])
        return [self._over[location] if location in self._over else next(stored) for location in locations]

    def snapshots(self, partition: int, subjects: Sequence[str]) -> list[bytes | None]:
        """Snapshots of subjects of one partition, with the events in memory."""
        under = self._log.snapshots(partition, subjects)
        locations = [(partition, subject) for subject in subjects]
        return [
            self._over[at].snapshot if at in self._over else snapshot
            for at, snapshot in zip(locations, under, strict=True)
        ]

    def subjects_with_events(self, stream: int) -> Iterable[str]:
        """Every subject of a stream that has a head, with the events in memory."""
        return {*self._log.subjects_with_events(stream), *(subject for over, subject in self._over if over == stream)}

    def subjects(self, stream: int, *, prefix: str = "") -> Iterable[str]:
        """Every subject of a stream that has a snapshot and starts with `prefix`, with the events in memory."""
        for subject in self._log.subjects(stream, prefix=prefix):
            if (stream, subject) not in self._over:
                yield subject
        # A copy, as a consumer of this iterator may append.
        for (over, subject), stored in list(self._over.items()):
            if over == stream and subject.startswith(prefix) and stored.snapshot is not None:
                yield subject

    def head(self, stream: int) -> int:
        """Position of the newest written event of a stream."""
        return self._log.head(stream)

    def heads(self) -> Mapping[int, int]:
        """`head` of every stream."""
        return self._log.heads()

    def read(self, stream: int, *, after: int, limit: int) -> list[Envelope[Event]]:
        """The written events."""
        return self._log.read(stream, after=after, limit=limit)

    def position_at(self, stream: int, at: int) -> int:
        """The last written position whose time is <= `at` (milliseconds)."""
        return self._log.position_at(stream, at)

    def clear_wake(self, stream: int) -> None:
        """Do nothing: no worker was woken."""
        del stream
