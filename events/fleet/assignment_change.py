"""Assignment changes: the devices that a commit moved from one assignment to another. They are part of the log."""

import base64

import msgspec
from pyroaring import BitMap

from events.bitmaps import from_bytes, to_bytes
from events.envelope import Vector
from events.fleet.assignments import Assignment


class AssignmentMove(msgspec.Struct, frozen=True):
    """Devices of one partition that moved from one assignment to another. `devices`: base64 of the set of their ordinals."""

    before: Assignment
    after: Assignment
    count: int
    devices: str

    @classmethod
    def of(cls, before: Assignment, after: Assignment, members: BitMap) -> "AssignmentMove":
        """The move of `members`."""
        return cls(before, after, len(members), base64.b64encode(to_bytes(members)).decode())

    def ordinals(self) -> BitMap:
        """The devices that moved."""
        return from_bytes(base64.b64decode(self.devices))


class AssignmentChange(msgspec.Struct, frozen=True, tag="AssignmentChange"):
    """The assignments of a partition changed at `after`; the last change before was at `before`.

    `moves` are in the order of their lowest ordinal.
    """

    # `before` is the vector of the last assignment change and not of the last commit: a replay must find the same bytes, however
    # often the worker committed in between (docs/decisions/0012).
    partition: int
    before: Vector
    after: Vector
    moves: tuple[AssignmentMove, ...]

    def ordinals(self) -> BitMap:
        """The devices that the change moved."""
        return BitMap().union(*(move.ordinals() for move in self.moves))
