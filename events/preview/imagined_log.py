"""A log that keeps appended events in memory, so that later commands are decided as if they were written; and these events."""

import hashlib
from collections.abc import Collection, Iterable, Sequence

import msgspec

from events import canonical
from events.envelope import Envelope, Principal
from events.log.chunks import split
from events.log.codec import decode_entry, type_of
from events.log.keys import FLEET, device_of, name, partition_of
from events.log.port import Chunk, Event, Head, Log, PreparedAppend, Proposed, Stored, Written, stream_of, with_time
from events.log.ranked_deployments import RankedDeployments, is_deployment

NEW_SECRET = "new-"  # noqa: S105 - what a reference to a secret that is not stored begins with
_REFERENCE = b'"$secret":"%s"'


class ImaginedLog:
    """A `Log` over another one, which is never written. `proposed` are the events that would be in it, in order."""

    def __init__(self, log: Log) -> None:
        self._log, self.partitions, self.epoch, self.remembered = log, log.partitions, log.epoch, log.remembered
        # Positions are those of the written events.
        self.head, self.heads, self.read, self.position_at = log.head, log.heads, log.read, log.position_at
        self._over: dict[tuple[int, str], Stored] = {}
        self.proposed: list[Proposed] = []

    def append(self, batch: Sequence[Proposed], *, at: int, **_: object) -> tuple[Chunk, ...]:
        """Keep a batch, as `Log.append` would write it. It never conflicts: there are no other writers.

        Raises:
            EventTooLarge: as `Log.append`.
        """
        chunks = []
        for piece in split(batch, partitions=self.partitions):
            for index in piece.indices:
                self._take(piece.stream, batch[index], at)
            chunks.append(Written(piece.stream, piece.indices, 0, at, repeated=False, woke=False))
        self.proposed += batch
        return tuple(chunks)

    def prepare_append(self, batch: Sequence[Proposed], *, at: int, **_: object) -> PreparedAppend:
        """As `append`, in the steps of `Log.prepare_append`; all is done in the first.

        Raises:
            EventTooLarge: as `Log.append`.
        """
        chunks = self.append(batch, at=at)
        return lambda: lambda: chunks

    def _take(self, stream: int, proposed: Proposed, at: int) -> None:
        (stored,) = self.load([proposed.subject], fleet=stream == FLEET)
        generation = stored.head.generation if proposed.generation is None else proposed.generation
        head = Head(proposed.expected_version + 1, generation)
        self._over[stream, proposed.subject] = msgspec.structs.replace(stored, head=head)
        for subject, document in proposed.snapshots:
            (under,) = self.load([subject], fleet=stream == FLEET)
            # The append script would put the time here (decisions/0010).
            snapshot = None if document is None else with_time(document, at)
            self._over[stream, subject] = msgspec.structs.replace(under, snapshot=snapshot)

    def load(self, subjects: Sequence[str], *, fleet: bool = False) -> list[Stored]:
        """Heads and snapshots of subjects, with the events in memory."""
        streams = [FLEET if fleet else partition_of(device_of(subject), self.partitions) for subject in subjects]
        over = [self._over.get(location) for location in zip(streams, subjects, strict=True)]
        under = [subject for subject, stored in zip(subjects, over, strict=True) if stored is None]
        loaded = iter(self._log.load(under, fleet=fleet) if under else [])
        return [next(loaded) if stored is None else stored for stored in over]

    def snapshots(self, partition: int, subjects: Sequence[str]) -> list[bytes | None]:
        """Snapshots of subjects of one partition, with the events in memory."""
        under = self._log.snapshots(partition, subjects)
        over = [self._over.get((partition, subject)) for subject in subjects]
        return [snapshot if stored is None else stored.snapshot for stored, snapshot in zip(over, under, strict=True)]

    def all_stored(self, stream: int) -> Iterable[tuple[str, Stored]]:
        """Every subject of a stream with its head and snapshot, with the events in memory."""
        for subject, stored in self._log.all_stored(stream):
            if (stream, subject) not in self._over:
                yield subject, stored
        for (over, subject), stored in list(self._over.items()):
            if over == stream:
                yield subject, stored

    def subjects(self, stream: int, *, prefix: str = "") -> Iterable[str]:
        """Every subject of a stream that has a snapshot and starts with `prefix`, with the events in memory."""
        for subject in self._log.subjects(stream, prefix=prefix):
            if (stream, subject) not in self._over:
                yield subject
        # A copy, as a consumer of this iterator may append.
        for (over, subject), stored in list(self._over.items()):
            if over == stream and subject.startswith(prefix) and stored.snapshot is not None:
                yield subject

    def ranked_deployments(self) -> RankedDeployments:
        """The ranks of the deployments, with the events in memory."""
        over = [(subject, stored.snapshot) for (stream, subject), stored in self._over.items() if stream == FLEET]
        return self._log.ranked_deployments().after(pair for pair in over if is_deployment(pair[0]))


class ImaginedEvents(msgspec.Struct, frozen=True, eq=False):
    """Events by stream, in order, and a digest of their content.

    Envelopes have no position yet: positions follow from the partition's vector.
    """

    by_stream: dict[int, tuple[Envelope[Event], ...]]
    digest: bytes

    def of(self, stream: int) -> tuple[Envelope[Event], ...]:
        """The events of a stream."""
        return self.by_stream.get(stream, ())


def imagined_events(
    log: Log, proposed: Sequence[Proposed], *, by: Principal, at: int, new_secrets: Collection[str]
) -> ImaginedEvents:
    """The events that the log would have for proposals; `new_secrets` are the references to secrets of these commands."""
    by_stream: dict[int, list[Envelope[Event]]] = {}
    sha256 = hashlib.sha256()
    names: dict[bytes, bytes] = {}
    for proposal in proposed:
        stream = stream_of(proposal.subject, proposal.event, partitions=log.partitions)
        data = _renamed(canonical.encode(proposal.event), new_secrets, names)
        texts = (type_of(proposal.event), proposal.subject, str(proposal.expected_version + 1), str(at), str(by), "")
        keys = (b"type", b"subject", b"version", b"at", b"by", b"cause")
        entry = dict(zip(keys, (text.encode() for text in texts), strict=True))
        by_stream.setdefault(stream, []).append(decode_entry(name(stream), 0, {**entry, b"data": data}))
        sha256.update(canonical.encode([proposal.subject, data.decode()]))
    return ImaginedEvents({stream: tuple(events) for stream, events in by_stream.items()}, sha256.digest())


def _renamed(data: bytes, new_secrets: Collection[str], names: dict[bytes, bytes]) -> bytes:
    """The data with each new reference replaced by a number, in the order of the references."""
    # Ids of secrets are random. By number, the same commands give the same digest each time (decisions/0028).
    locations = sorted((data.find(_REFERENCE % reference.encode()), reference.encode()) for reference in new_secrets)
    for location, reference in locations:
        if location >= 0:
            names.setdefault(reference, f"{NEW_SECRET}{len(names)}".encode())
            data = data.replace(_REFERENCE % reference, _REFERENCE % names[reference])
    return data
