"""Views in memory, for tests: the same behaviour without a server."""

from collections.abc import Sequence

import msgspec
from typing_extensions import override

from events.view_store.port import Blocked
from events.view_store.whole import WholeViews
from events.views.kept import Checkpoint, OutcomeEntry, Writes


class MemoryViewStore(WholeViews):
    """Views of one process."""

    def __init__(self) -> None:
        self._checkpoints: dict[int, Checkpoint] = {}
        self._hashes: dict[tuple[int, str], dict[str, bytes]] = {}
        self._arrays: dict[tuple[int, str], bytearray] = {}
        self._outcomes: dict[int, list[OutcomeEntry]] = {}
        self._blocked: dict[int, Blocked] = {}

    @override
    def checkpoint(self, partition: int) -> Checkpoint:
        """How far a partition is kept; the initial one where nothing is."""
        return self._checkpoints.get(partition, Checkpoint())

    @override
    def _hash(self, partition: int, name: str) -> dict[str, bytes]:
        return self._hashes.get((partition, name), {})

    @override
    def _array(self, partition: int, name: str) -> bytes | bytearray:
        return self._arrays.get((partition, name), b"")

    def commit(self, partition: int, writes: Writes) -> bool:
        """Make all writes and the outcome stand, or nothing."""
        if self.checkpoint(partition) != writes.expected:
            return False
        for name, fields in writes.hashes.items():
            stored = self._hashes.setdefault((partition, name), {})
            for field, value in fields.items():
                if value is None:
                    stored.pop(field, None)
                else:
                    stored[field] = value
        for name, ranges in writes.arrays.items():
            items = self._arrays.setdefault((partition, name), bytearray())
            for offset, data in ranges:
                items.extend(bytes(max(0, offset + len(data) - len(items))))
                items[offset : offset + len(data)] = data
        if writes.outcome is not None:
            self._append(partition, writes.outcome)
        self._checkpoints[partition] = writes.checkpoint
        return True

    def _append(self, partition: int, outcome: OutcomeEntry) -> None:
        entries = self._outcomes.setdefault(partition, [])
        if outcome.recorded is not None and entries:
            outcome = msgspec.structs.replace(outcome, recorded=max(outcome.recorded, entries[-1].stands_from))
        entries.append(outcome)

    @override
    def outcomes(self, partition: int, *, after: int, limit: int) -> Sequence[OutcomeEntry]:
        """Outcomes at positions after + 1 and on, at most `limit`."""
        return self._outcomes.get(partition, [])[after : after + limit]

    def blocked(self, partition: int) -> Blocked | None:
        """Where the partition is stopped, if it is."""
        return self._blocked.get(partition)

    def block(self, partition: int, blocked: Blocked | None) -> None:
        """Mark a partition as stopped, or as going on again."""
        if blocked is None:
            self._blocked.pop(partition, None)
        else:
            self._blocked[partition] = blocked
