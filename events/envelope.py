"""The envelope of an event: its position, subject, version, time, author and cause."""

import enum
import hashlib
from typing import Any, Generic, TypeVar

import msgspec
from typing_extensions import override

F = TypeVar("F")


class PrincipalKind(enum.Enum):
    """The kinds of authors."""

    USER = "user"
    DEVICE = "device"
    PRODUCER = "producer"
    SYSTEM = "system"


class Principal(msgspec.Struct, frozen=True):
    """The author of an event; written `kind:id` in the log, as in `user:ada`."""

    kind: PrincipalKind
    id: str

    @override
    def __str__(self) -> str:
        return f"{self.kind.value}:{self.id}"

    @classmethod
    def parse(cls, text: str) -> "Principal":
        """Read `kind:id`.

        Raises:
            ValueError: no colon, an unknown kind, or an empty id.
        """
        kind, colon, identity = text.partition(":")
        if not colon or not identity:
            msg = f"a principal is written kind:id, not {text!r}"
            raise ValueError(msg)
        return cls(PrincipalKind(kind), identity)


class Vector(msgspec.Struct, frozen=True, order=True, array_like=True):
    """The last positions that a partition has applied, in its own stream and in the fleet's; 0 before the first event."""

    partition: int = 0
    fleet: int = 0

    def is_within(self, bound: "Vector") -> bool:
        """Whether both positions are at or before those of another vector; of two vectors, neither may be within the other."""
        return self.partition <= bound.partition and self.fleet <= bound.fleet


class Envelope(msgspec.Struct, Generic[F], frozen=True):
    """An event in the log.

    `position` counts the entries of its stream without gaps, from 1. `version` counts the events of `subject`, from 1. `at`
    is in milliseconds since 1970 UTC, and never smaller than that of the event before. `cause` is a command id or a position
    such as `fleet:17`; empty if nothing caused the event but its author.
    """

    position: int
    subject: str
    version: int
    at: int
    by: Principal
    cause: str
    event: F


def event_digest(envelope: Envelope[Any]) -> str:
    """16 hexadecimal digits that tell the event at a position from another one that took the position after a lost tail.

    They cover when, by whom, of what and why, and not the event itself, which a later version may encode otherwise.
    """
    members = f"{envelope.at} {envelope.by} {envelope.subject} {envelope.cause}"
    return hashlib.blake2b(members.encode(), digest_size=8).hexdigest()
