"""Reads of projections that a process has whole in memory."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import msgspec

from events.view_store.port import DEVICE_ARRAYS, DeviceKept, Selection
from events.views.kept import ARRAYS, HASHES, Checkpoint, Kept, OutcomeEntry


class WholeViews(ABC):
    """The reading half of `ViewStore`, over the hashes and arrays of each partition."""

    @abstractmethod
    def checkpoint(self, partition: int) -> Checkpoint:
        """How far a partition is; the initial one where nothing is stored."""

    @abstractmethod
    def outcomes(self, partition: int, *, after: int, limit: int) -> Sequence[OutcomeEntry]:
        """Outcomes at positions after + 1 and on, at most `limit`."""

    @abstractmethod
    def _hash(self, partition: int, name: str) -> Mapping[str, bytes]: ...

    @abstractmethod
    def _array(self, partition: int, name: str) -> bytes | bytearray: ...

    def load(self, partition: int) -> Kept:
        """Everything stored of a partition."""
        return self.read(partition, Selection(hashes=HASHES, arrays=ARRAYS))

    def read(self, partition: int, wanted: Selection) -> Kept:
        """A part of what is stored of a partition."""
        hashes = {name: dict(self._hash(partition, name)) for name in wanted.hashes}
        for name, fields in wanted.fields:
            stored = self._hash(partition, name)
            hashes.setdefault(name, {}).update({field: stored[field] for field in fields if field in stored})
        arrays = {name: bytes(self._array(partition, name)) for name in wanted.arrays}
        return Kept(self.checkpoint(partition), hashes, arrays)

    def read_each(self, partitions: Sequence[int], wanted: Selection) -> list[Kept]:
        """The same part of several partitions."""
        return [self.read(partition, wanted) for partition in partitions]

    def field_names(self, partition: int, hash_name: str) -> Sequence[str]:
        """The fields that a hash of a partition has."""
        return list(self._hash(partition, hash_name))

    def numbers(self, partition: int, ordinal: int, arrays: Sequence[str]) -> tuple[int, ...]:
        """One ordinal's number in each of some arrays; 0 where nothing is stored."""
        numbers = (self._array(partition, name)[ordinal * 4 : ordinal * 4 + 4] for name in arrays)
        return tuple(int.from_bytes(number, "little") for number in numbers)

    def device(self, partition: int, device_id: str) -> DeviceKept | None:
        """What is stored of one device; `None` where it is unknown."""
        stored_ordinal = self._hash(partition, "ordinals").get(device_id)
        if stored_ordinal is None:
            return None
        ordinal = int(stored_ordinal)
        number, outcome, *numbers = self.numbers(partition, ordinal, DEVICE_ARRAYS)
        row = self._hash(partition, "rows").get(str(number), b"")
        assignment = msgspec.json.decode(row) if row else {}
        entries = self.outcomes(partition, after=outcome - 1, limit=1) if outcome else ()
        at, cause = (entries[0].at, entries[0].cause) if entries else (0, "")
        configurations = self._hash(partition, "configurations")
        configuration = configurations.get(assignment.get("configuration", ""), b"")
        own = configurations.get(assignment.get("own", {}).get("configuration", ""), b"")
        return DeviceKept(self.checkpoint(partition), ordinal, row, configuration, outcome, at, cause, own, *numbers)

    def outcome_at(self, partition: int, position: int) -> int | None:
        """The time of an outcome in milliseconds; `None` where there is none of that position."""
        entries = self.outcomes(partition, after=position - 1, limit=1)
        return entries[0].at if entries else None
