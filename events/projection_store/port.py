"""The interface of a projection store."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from events.fleet.assignments import Assignment
from events.log.keys import name
from events.stored_projection.stored_partition import AssignmentEntry, Checkpoint, StoredPartition, Writes


class CheckpointDamaged(Exception):
    """The checkpoint of a partition cannot be decoded, so nothing is known of its projections."""

    def __init__(self, partition: int) -> None:
        super().__init__(
            f"the checkpoint of {name(partition)} is damaged; run `twinfold rebuild --partition {name(partition)}`"
        )
        self.partition = partition


class Blocked(msgspec.Struct, frozen=True):
    """A partition is blocked at a position of a stream, its own or the fleet's (-1), since `at` (milliseconds).

    At an event that cannot be applied it waits for an operator's decision. If the tail of a stream is lost there is nothing to
    decide (`decidable` is false), and the partition goes on when the events are restored.
    """

    stream: int
    position: int
    error: str
    at: int
    decidable: bool = True


Names = Sequence[str]
Fields = Sequence[tuple[str, Sequence[str]]]
"""Hashes, each with some of its fields."""


class StoredDevice(msgspec.Struct, frozen=True):
    """What is stored of one device.

    `assignment_change` is the position of the assignment change that gave `assignment`, with its time and cause; 0 if there is
    none. `configuration` and `own`, that of the device's own twin, are empty if it has none. `hand_written` counts how often
    desired properties of the device or its modules were written by hand. `delivered` is the field of `deliveries` with the
    versions that it has.
    """

    device_id: str
    checkpoint: Checkpoint
    ordinal: int
    assignment: Assignment
    configuration: bytes
    assignment_change: int
    at: int
    cause: str
    own: bytes = b""
    hand_written: int = 0
    delivered: int = 0

    @property
    def lacks_its_cause(self) -> bool:
        """Whether only the archive has the time and cause of its assignment change, and they were not read."""
        return self.assignment_change > 0 and not self.cause


class ProjectionStore(Protocol):
    """Stores every partition. Each read is atomic: it sees one state of its partition."""

    def checkpoint(self, partition: int) -> Checkpoint:
        """The checkpoint of a partition; the initial one if nothing is stored.

        Raises:
            CheckpointDamaged: as every read that includes the checkpoint.
        """
        ...

    def begin_checkpoints(self, partitions: Sequence[int]) -> Callable[[], list[Checkpoint]]:
        """Ask for the checkpoints of several partitions; the answer, which must be called once, waits for them.

        Asked before something else is, they cost no round trip of their own if one server has all partitions.
        """
        ...

    def load(self, partition: int) -> StoredPartition:
        """Everything stored of a partition."""
        ...

    def read(self, partition: int, *, hashes: Names = (), fields: Fields = (), arrays: Names = ()) -> StoredPartition:
        """Whole hashes, single fields of hashes, and whole arrays of a partition; missing fields are omitted."""
        ...

    def read_each(
        self, partitions: Sequence[int], *, hashes: Names = (), fields: Fields = (), arrays: Names = ()
    ) -> list[StoredPartition]:
        """The same part of several partitions, each as by `read`; one round trip if one server has all partitions."""
        ...

    def field_names(self, partitions: Sequence[int], hash_name: str) -> list[Sequence[str]]:
        """The fields of a hash of each of several partitions, in no particular order."""
        ...

    def numbers(self, partition: int, ordinal: int, arrays: Sequence[str]) -> tuple[int, ...]:
        """The number of an ordinal in each of the arrays; 0 if nothing is stored."""
        ...

    def device(self, partition: int, device_id: str) -> StoredDevice | None:
        """What is stored of a device; `None` if it is unknown."""
        ...

    def devices(self, devices: Sequence[tuple[int, str]]) -> list[StoredDevice | None]:
        """What is stored of several devices, by partition and id; they may lack the cause of their assignment change."""
        ...

    def commit(self, partition: int, writes: Writes) -> bool:
        """Commit all writes and the assignment change, or nothing; false if the checkpoint is no longer the expected one.

        The `recorded` time of the assignment change is raised to that of the one before it, if a clock went back.

        Raises:
            LogUnavailable: the store did not answer. The commit may or may not be done: load again.
        """
        ...

    def commit_each(self, writes_by_partition: Mapping[int, Writes]) -> set[int]:
        """Commit several partitions, each as by `commit`, in one round trip if one server has all; returns the committed ones.

        Raises:
            LogUnavailable: the store did not answer. Each commit may or may not be done: load again.
        """
        ...

    def states(self, partitions: Sequence[int]) -> dict[int, tuple[Checkpoint, Blocked | None]]:
        """The checkpoint of several partitions, and where each is blocked, if it is; in one round trip.

        A partition whose checkpoint is damaged has the initial one, and counts as blocked: the others can be read.
        """
        ...

    def assignment_changes(self, partition: int, *, after: int, limit: int) -> Sequence[AssignmentEntry]:
        """Assignment changes at positions after + 1 and on, at most `limit`."""
        ...

    def assignment_change_at(self, partition: int, position: int) -> int | None:
        """The time of an assignment change in milliseconds; `None` if it does not exist."""
        ...

    def blocked(self, partition: int) -> Blocked | None:
        """Where a partition is blocked, if it is."""
        ...

    def blocked_among(self, partitions: Sequence[int]) -> dict[int, Blocked]:
        """The blocked partitions among these, as by `blocked`; one round trip if one server has all partitions."""
        ...

    def block(self, partition: int, blocked: Blocked | None) -> None:
        """Mark a partition as blocked, or remove the mark with `None`."""
        ...


def read_fields(
    projections: ProjectionStore, partition: int, hash_name: str, fields: Sequence[str]
) -> dict[str, bytes]:
    """Fields of one hash of a partition; missing fields are omitted."""
    return projections.read(partition, fields=((hash_name, tuple(fields)),)).hashes[hash_name]
