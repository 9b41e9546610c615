"""Entries of every stream of the log as they are stored: their names, their bytes, their chain."""

import hashlib
from collections.abc import Iterator
from itertools import chain

import msgspec

from events.log.connect import Client, answering, entries_of
from events.log.errors import LogLostItsTail
from events.log.keys import FLEET, key, name

_ASSIGNMENT_CHANGES = "assignments"


class RawEntry(msgspec.Struct, frozen=True):
    """One entry of a stream: its position, and its fields as they are stored, in their order."""

    position: int
    fields: dict[bytes, bytes]

    @property
    def at(self) -> int:
        """Its time in milliseconds; 0 where it has none that can be read."""
        at = self.fields.get(b"at", b"")
        return int(at) if at.isdigit() else 0


_SIZES = tuple(size.to_bytes(4, "big") for size in range(1024))


def stream_names(partitions: int) -> tuple[str, ...]:
    """Every stream of a log of so many partitions: `fleet`, `p00` and on, `p00:assignments` and on."""
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
        ValueError: no stream is called so.
    """
    slot, colon, what = stream.partition(":")
    if slot == name(FLEET) and not colon:
        return FLEET
    if slot[:1] == "p" and slot.isascii() and slot[1:].isdecimal() and (not colon or what == _ASSIGNMENT_CHANGES):
        return int(slot[1:])
    raise ValueError(f"a stream is called fleet, p03 or p03:assignments, not {stream!r}")


def genesis(epoch: str, stream: str) -> bytes:
    """What the chain of a stream begins with, before its first entry: 32 bytes."""
    return hashlib.sha256(_framed([b"twinfold", epoch.encode(), stream.encode()])).digest()


def entry_bytes(stream: str, entry: RawEntry) -> bytes:
    """The one byte form of an entry that digests are made of: every part with its length before it (4 bytes, big-endian)."""
    return _framed(chain((stream.encode(), b"%d" % entry.position), *entry.fields.items()))


def digest(stream: str, entry: RawEntry) -> bytes:
    """SHA-256 of an entry."""
    return hashlib.sha256(entry_bytes(stream, entry)).digest()


def link(previous: bytes, entry_digest: bytes) -> bytes:
    """The chain's value after an entry, from its value before."""
    return hashlib.sha256(previous + entry_digest).digest()


def _framed(parts: Iterator[bytes] | list[bytes]) -> bytes:
    framed: list[bytes] = []
    for part in parts:
        size = len(part)
        # Twice as fast as making the four bytes each time; sealing and verifying do little else.
        framed.append(_SIZES[size] if size < len(_SIZES) else size.to_bytes(4, "big"))
        framed.append(part)
    return b"".join(framed)


def in_stream(client: Client, stream: str, *, after: int, limit: int) -> list[RawEntry]:
    """Entries that are in Redis at positions after + 1 and on, at most `limit`; those that were archived are not.

    The first one may lie further on; behind it none is missing.

    Raises:
        LogLostItsTail: a position is missing.
        LogUnavailable: Redis does not answer.
    """
    with answering():
        entries = entries_of(client.xrange(key_of(stream), min=f"{after + 1}-0", count=limit))
    found: list[RawEntry] = []
    for entry_id, fields in entries:
        position = int(entry_id[: entry_id.index(b"-")])
        if found and position != found[-1].position + 1:
            raise LogLostItsTail(stream, expected=found[-1].position + 1, found=position)
        found.append(RawEntry(position, dict(fields)))
    return found
