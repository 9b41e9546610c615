"""What a commit decided: which devices went from which assignment to which. Assignment changes are part of the log."""

import base64

import msgspec
from pyroaring import BitMap

from events.bitmaps import from_bytes, to_bytes
from events.envelope import Vector
from events.fleet.assignments import Assignment


class AssignmentMove(msgspec.Struct, frozen=True):
    """Devices of one partition that went from one assignment to another. `devices`: base64 of their ordinals' set."""

    before: Assignment
    after: Assignment
    count: int
    devices: str

    @classmethod
    def of(cls, before: Assignment, after: Assignment, members: BitMap) -> "AssignmentMove":
        """Note a move."""
        return cls(before, after, len(members), base64.b64encode(to_bytes(members)).decode())

    def ordinals(self) -> BitMap:
        """The devices that moved."""
        return from_bytes(base64.b64decode(self.devices))


class AssignmentChange(msgspec.Struct, frozen=True, tag="AssignmentChange"):
    """The assignments changed at `after`; since `before`, where the last assignment change left them, they were the same.

    `moves` are in the order of their lowest ordinal. Commits that change no assignment leave no trace here, so that where
    they fell does not matter to a replay.
    """

    partition: int
    before: Vector
    after: Vector
    moves: tuple[AssignmentMove, ...]

    def ordinals(self) -> BitMap:
        """The devices that it moved."""
        return BitMap().union(*(move.ordinals() for move in self.moves))
