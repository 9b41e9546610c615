"""What Redis has of the subjects of a stream: read, altered and damaged by tests."""

from typing import Any

from events.log.keys import key
from events.log.port import Head, Stored
from events.log.subject_record import decode_record, encode_record


def subjects_in(client: Any, stream: int) -> dict[str, Stored]:
    """Head and document of each subject of a stream."""
    records = client.hgetall(key(stream, "subjects"))
    return {subject.decode(): decode_record(record) for subject, record in records.items()}


def store(client: Any, stream: int, subject: str, head: Head | None = None, document: bytes | None = None) -> None:
    """Replace the head, the document, or both of a subject in Redis."""
    stored = decode_record(client.hget(key(stream, "subjects"), subject))
    record = encode_record(stream, head or stored.head, document or stored.snapshot)
    client.hset(key(stream, "subjects"), subject, record)
