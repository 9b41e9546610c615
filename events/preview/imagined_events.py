"""The events that are looked ahead at, as they would be read from the log."""

import hashlib
from collections.abc import Collection, Sequence

import msgspec

from events import canonical
from events.envelope import Envelope, Principal
from events.log.codec import decode_entry, type_of
from events.log.keys import FLEET, name
from events.log.port import Event, Log, Proposed, stream_of

NEW_SECRET = "new-"  # noqa: S105 - what a reference to a secret that is not stored begins with
_REFERENCE = b'"$secret":"%s"'


class Imagined(msgspec.Struct, frozen=True, eq=False):
    """Events by stream, in order, and a digest of what they say.

    Secrets that come with them are named by their place, so that the same commands make the same events each time. Envelopes
    have no position yet: those follow from where a partition stands.
    """

    by_stream: dict[int, tuple[Envelope[Event], ...]]
    digest: bytes

    @property
    def fleet(self) -> tuple[Envelope[Event], ...]:
        """Those of the fleet's stream."""
        return self.by_stream.get(FLEET, ())

    def of(self, number: int) -> tuple[Envelope[Event], ...]:
        """Those of one partition."""
        return self.by_stream.get(number, ())


def imagined(
    log: Log, proposed: Sequence[Proposed], *, by: Principal, at: int, new_secrets: Collection[str]
) -> Imagined:
    """What the log would hold of some proposals; `new_secrets` are the references that came with them."""
    by_stream: dict[int, list[Envelope[Event]]] = {}
    said = hashlib.sha256()
    names: dict[bytes, bytes] = {}
    for one in proposed:
        stream = stream_of(one.subject, one.event, partitions=log.partitions)
        data = _renamed(canonical.encode(one.event), new_secrets, names)
        texts = (type_of(one.event), one.subject, str(one.expected_version + 1), str(at), str(by), "")
        keys = (b"type", b"subject", b"version", b"at", b"by", b"cause")
        entry = dict(zip(keys, (text.encode() for text in texts), strict=True))
        by_stream.setdefault(stream, []).append(decode_entry(name(stream), 0, {**entry, b"data": data}))
        said.update(canonical.encode([one.subject, data.decode()]))
    return Imagined({stream: tuple(events) for stream, events in by_stream.items()}, said.digest())


def _renamed(data: bytes, new_secrets: Collection[str], names: dict[bytes, bytes]) -> bytes:
    """Each reference that is new under a name that follows from where it stands."""
    locations = sorted((data.find(_REFERENCE % one.encode()), one.encode()) for one in new_secrets)
    for location, one in locations:
        if location >= 0:
            names.setdefault(one, f"{NEW_SECRET}{len(names)}".encode())
            data = data.replace(_REFERENCE % one, _REFERENCE % names[one])
    return data
