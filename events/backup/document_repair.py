"""Documents and heads beside the log, replayed from their events: for a restore, and to repair those that differ."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import cast

import msgspec

from events.log.codec import decode_entry
from events.log.connect import answering
from events.log.documents import documents_of, encoded
from events.log.entries import RawEntry, number_of
from events.log.errors import UnreadableEvent
from events.log.fleet_events import FleetEventReader
from events.log.keys import key, name
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.redis_cluster import hash_fields

# Writes only if the subject has no new event since the replay, and its stored document is still the damaged one.
_REPAIR = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
if (redis.call('HGET', KEYS[2], ARGV[1]) or '') ~= ARGV[4] then return 0 end
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
if ARGV[5] == '' then redis.call('HDEL', KEYS[2], ARGV[1]) else redis.call('HSET', KEYS[2], ARGV[1], ARGV[5]) end
return 1
"""


class ReplayedStream(msgspec.Struct, frozen=True):
    """The documents and heads of a stream by subject, as they are stored, and the time of its last entry in milliseconds.

    `unapplied` names the entries that cannot be applied, as in `p03:17`.
    """

    documents: dict[str, bytes]
    heads: dict[str, bytes]
    unapplied: tuple[str, ...]
    at: int


def replay_stream(
    stream: str, entries: Callable[[], Iterable[RawEntry]], skipped: Collection[int] = ()
) -> ReplayedStream:
    """Replay a stream without the entries that operators skipped, and without those that cannot be applied."""
    unapplied: dict[int, str] = {}
    while True:
        documents, at = documents_of(number_of(stream)), 0
        for entry in entries():
            # The time of a damaged entry counts too: the log's next entry must not get an older one.
            at = max(at, entry.at)
            if entry.position in skipped or entry.position in unapplied:
                continue
            try:
                envelope = decode_entry(stream, entry.position, entry.fields)
            except UnreadableEvent:
                unapplied[entry.position] = f"{stream}:{entry.position}"
                continue
            try:
                documents.apply(envelope)
            except (AssertionError, KeyError):
                # The event changed nothing, so the replay can continue: without its registration, all events of a device end here.
                unapplied[entry.position] = f"{stream}:{entry.position}"
            except Exception:  # noqa: BLE001 - it may have applied half of the event: replay again without it
                unapplied[entry.position] = f"{stream}:{entry.position}"
                break
        else:
            heads = {subject: documents.head(subject) for subject in documents.subjects()}
            stored_heads = {subject: b"%d:%d" % (head.version, head.generation) for subject, head in heads.items()}
            return ReplayedStream(encoded(documents), stored_heads, tuple(unapplied.values()), at)


class DamagedDocument(msgspec.Struct, frozen=True):
    """A subject whose stored document or head differs from its replayed events; empty bytes mean a missing value."""

    stream: int
    subject: str
    head: bytes
    expected_head: bytes
    document: bytes
    expected_document: bytes

    @property
    def location(self) -> str:
        """The stream and the subject, for messages."""
        return f"{name(self.stream)} {self.subject}"


def damaged_documents(log: RedisLog, stream: int) -> Iterator[DamagedDocument]:
    """Yields the damaged documents and heads of one stream.

    Raises:
        LogError: the history cannot be read.
    """
    streams, stream_name = RawStreams(log.client), name(stream)
    head = streams.head(stream_name)
    fleet = FleetEventReader(log)
    fleet.refresh()
    replayed = replay_stream(stream_name, lambda: streams.entries(stream_name, upto=head), fleet.skipped(stream))
    stored_heads, stored = _stored(log, stream, "heads"), _stored(log, stream, "snapshots")
    for subject in sorted(replayed.heads.keys() | replayed.documents.keys() | stored.keys()):
        expected_head, expected = replayed.heads.get(subject, b""), replayed.documents.get(subject, b"")
        stored_head, document = stored_heads.get(subject, b""), stored.get(subject, b"")
        # A higher version is from an event after the replay, not damage.
        if (stored_head, document) == (expected_head, expected) or _version(stored_head) > _version(expected_head):
            continue
        yield DamagedDocument(stream, subject, stored_head, expected_head, document, expected)


def repair(log: RedisLog, damaged: DamagedDocument) -> bool:
    """Store the replayed document and head; returns false if the subject was written to since the replay."""
    keys = (key(damaged.stream, "heads"), key(damaged.stream, "snapshots"))
    arguments = (damaged.subject, damaged.head, damaged.expected_head, damaged.document, damaged.expected_document)
    with answering():
        return bool(log.client.eval(_REPAIR, len(keys), *keys, *cast("tuple[str, ...]", arguments)))


def _stored(log: RedisLog, stream: int, what: str) -> Mapping[str, bytes]:
    with answering():
        members = hash_fields(log.client, key(stream, what))
        return {field.decode(): value for field, value in members}


def _version(head: bytes) -> int:
    digits = head.partition(b":")[0]
    return int(digits) if digits.isdigit() else 0
