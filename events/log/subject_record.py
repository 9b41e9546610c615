"""The value of a subject in the hash `{pNN}:subjects`: its head, and its document if it has one.

    17:1                                    version and generation; no document
    17:1:1764536497000{"version":17,…}      a document as it is
    17:1:1764536497000<byte><data>          a compressed document (events/log/document_compression.py)

The time before a document replaces `AT_APPEND` in it: only append.lua knows the time, and cannot write into compressed data.
Documents from a replay have no `AT_APPEND`, and may have no time: `17:1:{…}`.
"""

# One hash for heads and documents: an entry of a hash costs 60 to 100 bytes beside its value, with a copy of the subject.

import re

from events.log.document_compression import compressed, decompressed
from events.log.keys import FLEET
from events.log.port import Head, Stored, with_time

COMPRESSED_FROM_BYTES = 384
"""Smaller documents of devices and modules are stored as they are.

To compress one takes 5 to 9 µs, a quarter of what a producer needs for a changed tag, and saves at most 300 bytes.
"""

_RECORD = re.compile(rb"(\d+):(\d+)(?::(\d*)(.+))?", re.DOTALL)


def encode_document(stream: int, document: bytes) -> bytes:
    """A document as it is stored in a stream's hash, without head and time."""
    # The fleet has few documents, all of which are read at once, so they stay readable in Redis.
    return document if stream == FLEET or len(document) < COMPRESSED_FROM_BYTES else compressed(document)


def encode_record(stream: int, head: Head, document: bytes | None) -> bytes:
    """The value of a subject whose document has no `AT_APPEND`; append.lua writes all others."""
    if document is None:
        return b"%d:%d" % (head.version, head.generation)
    return b"%d:%d:%b" % (head.version, head.generation, encode_document(stream, document))


def decode_record(record: bytes | None) -> Stored:
    """The head and the document of a subject; `Stored()` for `None`.

    A value of another form is a document that cannot be decoded, without a head.
    """
    if record is None:
        return Stored()
    match = _RECORD.fullmatch(record)
    if match is None:
        return Stored(snapshot=record)
    version, generation, at, stored = match.groups()
    if stored is None:
        return Stored(Head(int(version), int(generation)))
    return Stored(Head(int(version), int(generation)), _document(stored, at))


def decode_document(record: bytes | None) -> bytes | None:
    """The document of a subject, in the bytes of its canonical JSON."""
    return decode_record(record).snapshot


def has_document(record: bytes) -> bool:
    """Whether a subject has a document, without decompressing it."""
    match = _RECORD.fullmatch(record)
    return match is None or match.group(4) is not None


def _document(stored: bytes, at: bytes) -> bytes:
    document = decompressed(stored)
    return with_time(document, int(at)) if at else document
