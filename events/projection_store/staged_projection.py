"""The rebuilt projections of a partition: stored beside the live ones until one script replaces those."""

from collections.abc import Iterable, Iterator
from typing import Any, cast

from events import canonical
from events.log.connect import Client, answering
from events.log.keys import key, name
from events.projection_store.redis import ASSIGNMENT_CHANGES, hash_arguments, projection_key, range_arguments, script
from events.stored_projection.stored_partition import ARRAYS, HASHES, Checkpoint, Writes

_CALL_BYTES = 1 << 18
"""How much one call of a script writes. Redis runs nothing else meanwhile, so it must not take longer than a commit."""

_PARTS = (*HASHES, *ARRAYS)
_KEY_NUMBERS = {what: number for number, what in enumerate(_PARTS, start=2)}
"""The number of the key of each part; the scripts' first key is the counter."""


class RebuildSuperseded(Exception):
    """Another rebuild of the partition began; this one ends and leaves nothing behind."""

    def __init__(self, partition: int) -> None:
        super().__init__(f"another rebuild of {name(partition)} began meanwhile; it continues, this one ends")
        self.partition = partition


class StagedProjection:
    """One rebuild of one partition."""

    def __init__(self, client: Client, partition: int) -> None:
        self._client, self._partition = client, partition
        self._stage, self._switch = script(client, "write.lua", "stage.lua"), script(client, "switch.lua")
        self._counter = key(partition, "rebuild")
        begin = script(client, "begin.lua")
        self._number = 0
        while not self._number:
            with answering():
                newest = int(cast("bytes | None", client.get(self._counter)) or 0)
                # Only the newest rebuild can write, and each deletes at its start what the one before it wrote. So a killed
                # rebuild leaves nothing behind for long (decisions/0030).
                earlier = [self._key(what, newest) for what in _PARTS]
                self._number = int(begin([self._counter, *earlier], [str(newest)]))

    def _key(self, what: str, number: int | None = None) -> str:
        return key(self._partition, f"rebuild:{self._number if number is None else number}:{what}")

    def write(self, writes: Writes) -> None:
        """Write what changed since the last call, beside the live projections.

        Raises:
            RebuildSuperseded: another rebuild began.
            LogUnavailable: Redis did not answer.
        """
        arguments: list[Any] = []
        size = 0
        for part, bytes_written in _parts(writes):
            arguments += part
            size += bytes_written
            if size >= _CALL_BYTES:
                self._write(arguments)
                arguments, size = [], 0
        if arguments:
            self._write(arguments)

    def _write(self, arguments: list[Any]) -> None:
        with answering():
            is_newest = self._stage([self._counter, *map(self._key, _PARTS)], [str(self._number), *arguments])
        if not is_newest:
            raise RebuildSuperseded(self._partition)

    def switch(self, seen: bytes, *, assignment_changes: int, checkpoint: Checkpoint) -> bool:
        """Replace the live projections; false if their checkpoint is not `seen` any more, or an assignment change is newer.

        Raises:
            RebuildSuperseded: another rebuild began.
            LogUnavailable: Redis did not answer; the switch may or may not be done.
        """
        keys = [self._counter, projection_key(self._partition, "checkpoint"), key(self._partition, ASSIGNMENT_CHANGES)]
        for what in _PARTS:
            keys += [projection_key(self._partition, what), self._key(what)]
        arguments: list[Any] = [str(self._number), seen, assignment_changes, canonical.encode(checkpoint)]
        with answering():
            answer = self._switch(keys, arguments)
        if answer == b"superseded":
            raise RebuildSuperseded(self._partition)
        return bool(answer == b"switched")

    def seen(self) -> bytes:
        """The bytes of the live checkpoint; empty if there is none."""
        with answering():
            data: Any = self._client.get(projection_key(self._partition, "checkpoint"))
        return data or b""


def _parts(writes: Writes) -> Iterator[tuple[Iterable[Any], int]]:
    """The arguments of the script for every part of the writes, and their bytes; no part is much larger than one call."""
    for what, fields in writes.hashes.items():
        part_fields: dict[str, bytes | None] = {}
        size = 0
        for field, data in fields.items():
            part_fields[field] = data
            size += len(field) + len(data or b"")
            if size >= _CALL_BYTES:
                yield hash_arguments(_KEY_NUMBERS[what], part_fields), size
                part_fields, size = {}, 0
        yield hash_arguments(_KEY_NUMBERS[what], part_fields), size
    for what, ranges in writes.arrays.items():
        for offset, data in ranges:
            for start in range(0, len(data), _CALL_BYTES):
                part = data[start : start + _CALL_BYTES]
                yield range_arguments(_KEY_NUMBERS[what], offset + start, part), len(part)
