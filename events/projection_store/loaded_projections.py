"""The reads of a projection store whose partitions are entirely in memory."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import msgspec

from events.projection_store.port import DEVICE_ARRAYS, ProjectionSelection, StoredDevice
from events.stored_projection.stored_partition import ARRAYS, HASHES, AssignmentEntry, Checkpoint, StoredPartition


class LoadedProjections(ABC):
    """The reading half of `ProjectionStore`, over the hashes and arrays of each partition."""

    @abstractmethod
    def checkpoint(self, partition: int) -> Checkpoint:
        """The checkpoint of a partition; the initial one if nothing is stored."""

    @abstractmethod
    def assignment_changes(self, partition: int, *, after: int, limit: int) -> Sequence[AssignmentEntry]:
        """Assignment changes at positions after + 1 and on, at most `limit`."""

    @abstractmethod
    def _hash(self, partition: int, name: str) -> Mapping[str, bytes]: ...

    @abstractmethod
    def _array(self, partition: int, name: str) -> bytes | bytearray: ...

    def load(self, partition: int) -> StoredPartition:
        """Everything stored of a partition."""
        return self.read(partition, ProjectionSelection(hashes=HASHES, arrays=ARRAYS))

    def read(self, partition: int, selection: ProjectionSelection) -> StoredPartition:
        """A part of a partition; missing fields are omitted."""
        hashes = {name: dict(self._hash(partition, name)) for name in selection.hashes}
        for name, fields in selection.fields:
            stored = self._hash(partition, name)
            hashes.setdefault(name, {}).update({field: stored[field] for field in fields if field in stored})
        arrays = {name: bytes(self._array(partition, name)) for name in selection.arrays}
        return StoredPartition(self.checkpoint(partition), hashes, arrays)

    def read_each(self, partitions: Sequence[int], selection: ProjectionSelection) -> list[StoredPartition]:
        """The same part of several partitions."""
        return [self.read(partition, selection) for partition in partitions]

    def field_names(self, partition: int, hash_name: str) -> Sequence[str]:
        """The fields of a hash of a partition."""
        return list(self._hash(partition, hash_name))

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
        number, assignment_change, *numbers = self.numbers(partition, ordinal, DEVICE_ARRAYS)
        stored_assignment = self._hash(partition, "assignments").get(str(number), b"")
        assignment = msgspec.json.decode(stored_assignment) if stored_assignment else {}
        entries = self.assignment_changes(partition, after=assignment_change - 1, limit=1) if assignment_change else ()
        at, cause = (entries[0].at, entries[0].cause) if entries else (0, "")
        configurations = self._hash(partition, "configurations")
        configuration = configurations.get(assignment.get("configuration", ""), b"")
        own = configurations.get(assignment.get("own", {}).get("configuration", ""), b"")
        return StoredDevice(
            self.checkpoint(partition),
            ordinal,
            stored_assignment,
            configuration,
            assignment_change,
            at,
            cause,
            own,
            *numbers,
        )

    def assignment_change_at(self, partition: int, position: int) -> int | None:
        """The time of an assignment change in milliseconds; `None` if it does not exist."""
        entries = self.assignment_changes(partition, after=position - 1, limit=1)
        return entries[0].at if entries else None
