"""Documents and heads beside the log that are not what the events make of them, and putting them right."""

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

# Only while nothing has happened to the subject since its events were replayed, and what is there is what was seen.
_MEND = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
if (redis.call('HGET', KEYS[2], ARGV[1]) or '') ~= ARGV[4] then return 0 end
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
if ARGV[5] == '' then redis.call('HDEL', KEYS[2], ARGV[1]) else redis.call('HSET', KEYS[2], ARGV[1], ARGV[5]) end
return 1
"""


class Damaged(msgspec.Struct, frozen=True):
    """A subject whose document or head is not what its events give; empty bytes are *none*."""

    stream: int
    subject: str
    head: bytes
    wanted_head: bytes
    document: bytes
    wanted: bytes

    @property
    def location(self) -> str:
        """As people name it."""
        return f"{name(self.stream)} {self.subject}"


def damaged(log: RedisLog, stream: int) -> Iterator[Damaged]:
    """What differs in one stream; subjects that are written to at the moment are left for another look.

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
        wanted_head, wanted = replay.heads.get(subject, b""), documents.get(subject, b"")
        found_head, found = stored_heads.get(subject, b""), stored.get(subject, b"")
        if (found_head, found) == (wanted_head, wanted) or _version(found_head) > _version(wanted_head):
            continue
        yield Damaged(stream, subject, found_head, wanted_head, found, wanted)


def mend(log: RedisLog, one: Damaged) -> bool:
    """Put what the events give in its place; false where somebody has written to the subject meanwhile."""
    keys = (key(one.stream, "heads"), key(one.stream, "snapshots"))
    arguments = (one.subject, one.head, one.wanted_head, one.document, one.wanted)
    with answering():
        return bool(log.client.eval(_MEND, len(keys), *keys, *cast("tuple[str, ...]", arguments)))


def _stored(log: RedisLog, stream: int, what: str) -> Mapping[str, bytes]:
    with answering():
        found = log.client.hscan_iter(key(stream, what), count=_BATCH)
        return {field.decode(): value for field, value in found}


def _version(head: bytes) -> int:
    digits = head.partition(b":")[0]
    return int(digits) if digits.isdigit() else 0
