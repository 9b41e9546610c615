"""Projections in memory, for tests: the same behaviour without a server."""

from collections import defaultdict
from collections.abc import Sequence

import msgspec
from typing_extensions import override

from events.projection_store.loaded_projections import LoadedProjections
from events.projection_store.port import Blocked
from events.stored_projection.stored_partition import AssignmentEntry, Checkpoint, Writes


class MemoryProjectionStore(LoadedProjections):
    """Projections of one process."""

    def __init__(self) -> None:
        self._checkpoints: dict[int, Checkpoint] = {}
        self._hashes: dict[int, dict[str, dict[str, bytes]]] = defaultdict(dict)
        self._arrays: dict[int, dict[str, bytearray]] = defaultdict(dict)
        self._assignment_changes: dict[int, list[AssignmentEntry]] = {}
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
        if writes.assignment_change is not None:
            self._append(partition, writes.assignment_change)
        self._checkpoints[partition] = writes.checkpoint
        return True

    def _append(self, partition: int, assignment_change: AssignmentEntry) -> None:
        entries = self._assignment_changes.setdefault(partition, [])
        if assignment_change.recorded is not None and entries:
            assignment_change = msgspec.structs.replace(
                assignment_change, recorded=max(assignment_change.recorded, entries[-1].effective_from)
            )
        entries.append(assignment_change)

    @override
    def assignment_changes(self, partition: int, *, after: int, limit: int) -> Sequence[AssignmentEntry]:
        """Assignment changes at positions after + 1 and on, at most `limit`."""
        return self._assignment_changes.get(partition, [])[after : after + limit]

    def blocked(self, partition: int) -> Blocked | None:
        """Where a partition is blocked, if it is."""
        return self._blocked.get(partition)

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
