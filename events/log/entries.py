"""Raw entries of all streams: the names of streams, the bytes of entries, and the hash chain over them."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import cast

import msgspec
from redis.cluster import RedisCluster

from events.log.connect import Client, answering, entries_of, position_of
from events.log.errors import LogLostItsTail
from events.log.exchange import Exchange
from events.log.keys import FLEET, key, name

_ASSIGNMENT_CHANGES = "assignments"
_SIZES = tuple(size.to_bytes(4, "big") for size in range(1024))


class RawEntry(msgspec.Struct, frozen=True):
    """One entry of a stream: its position, and its fields as stored, in order."""

    position: int
    fields: dict[bytes, bytes]

    @property
    def at(self) -> int:
        """Its time in milliseconds; 0 if the field is missing or not a number."""
        at = self.fields.get(b"at", b"")
        return int(at) if at.isdigit() else 0


def stream_names(partitions: int) -> tuple[str, ...]:
    """The names of all streams of a log: `fleet`, then `p00` and on, then `p00:assignments` and on."""
    numbers = range(partitions)
    return (
        name(FLEET),
        *(name(number) for number in numbers),
        *(f"{name(number)}:{_ASSIGNMENT_CHANGES}" for number in numbers),
    )


def key_of(stream: str) -> str:
    """`p03` -> `{p03}:log`, `p03:assignments` -> `{p03}:assignments`."""
    slot, colon, what = stream.partition(":")
    return key(number_of(slot), what if colon else "log")


def number_of(stream: str) -> int:
    """`p03` and `p03:assignments` -> 3, `fleet` -> -1.

    Raises:
        ValueError: the name is not that of a stream.
    """
    slot, colon, what = stream.partition(":")
    if slot == name(FLEET) and not colon:
        return FLEET
    if slot[:1] == "p" and slot.isascii() and slot[1:].isdecimal() and (not colon or what == _ASSIGNMENT_CHANGES):
        return int(slot[1:])
    raise ValueError(f"a stream is called fleet, p03 or p03:assignments, not {stream!r}")


def genesis(epoch: str, stream: str) -> bytes:
    """The first value of a stream's chain, before its first entry: 32 bytes."""
    # With the epoch: an entry of another log, or of another stream, never fits into this chain.
    return hashlib.sha256(_framed([b"twinfold", epoch.encode(), stream.encode()])).digest()


def entry_bytes(stream: str, entry: RawEntry) -> bytes:
    """The bytes of an entry that its digest covers: every part after its length (4 bytes, big-endian)."""
    # Without lengths, moving a byte from one field to the next would not change the digest.
    return _framed(chain((stream.encode(), b"%d" % entry.position), *entry.fields.items()))


def digest(stream: str, entry: RawEntry) -> bytes:
    """SHA-256 of an entry."""
    return hashlib.sha256(entry_bytes(stream, entry)).digest()


def link(previous: bytes, entry_digest: bytes) -> bytes:
    """The chain's value after an entry, from its value before the entry."""
    return hashlib.sha256(previous + entry_digest).digest()


def _framed(parts: Iterator[bytes] | list[bytes]) -> bytes:
    framed: list[bytes] = []
    for part in parts:
        size = len(part)
        # A table is twice as fast as `to_bytes` each time, and sealing and verifying do little else.
        framed.append(_SIZES[size] if size < len(_SIZES) else size.to_bytes(4, "big"))
        framed.append(part)
    return b"".join(framed)


def in_stream(client: Client, stream: str, *, after: int, limit: int) -> list[RawEntry]:
    """As `fields_in_stream`, with names to the values."""
    first, entries = fields_in_stream(client, stream, after=after, limit=limit)
    return [RawEntry(position, fields_of(words)) for position, words in enumerate(entries, first)]


def fields_in_stream(client: Client, stream: str, *, after: int, limit: int) -> tuple[int, list[list[bytes]]]:
    """At most `limit` entries that are in Redis from position after + 1 on: the first position, and the fields of each entry.

    The fields are as Redis answers them, a name and its value in turn. The first position may be later than after + 1, if
    entries before it are only in the archive. After it there is no gap. Without an entry it is 0.

    Raises:
        LogLostItsTail: a position is missing.
        LogUnavailable: Redis does not answer.
    """
    with answering():
        stored = _range(client, key_of(stream), f"{after + 1}-0", limit)
    if not stored:
        return 0, []
    first = position_of(stored[0][0])
    # Ids rise. If all end in -0, the last one tells whether one is missing; parsing each id takes a tenth of a read's time.
    foreign = [entry_id for entry_id, _ in stored if entry_id[-2:] != b"-0"]
    if foreign or position_of(stored[-1][0]) != first + len(stored) - 1:
        for expected, (entry_id, _) in enumerate(stored, first):
            if (actual := position_of(entry_id)) != expected:
                raise LogLostItsTail(stream, expected=expected, actual=actual)
    return first, [words for _, words in stored]


def fields_of(words: Sequence[bytes]) -> dict[bytes, bytes]:
    """The fields of an entry from their names and values, one after the other."""
    return dict(zip(words[::2], words[1::2], strict=True))


def _range(client: Client, stream_key: str, start: str, limit: int) -> list[tuple[bytes, list[bytes]]]:
    if isinstance(client, RedisCluster):
        entries = entries_of(client.xrange(stream_key, min=start, count=limit))
        return [(entry_id, [word for field in fields.items() for word in field]) for entry_id, fields in entries]
    # Not by `xrange`, which makes a dictionary of each entry. Events are decoded without one, in 60 % of the time.
    (answer,) = Exchange(client, [[("XRANGE", stream_key, start, "+", "COUNT", limit)]]).answers()
    return cast("list[tuple[bytes, list[bytes]]]", answer)
