"""What is asked of whoever keeps the projections."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from events.stored_projection.stored_partition import AssignmentEntry, Checkpoint, StoredPartition, Writes


class Blocked(msgspec.Struct, frozen=True):
    """A partition stopped at a position of a stream, its own or the fleet's (-1), since `at` (milliseconds).

    At an event that cannot be applied it waits for an operator's decision; where the tail of a stream is lost there is nothing
    to decide (`decidable` is false), and it goes on when the events are restored.
    """

    stream: int
    position: int
    error: str
    at: int
    decidable: bool = True


class ProjectionSelection(msgspec.Struct, frozen=True):
    """What a reader wants of a partition: whole hashes, single fields of hashes, whole arrays, and single numbers."""

    hashes: tuple[str, ...] = ()
    fields: tuple[tuple[str, tuple[str, ...]], ...] = ()
    arrays: tuple[str, ...] = ()


class StoredDevice(msgspec.Struct, frozen=True):
    """What is kept of one device; `assignment` and `configuration` are empty where it never had one.

    `assignment_change` is the position of the assignment change that gave it, with its time and cause; 0 where there is none. `own` is the
    configuration of its own twin, empty as well where there is none. `hand_written` counts how often desired properties of it
    or of its modules were written by hand; `delivered` is the field of `deliveries` that says what it has.
    """

    checkpoint: Checkpoint
    ordinal: int
    assignment: bytes
    configuration: bytes
    assignment_change: int
    at: int
    cause: str
    own: bytes = b""
    hand_written: int = 0
    delivered: int = 0


DEVICE_ARRAYS = ("assignment_of", "moved_by", "hand_written", "delivered_of")
"""Where the numbers of a `StoredDevice` are kept."""


class ProjectionStore(Protocol):
    """One keeper of the stored form of every partition."""

    def checkpoint(self, partition: int) -> Checkpoint:
        """How far a partition is kept; the initial one where nothing is."""
        ...

    def load(self, partition: int) -> StoredPartition:
        """Everything kept of a partition, as of one moment."""
        ...

    def read(self, partition: int, wanted: ProjectionSelection) -> StoredPartition:
        """A part of what is kept of a partition, as of one moment; fields that are not there are left out."""
        ...

    def read_each(self, partitions: Sequence[int], wanted: ProjectionSelection) -> list[StoredPartition]:
        """The same part of several partitions, each as `read` answers it, in one round trip where one server has them all."""
        ...

    def field_names(self, partition: int, hash_name: str) -> Sequence[str]:
        """The fields that a hash of a partition has, in no particular order."""
        ...

    def numbers(self, partition: int, ordinal: int, arrays: Sequence[str]) -> tuple[int, ...]:
        """One ordinal's number in each of some arrays, as of one moment; 0 where nothing is kept."""
        ...

    def device(self, partition: int, device_id: str) -> StoredDevice | None:
        """What is kept of one device, as of one moment; `None` where it is not known."""
        ...

    def commit(self, partition: int, writes: Writes) -> bool:
        """Make all writes and the assignment change stand, or nothing: false when the checkpoint is no longer the expected one.

        The time at which the assignment change is `recorded` is raised to that of the one before it, if a clock went back.

        Raises:
            LogUnavailable: the store did not answer; the commit may or may not stand. Load again.
        """
        ...

    def assignment_changes(self, partition: int, *, after: int, limit: int) -> Sequence[AssignmentEntry]:
        """Assignment changes at positions after + 1 and on, at most `limit`."""
        ...

    def assignment_change_at(self, partition: int, position: int) -> int | None:
        """The time of an assignment change in milliseconds; `None` where there is no such assignment change."""
        ...

    def blocked(self, partition: int) -> Blocked | None:
        """Where the partition is stopped, if it is."""
        ...

    def block(self, partition: int, blocked: Blocked | None) -> None:
        """Mark a partition as stopped, or as going on again."""
        ...
