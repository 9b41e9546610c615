"""Projections in memory: the reads of any store whose partitions are loaded, and a store of one process."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import UNSET
from typing_extensions import override

from events.fleet.assignments import NO_ASSIGNMENT, Assignment
from events.projection_store.port import Blocked, Fields, Names, StoredDevice
from events.stored_projection.stored_partition import (
    ARRAYS,
    HASHES,
    AssignmentEntry,
    Checkpoint,
    StoredPartition,
    Writes,
)


class LoadedProjections(ABC):
    """The reading half of `ProjectionStore`, over the hashes and arrays of each partition."""

    @abstractmethod
    def checkpoint(self, partition: int) -> Checkpoint:
        """The checkpoint of a partition; the initial one if nothing is stored."""

    def begin_checkpoints(self, partitions: Sequence[int]) -> Callable[[], list[Checkpoint]]:
        """The checkpoints of several partitions."""
        return lambda: list(map(self.checkpoint, partitions))

    @abstractmethod
    def assignment_changes(self, partition: int, *, after: int, limit: int) -> Sequence[AssignmentEntry]:
        """Assignment changes at positions after + 1 and on, at most `limit`."""

    @abstractmethod
    def _hash(self, partition: int, name: str) -> Mapping[str, bytes]: ...

    @abstractmethod
    def _array(self, partition: int, name: str) -> bytes | bytearray: ...

    def load(self, partition: int) -> StoredPartition:
        """Everything stored of a partition."""
        return self.read(partition, hashes=HASHES, arrays=ARRAYS)

    def read(self, partition: int, *, hashes: Names = (), fields: Fields = (), arrays: Names = ()) -> StoredPartition:
        """A part of a partition; missing fields are omitted."""
        stored_hashes = {name: dict(self._hash(partition, name)) for name in hashes}
        for name, names in fields:
            stored = self._hash(partition, name)
            stored_hashes.setdefault(name, {}).update({field: stored[field] for field in names if field in stored})
        stored_arrays = {name: bytes(self._array(partition, name)) for name in arrays}
        return StoredPartition(self.checkpoint(partition), stored_hashes, stored_arrays)

    def read_each(
        self, partitions: Sequence[int], *, hashes: Names = (), fields: Fields = (), arrays: Names = ()
    ) -> list[StoredPartition]:
        """The same part of several partitions."""
        return [self.read(partition, hashes=hashes, fields=fields, arrays=arrays) for partition in partitions]

    def field_names(self, partitions: Sequence[int], hash_name: str) -> list[Sequence[str]]:
        """The fields of a hash of each of several partitions."""
        return [list(self._hash(partition, hash_name)) for partition in partitions]

    def numbers(self, partition: int, ordinal: int, arrays: Sequence[str]) -> tuple[int, ...]:
        """The number of an ordinal in each of the arrays; 0 if nothing is stored."""
        numbers = (self._array(partition, name)[ordinal * 4 : ordinal * 4 + 4] for name in arrays)
        return tuple(int.from_bytes(number, "little") for number in numbers)

    def device(self, partition: int, device_id: str) -> StoredDevice | None:
        """What is stored of a device; `None` if it is unknown."""
        stored_ordinal = self._hash(partition, "ordinals").get(device_id)
        if stored_ordinal is None:
            return None
        ordinal = int(stored_ordinal)
        arrays = ("assignment_of", "moved_by", "hand_written", "delivered_of")
        number, assignment_change, *numbers = self.numbers(partition, ordinal, arrays)
        data = self._hash(partition, "assignments").get(str(number))
        assignment = NO_ASSIGNMENT if data is None else msgspec.json.decode(data, type=Assignment)
        entries = self.assignment_changes(partition, after=assignment_change - 1, limit=1) if assignment_change else ()
        at, cause = (entries[0].at, entries[0].cause) if entries else (0, "")
        configurations, checkpoint = self._hash(partition, "configurations"), self.checkpoint(partition)
        configuration = b"" if data is None else configurations.get(assignment.configuration, b"")
        own = configurations.get(assignment.own_part.configuration, b"") if assignment.own is not UNSET else b""
        return StoredDevice(
            device_id, checkpoint, ordinal, assignment, configuration, assignment_change, at, cause, own, *numbers
        )

    def devices(self, devices: Sequence[tuple[int, str]]) -> list[StoredDevice | None]:
        """What is stored of several devices, by partition and id."""
        return [self.device(partition, device_id) for partition, device_id in devices]

    def assignment_change_at(self, partition: int, position: int) -> int | None:
        """The time of an assignment change in milliseconds; `None` if it does not exist."""
        entries = self.assignment_changes(partition, after=position - 1, limit=1)
        return entries[0].at if entries else None


class MemoryProjectionStore(LoadedProjections):
    """Projections of one process."""

    def __init__(self) -> None:
        self._checkpoints: dict[int, Checkpoint] = {}
        self._hashes: dict[int, dict[str, dict[str, bytes]]] = defaultdict(dict)
        self._arrays: dict[int, dict[str, bytearray]] = defaultdict(dict)
        self._assignment_changes: dict[int, list[AssignmentEntry]] = defaultdict(list)
        self._blocked: dict[int, Blocked] = {}

    @override
    def checkpoint(self, partition: int) -> Checkpoint:
        """The checkpoint of a partition; the initial one if nothing is stored."""
        return self._checkpoints.get(partition, Checkpoint())

    @override
    def _hash(self, partition: int, name: str) -> dict[str, bytes]:
        return self._hashes[partition].get(name, {})

    @override
    def _array(self, partition: int, name: str) -> bytes | bytearray:
        return self._arrays[partition].get(name, b"")

    def commit(self, partition: int, writes: Writes) -> bool:
        """Commit all writes and the assignment change, or nothing."""
        if self.checkpoint(partition) != writes.expected:
            return False
        apply_writes(writes, self._hashes[partition], self._arrays[partition])
        entry, entries = writes.assignment_change, self._assignment_changes[partition]
        if entry is not None:
            if entry.recorded is not None and entries:
                recorded = max(entry.recorded, entries[-1].effective_from)
                entry = msgspec.structs.replace(entry, recorded=recorded)
            entries.append(entry)
        self._checkpoints[partition] = writes.checkpoint
        return True

    def commit_each(self, writes_by_partition: Mapping[int, Writes]) -> set[int]:
        """Commit several partitions, each as by `commit`; returns the committed ones."""
        return {partition for partition, writes in writes_by_partition.items() if self.commit(partition, writes)}

    def states(self, partitions: Sequence[int]) -> dict[int, tuple[Checkpoint, Blocked | None]]:
        """The checkpoint of several partitions, and where each is blocked, if it is."""
        return {partition: (self.checkpoint(partition), self.blocked(partition)) for partition in partitions}

    @override
    def assignment_changes(self, partition: int, *, after: int, limit: int) -> Sequence[AssignmentEntry]:
        """Assignment changes at positions after + 1 and on, at most `limit`."""
        return self._assignment_changes[partition][after : after + limit]

    def blocked(self, partition: int) -> Blocked | None:
        """Where a partition is blocked, if it is."""
        return self._blocked.get(partition)

    def blocked_among(self, partitions: Sequence[int]) -> dict[int, Blocked]:
        """The blocked partitions among these."""
        return {number: self._blocked[number] for number in partitions if number in self._blocked}

    def block(self, partition: int, blocked: Blocked | None) -> None:
        """Mark a partition as blocked, or remove the mark with `None`."""
        if blocked is None:
            self._blocked.pop(partition, None)
        else:
            self._blocked[partition] = blocked


def apply_writes(writes: Writes, hashes: dict[str, dict[str, bytes]], arrays: dict[str, bytearray]) -> None:
    """Apply the writes of a commit to the hashes and arrays of a partition."""
    for name, fields in writes.hashes.items():
        stored = hashes.setdefault(name, {})
        for field, value in fields.items():
            if value is None:
                stored.pop(field, None)
            else:
                stored[field] = value
    for name, ranges in writes.arrays.items():
        items = arrays.setdefault(name, bytearray())
        for offset, data in ranges:
            # As SETRANGE of Redis does: a gap is filled with zeros.
            items.extend(bytes(max(0, offset + len(data) - len(items))))
            items[offset : offset + len(data)] = data
