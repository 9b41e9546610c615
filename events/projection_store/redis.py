"""Projections in Redis: every key of a partition in its slot, committed by one script."""

from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any, cast

import msgspec
from redis.cluster import RedisCluster
from redis.exceptions import NoScriptError

from events import canonical
from events.log.codec import RECORDED
from events.log.connect import Client, answering
from events.log.entries import RawEntry
from events.log.keys import key, name
from events.log.raw import RawStreams
from events.projection_store.archived_assignments import stored_key, stored_of
from events.projection_store.port import Blocked, ProjectionSelection, StoredDevice
from events.stored_projection.stored_partition import (
    ARRAYS,
    HASHES,
    AssignmentEntry,
    Checkpoint,
    StoredPartition,
    Writes,
)

_FIELDS_MAX = 1000
"""Fields of one command in the script: Lua unpacks at most some 8,000 values."""

ASSIGNMENT_CHANGES = "assignments"
"""The stream of a partition's assignment changes."""
_DEVICE_KEYS = ("checkpoint", "ordinals", "assignment_of", "moved_by", "assignments", "configurations")
_AUTHOR = "system:project"


class Script:
    """A script of this room, sent by its digest; a server that has forgotten it is given the text."""

    def __init__(self, *parts: str) -> None:
        self._text = "".join(files("events.projection_store").joinpath(part).read_text() for part in parts)
        self._sha = ""

    def run(self, client: Client, keys: list[str], arguments: list[Any]) -> Any:
        """What the script answers."""
        if not self._sha:
            self._sha = str(client.script_load(self._text))
        try:
            return client.evalsha(self._sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return client.eval(self._text, len(keys), *keys, *arguments)


class RedisProjectionStore:
    """Projections beside the log they are applied from."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._streams = RawStreams(client)
        self._commit, self._device = Script("write.lua", "commit.lua"), Script("device.lua")

    def checkpoint(self, partition: int) -> Checkpoint:
        """How far a partition is kept; the initial one where nothing is."""
        with answering():
            return _checkpoint(cast("bytes | None", self._client.get(projection_key(partition, "checkpoint"))))

    def load(self, partition: int) -> StoredPartition:
        """Everything kept of a partition, as of one moment."""
        return self.read(partition, ProjectionSelection(hashes=HASHES, arrays=ARRAYS))

    def read(self, partition: int, wanted: ProjectionSelection) -> StoredPartition:
        """A part of what is kept of a partition, as of one moment."""
        (kept,) = self.read_each([partition], wanted)
        return kept

    def read_each(self, partitions: Sequence[int], wanted: ProjectionSelection) -> list[StoredPartition]:
        """The same part of several partitions, in one transaction where one server has them all."""
        if isinstance(self._client, RedisCluster):
            return [kept for partition in partitions for kept in self._read([partition], wanted)]
        return self._read(partitions, wanted)

    def _read(self, partitions: Sequence[int], wanted: ProjectionSelection) -> list[StoredPartition]:
        with answering():
            pipe = self._client.pipeline(transaction=True)
            for partition in partitions:
                _queue_read(pipe, partition, wanted)
            answers = iter(pipe.execute())
        return [_kept(answers, wanted) for _ in partitions]

    def field_names(self, partition: int, hash_name: str) -> Sequence[str]:
        """The fields that a hash of a partition has, in no particular order."""
        with answering():
            names = cast("list[bytes]", self._client.hkeys(projection_key(partition, hash_name)))
        return [one.decode() for one in names]

    def numbers(self, partition: int, ordinal: int, arrays: Sequence[str]) -> tuple[int, ...]:
        """One ordinal's number in each of some arrays, as of one moment; 0 where nothing is kept."""
        with answering():
            pipe = self._client.pipeline(transaction=True)
            for array_name in arrays:
                pipe.getrange(projection_key(partition, array_name), ordinal * 4, ordinal * 4 + 3)
            return tuple(int.from_bytes(data, "little") for data in pipe.execute())

    def device(self, partition: int, device_id: str) -> StoredDevice | None:
        """What is kept of one device, as of one moment; `None` where it is not known."""
        keys = [projection_key(partition, what) for what in _DEVICE_KEYS]
        keys += [key(partition, ASSIGNMENT_CHANGES), stored_key(partition)]
        keys += [projection_key(partition, "hand_written"), projection_key(partition, "delivered_of")]
        with answering():
            answer = self._device.run(self._client, keys, [device_id])
        if not answer:
            return None
        checkpoint, ordinal, assignment, assignment_change, configuration, kept, own, *numbers = answer
        at, cause = stored_of(kept) if kept else self._at_and_cause(partition, int(assignment_change))
        hand_written, delivered = map(int, numbers)
        return StoredDevice(
            _checkpoint(checkpoint),
            int(ordinal),
            assignment,
            configuration,
            int(assignment_change),
            at,
            cause,
            own,
            hand_written,
            delivered,
        )

    def assignment_change_at(self, partition: int, position: int) -> int | None:
        """The time of an assignment change in milliseconds."""
        with answering():
            kept = cast("bytes | None", self._client.hget(stored_key(partition), str(position)))
        if kept is not None:
            return stored_of(kept)[0]
        found = self.assignment_changes(partition, after=position - 1, limit=1)
        return found[0].at if found else None

    def _at_and_cause(self, partition: int, assignment_change: int) -> tuple[int, str]:
        """Of an assignment change that is neither in Redis nor kept there: projections that were rebuilt may name any that was archived."""
        found = self.assignment_changes(partition, after=assignment_change - 1, limit=1) if assignment_change else ()
        return (found[0].at, found[0].cause) if found else (0, "")

    def commit(self, partition: int, writes: Writes) -> bool:
        """Make all writes and the assignment change stand, or nothing."""
        initial = writes.expected == Checkpoint()
        keys = [projection_key(partition, "checkpoint"), key(partition, ASSIGNMENT_CHANGES)]
        arguments: list[Any] = [
            b"" if initial else canonical.encode(writes.expected),
            canonical.encode(writes.checkpoint),
        ]
        arguments += _assignment_change_arguments(partition, writes.assignment_change)
        for hash_name, fields in writes.hashes.items():
            keys.append(projection_key(partition, hash_name))
            arguments += hash_arguments(len(keys), fields)
        for array_name, ranges in writes.arrays.items():
            keys.append(projection_key(partition, array_name))
            for offset, data in ranges:
                arguments += [len(keys), "R", offset, data]
        with answering():
            return bool(self._commit.run(self._client, keys, arguments))

    def assignment_changes(self, partition: int, *, after: int, limit: int) -> Sequence[AssignmentEntry]:
        """Assignment changes at positions after + 1 and on, at most `limit`."""
        if limit <= 0:
            return []
        entries = self._streams.read(f"{name(partition)}:{ASSIGNMENT_CHANGES}", after=after, limit=limit)
        return [assignment_change_of(entry) for entry in entries]

    def blocked(self, partition: int) -> Blocked | None:
        """Where the partition is stopped, if it is."""
        with answering():
            data = self._client.get(projection_key(partition, "blocked"))
        return None if data is None else msgspec.json.decode(data, type=Blocked)

    def block(self, partition: int, blocked: Blocked | None) -> None:
        """Mark a partition as stopped, or as going on again."""
        with answering():
            if blocked is None:
                self._client.delete(projection_key(partition, "blocked"))
            else:
                self._client.set(projection_key(partition, "blocked"), canonical.encode(blocked))


def projection_key(partition: int, what: str) -> str:
    """The key of a hash or an array of a partition, of its checkpoint, or of where it is stopped."""
    return key(partition, f"projection:{what}")


def assignment_change_of(entry: RawEntry) -> AssignmentEntry:
    """The assignment change that an entry of a partition's assignment changes has.

    Raises:
        KeyError, ValueError: it has none.
    """
    fields = entry.fields
    recorded = fields.get(RECORDED)
    return AssignmentEntry(
        entry.position,
        int(fields[b"at"]),
        fields[b"cause"].decode(),
        fields[b"data"],
        None if recorded is None else int(recorded),
    )


def _checkpoint(data: bytes | None) -> Checkpoint:
    return Checkpoint() if data is None else msgspec.json.decode(data, type=Checkpoint)


def _queue_read(pipe: Any, partition: int, wanted: ProjectionSelection) -> None:
    pipe.get(projection_key(partition, "checkpoint"))
    for hash_name in wanted.hashes:
        pipe.hgetall(projection_key(partition, hash_name))
    for hash_name, fields in wanted.fields:
        if fields:
            pipe.hmget(projection_key(partition, hash_name), list(fields))
    for array_name in wanted.arrays:
        pipe.get(projection_key(partition, array_name))


def _kept(answers: Iterator[Any], wanted: ProjectionSelection) -> StoredPartition:
    """What was queued for one partition, from the answers in the same order."""
    checkpoint = _checkpoint(next(answers))
    hashes: dict[str, dict[str, bytes]] = {
        hash_name: {field.decode(): value for field, value in next(answers).items()} for hash_name in wanted.hashes
    }
    for hash_name, fields in wanted.fields:
        found = zip(fields, next(answers), strict=True) if fields else ()
        stored = hashes.setdefault(hash_name, {})
        stored.update({field: value for field, value in found if value is not None})
    return StoredPartition(checkpoint, hashes, {array_name: next(answers) or b"" for array_name in wanted.arrays})


def _assignment_change_arguments(partition: int, assignment_change: AssignmentEntry | None) -> list[Any]:
    if assignment_change is None:
        return [0]
    pairs: dict[str, Any] = {
        "type": "AssignmentChange",
        "subject": name(partition),
        "version": assignment_change.position,
        "at": assignment_change.at,
        "by": _AUTHOR,
        "cause": assignment_change.cause,
        "data": assignment_change.data,
    }
    if assignment_change.recorded is not None:
        # The last, where the script looks for it.
        pairs[RECORDED.decode()] = assignment_change.recorded
    flat = [item for pair in pairs.items() for item in pair]
    return [1 + len(flat), f"{assignment_change.position}-0", *flat]


def hash_arguments(key_index: int, fields: dict[str, bytes | None]) -> Iterator[Any]:
    """What a script is given to write some fields of a hash; those that are `None` go."""
    put = [(field, value) for field, value in fields.items() if value is not None]
    gone = [field for field, value in fields.items() if value is None]
    for start in range(0, len(put), _FIELDS_MAX):
        some = put[start : start + _FIELDS_MAX]
        yield from (key_index, "S", len(some))
        for pair in some:
            yield from pair
    for start in range(0, len(gone), _FIELDS_MAX):
        names = gone[start : start + _FIELDS_MAX]
        yield from (key_index, "D", len(names), *names)
