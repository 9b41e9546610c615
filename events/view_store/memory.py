"""Views in memory, for tests: the same behaviour without a server."""

from collections.abc import Sequence

import msgspec

from events.view_store.port import DEVICE_ARRAYS, Blocked, DeviceKept, Selection
from events.views.kept import ARRAYS, HASHES, Checkpoint, Kept, OutcomeEntry, Writes


class MemoryViewStore:
    """Views of one process."""

    def __init__(self) -> None:
        self._checkpoints: dict[int, Checkpoint] = {}
        self._hashes: dict[tuple[int, str], dict[str, bytes]] = {}
        self._arrays: dict[tuple[int, str], bytearray] = {}
        self._outcomes: dict[int, list[OutcomeEntry]] = {}
        self._blocked: dict[int, Blocked] = {}

    def checkpoint(self, partition: int) -> Checkpoint:
        """How far a partition is kept; the initial one where nothing is."""
        return self._checkpoints.get(partition, Checkpoint())

    def load(self, partition: int) -> Kept:
        """Everything kept of a partition."""
        return self.read(partition, Selection(hashes=HASHES, arrays=ARRAYS))

    def read(self, partition: int, wanted: Selection) -> Kept:
        """A part of what is kept of a partition."""
        hashes = {name: dict(self._hashes.get((partition, name), {})) for name in wanted.hashes}
        for name, fields in wanted.fields:
            stored = self._hashes.get((partition, name), {})
            hashes.setdefault(name, {}).update({field: stored[field] for field in fields if field in stored})
        arrays = {name: bytes(self._arrays.get((partition, name), b"")) for name in wanted.arrays}
        return Kept(self.checkpoint(partition), hashes, arrays)

    def read_each(self, partitions: Sequence[int], wanted: Selection) -> list[Kept]:
        """The same part of several partitions."""
        return [self.read(partition, wanted) for partition in partitions]

    def field_names(self, partition: int, hash_name: str) -> Sequence[str]:
        """The fields that a hash of a partition has."""
        return list(self._hashes.get((partition, hash_name), {}))

    def numbers(self, partition: int, ordinal: int, arrays: Sequence[str]) -> tuple[int, ...]:
        """One ordinal's number in each of some arrays; 0 where nothing is kept."""
        kept = (self._arrays.get((partition, name), bytearray()) for name in arrays)
        return tuple(int.from_bytes(items[ordinal * 4 : ordinal * 4 + 4], "little") for items in kept)

    def device(self, partition: int, device_id: str) -> DeviceKept | None:
        """What is kept of one device, as of one moment; `None` where it is not known."""
        hashes = self.load(partition).hashes
        if device_id not in hashes["ordinals"]:
            return None
        ordinal = int(hashes["ordinals"][device_id])
        number, outcome, *numbers = self.numbers(partition, ordinal, DEVICE_ARRAYS)
        row = hashes["rows"].get(str(number), b"")
        found = msgspec.json.decode(row) if row else {}
        entries = self.outcomes(partition, after=outcome - 1, limit=1) if outcome else ()
        at, cause = (entries[0].at, entries[0].cause) if entries else (0, "")
        configuration = hashes["configurations"].get(found.get("configuration", ""), b"")
        own = hashes["configurations"].get(found.get("own", {}).get("configuration", ""), b"")
        return DeviceKept(self.checkpoint(partition), ordinal, row, configuration, outcome, at, cause, own, *numbers)

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

    def outcomes(self, partition: int, *, after: int, limit: int) -> Sequence[OutcomeEntry]:
        """Outcomes at positions after + 1 and on, at most `limit`."""
        return self._outcomes.get(partition, [])[after : after + limit]

    def outcome_at(self, partition: int, position: int) -> int | None:
        """The time of an outcome in milliseconds."""
        found = self.outcomes(partition, after=position - 1, limit=1)
        return found[0].at if found else None

    def blocked(self, partition: int) -> Blocked | None:
        """Where the partition is stopped, if it is."""
        return self._blocked.get(partition)

    def block(self, partition: int, blocked: Blocked | None) -> None:
        """Mark a partition as stopped, or as going on again."""
        if blocked is None:
            self._blocked.pop(partition, None)
        else:
            self._blocked[partition] = blocked
