"""Finding and repairing documents and heads beside the log that differ from the replayed events."""

from collections.abc import Iterator, Mapping
from typing import cast

import msgspec

from events.backup.stream_replay import StreamReplay
from events.log.connect import answering
from events.log.fleet_events import FleetEventReader
from events.log.keys import key, name
from events.log.raw import RawStreams
from events.log.redis import RedisLog

_BATCH = 1000

# Writes only if the subject has no new event since the replay, and its stored document is still the damaged one.
_REPAIR = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
if (redis.call('HGET', KEYS[2], ARGV[1]) or '') ~= ARGV[4] then return 0 end
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
if ARGV[5] == '' then redis.call('HDEL', KEYS[2], ARGV[1]) else redis.call('HSET', KEYS[2], ARGV[1], ARGV[5]) end
return 1
"""


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
    replay = StreamReplay(stream_name, lambda: streams.entries(stream_name, upto=head), fleet.skipped(stream))
    documents = replay.run()
    stored_heads, stored = _stored(log, stream, "heads"), _stored(log, stream, "snapshots")
    for subject in sorted(replay.heads.keys() | documents.keys() | stored.keys()):
        expected_head, expected = replay.heads.get(subject, b""), documents.get(subject, b"")
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
        members = log.client.hscan_iter(key(stream, what), count=_BATCH)
        return {field.decode(): value for field, value in members}


def _version(head: bytes) -> int:
    digits = head.partition(b":")[0]
    return int(digits) if digits.isdigit() else 0
