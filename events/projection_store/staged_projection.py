"""What is rebuilt of a partition, beside its projections in the same slot, until one script puts it in their place."""

import enum
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

from events import canonical
from events.log.connect import Client, answering
from events.log.keys import key
from events.projection_store.redis import ASSIGNMENT_CHANGES, Script, hash_arguments, projection_key
from events.stored_projection.stored_partition import ARRAYS, HASHES, Checkpoint, Writes

_CALL_BYTES = 1 << 18
"""What one script writes: others wait for it no longer than for a commit."""


class RebuildSuperseded(Exception):
    """Another rebuilding of the partition has begun since; that one goes on, and this one ends without a trace."""

    def __init__(self, partition: int) -> None:
        super().__init__(f"another rebuilding of partition {partition} has begun meanwhile; it goes on, this one ends")
        self.partition = partition


class Switch(enum.Enum):
    """What came of putting the rebuilt in place: done, or the projections had moved on meanwhile."""

    SWITCHED = "switched"
    MOVED = "moved"


class Staging:
    """One rebuilding of one partition. Whatever an earlier one left behind goes when the next begins."""

    def __init__(self, client: Client, partition: int) -> None:
        self._client, self._partition = client, partition
        self._stage, self._switch = Script("write.lua", "stage.lua"), Script("switch.lua")
        self._counter = key(partition, "rebuild")
        begin = Script("begin.lua")
        self._number = 0
        while not self._number:
            with answering():
                newest = int(cast("bytes | None", client.get(self._counter)) or 0)
                # Only the newest writes, and each clears, as it begins, what the one before it wrote: nothing older can be left.
                earlier = [self._key(what, newest) for what in (*HASHES, *ARRAYS)]
                self._number = int(begin.run(client, [self._counter, *earlier], [str(newest)]))

    def _key(self, what: str, number: int | None = None) -> str:
        return key(self._partition, f"rebuild:{self._number if number is None else number}:{what}")

    def write(self, writes: Writes) -> None:
        """Write what changed since the last call, beside the projections.

        Raises:
            RebuildSuperseded: another one has begun.
            LogUnavailable: Redis did not answer.
        """
        keys: list[str] = []
        arguments: list[Any] = []
        size = 0
        for what, bytes_written, arguments_of in _parts(writes):
            if self._key(what) not in keys:
                keys.append(self._key(what))
            # The script's first key is the counter.
            arguments += arguments_of(keys.index(self._key(what)) + 2)
            size += bytes_written
            if size >= _CALL_BYTES:
                self._write(keys, arguments)
                keys, arguments, size = [], [], 0
        if keys:
            self._write(keys, arguments)

    def _write(self, keys: list[str], arguments: list[Any]) -> None:
        with answering():
            stood = self._stage.run(self._client, [self._counter, *keys], [str(self._number), *arguments])
        if not stood:
            raise RebuildSuperseded(self._partition)

    def switch(self, seen: bytes, *, assignment_changes: int, checkpoint: Checkpoint) -> Switch:
        """Put what was written in place of the projections, if their checkpoint is still the one seen, and no assignment change is newer.

        Raises:
            RebuildSuperseded: another one has begun.
            LogUnavailable: Redis did not answer; it may or may not be done.
        """
        keys = [self._counter, projection_key(self._partition, "checkpoint"), key(self._partition, ASSIGNMENT_CHANGES)]
        for what in (*HASHES, *ARRAYS):
            keys += [projection_key(self._partition, what), self._key(what)]
        arguments = [str(self._number), seen, assignment_changes, canonical.encode(checkpoint)]
        with answering():
            answer = self._switch.run(self._client, keys, arguments)
        if answer == b"superseded":
            raise RebuildSuperseded(self._partition)
        return Switch(answer.decode())

    def seen(self) -> bytes:
        """The checkpoint of the projections as it stands now, byte for byte; empty where there is none."""
        with answering():
            data: Any = self._client.get(projection_key(self._partition, "checkpoint"))
        return data or b""


_Arguments = Callable[[int], list[Any]]
"""What the script is given to write a part, by the number of its key."""


def _parts(writes: Writes) -> Iterator[tuple[str, int, _Arguments]]:
    """Hash or array, bytes, and arguments of every part of some writes, none much larger than one call."""
    for name, fields in writes.hashes.items():
        some: dict[str, bytes | None] = {}
        size = 0
        for field, data in fields.items():
            some[field] = data
            size += len(field) + len(data or b"")
            if size >= _CALL_BYTES:
                yield name, size, partial(_hash_part, some)
                some, size = {}, 0
        if some:
            yield name, size, partial(_hash_part, some)
    for name, ranges in writes.arrays.items():
        for offset, data in ranges:
            for start in range(0, len(data), _CALL_BYTES):
                part = data[start : start + _CALL_BYTES]
                yield name, len(part), partial(_array_part, offset + start, part)


def _hash_part(fields: dict[str, bytes | None], key_index: int) -> list[Any]:
    return list(hash_arguments(key_index, fields))


def _array_part(offset: int, data: bytes, key_index: int) -> list[Any]:
    return [key_index, "R", offset, data]
