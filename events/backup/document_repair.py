"""Documents and heads beside the log, replayed from their events: for a restore, and to repair those that differ."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import cast

import msgspec

from events.log.codec import decode_entry
from events.log.connect import answering
from events.log.documents import documents_of
from events.log.entries import RawEntry, number_of
from events.log.errors import UnreadableEvent
from events.log.fleet_events import FleetEventReader
from events.log.keys import key, name
from events.log.port import Stored
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.log.subject_record import decode_record, encode_record, has_document
from events.redis_cluster import hash_fields

# Writes only if the subject has no new event since the replay, and its stored value is still the damaged one.
_REPAIR = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
return 1
"""


class ReplayedStream(msgspec.Struct, frozen=True):
    """The head and document of each subject of a stream, and the time of its last entry in milliseconds.

    `unapplied` names the entries that cannot be applied, as in `p03:17`.
    """

    subjects: dict[str, Stored]
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
            subjects = {
                subject: Stored(documents.head(subject), documents.document(subject))
                for subject in (*documents.subjects(), *documents.documented())
            }
            return ReplayedStream(subjects, tuple(unapplied.values()), at)


class DamagedDocument(msgspec.Struct, frozen=True):
    """A subject whose stored head or document differs from its replayed events.

    `record` is the value in Redis that `stored` was read from; empty if there is none.
    """

    stream: int
    subject: str
    record: bytes
    stored: Stored
    expected: Stored

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
    records = _records(log, stream)
    documented = (subject for subject, record in records.items() if has_document(record))
    for subject in sorted({*replayed.subjects, *documented}):
        record, expected = records.get(subject, b""), replayed.subjects.get(subject, Stored())
        stored = decode_record(record or None)
        # A higher version is from an event after the replay, not damage.
        if stored == expected or stored.head.version > expected.head.version:
            continue
        yield DamagedDocument(stream, subject, record, stored, expected)


def repair(log: RedisLog, damaged: DamagedDocument) -> bool:
    """Store the replayed document and head; returns false if the subject was written to since the replay."""
    expected = damaged.expected
    record = b"" if expected == Stored() else encode_record(damaged.stream, expected.head, expected.snapshot)
    with answering():
        arguments = cast("tuple[str, ...]", (damaged.subject, damaged.record, record))
        return bool(log.client.eval(_REPAIR, 1, key(damaged.stream, "subjects"), *arguments))


def _records(log: RedisLog, stream: int) -> Mapping[str, bytes]:
    with answering():
        members = hash_fields(log.client, key(stream, "subjects"))
        return {field.decode(): value for field, value in members}
