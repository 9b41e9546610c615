"""What every event carries besides its own data: where, when, by whom and why."""

import enum
from typing import Generic, TypeVar

import msgspec
from typing_extensions import override

F = TypeVar("F")


class PrincipalKind(enum.Enum):
    """Who can be behind an event."""

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
    """How far a partition has applied: a position in its own log and one in the fleet's. 0 is *nothing yet*."""

    partition: int = 0
    fleet: int = 0

    def is_within(self, bound: "Vector") -> bool:
        """Whether it lies at or before another in both parts; of two vectors, neither may be within the other."""
        return self.partition <= bound.partition and self.fleet <= bound.fleet


class Envelope(msgspec.Struct, Generic[F], frozen=True):
    """An event as it stands in the log.

    `position` is dense from 1 within its stream. `version` counts the events of `subject`, from 1. `at` is in
    milliseconds since 1970 UTC, never smaller than its predecessor's. `cause` names what led here (a command id, or
    a position such as `fleet:17`), empty when the author acted unprompted.
    """

    position: int
    subject: str
    version: int
    at: int
    by: Principal
    cause: str
    event: F
