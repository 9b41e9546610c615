"""The events of a preview, as they would be read from the log."""

import hashlib
from collections.abc import Collection, Sequence

import msgspec

from events import canonical
from events.envelope import Envelope, Principal
from events.log.codec import decode_entry, type_of
from events.log.keys import name
from events.log.port import Event, Log, Proposed, stream_of

NEW_SECRET = "new-"  # noqa: S105 - what a reference to a secret that is not stored begins with
_REFERENCE = b'"$secret":"%s"'


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
