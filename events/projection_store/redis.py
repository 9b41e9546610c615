"""Projections in Redis: every key of a partition in its slot, committed by one script."""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, cast

import msgspec
from redis.cluster import RedisCluster
from redis.exceptions import NoScriptError

from events import canonical
from events.fleet.assignments import NO_ASSIGNMENT, Assignment
from events.log.codec import RECORDED
from events.log.connect import Client, answering
from events.log.entries import RawEntry
from events.log.exchange import Exchange
from events.log.keys import key, name
from events.log.raw import RawStreams
from events.log.script import Script
from events.projection_store.archived_assignments import stored_key, stored_of
from events.projection_store.port import Blocked, CheckpointDamaged, Fields, Names, StoredDevice
from events.stored_projection.stored_partition import (
    ARRAYS,
    HASHES,
    AssignmentEntry,
    Checkpoint,
    StoredPartition,
    Writes,
)

_FIELDS_MAX = 1000
"""How many fields one command of a script writes; Lua unpacks about 8,000 values at most."""

ASSIGNMENT_CHANGES = "assignments"
"""The stream of a partition's assignment changes."""
_AUTHOR = "system:project"


def script(client: Client, *parts: str) -> Script:
    """A Lua script of this package, run by its digest."""
    package = files("events.projection_store")
    return Script(client, "".join(package.joinpath(part).read_text() for part in parts))


class RedisProjectionStore:
    """Projections in the Redis of their log."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._streams = RawStreams(client)
        self._commit, self._device = script(client, "write.lua", "commit.lua"), script(client, "device.lua")

    def checkpoint(self, partition: int) -> Checkpoint:
        """The checkpoint of a partition; the initial one if nothing is stored."""
        with answering():
            return _checkpoint(
                partition, cast("bytes | None", self._client.get(projection_key(partition, "checkpoint")))
            )

    def begin_checkpoints(self, partitions: Sequence[int]) -> Callable[[], list[Checkpoint]]:
        """Ask for the checkpoints of several partitions; on a cluster they are read when the answer is called."""
        if isinstance(self._client, RedisCluster):
            return lambda: list(map(self.checkpoint, partitions))
        with answering():
            exchange = Exchange(
                self._client, [[("MGET", *(projection_key(number, "checkpoint") for number in partitions))]]
            )

        def checkpoints() -> list[Checkpoint]:
            with answering():
                (stored,) = exchange.answers()
            return list(map(_checkpoint, partitions, stored))

        return checkpoints

    def load(self, partition: int) -> StoredPartition:
        """Everything stored of a partition, in one transaction."""
        return self.read(partition, hashes=HASHES, arrays=ARRAYS)

    def read(self, partition: int, *, hashes: Names = (), fields: Fields = (), arrays: Names = ()) -> StoredPartition:
        """A part of a partition, in one transaction; missing fields are omitted."""
        (stored,) = self.read_each([partition], hashes=hashes, fields=fields, arrays=arrays)
        return stored

    def read_each(
        self, partitions: Sequence[int], *, hashes: Names = (), fields: Fields = (), arrays: Names = ()
    ) -> list[StoredPartition]:
        """The same part of several partitions, in one transaction if one server has all partitions."""
        # A transaction of a cluster is limited to one slot, and each partition has its own.
        if isinstance(self._client, RedisCluster) and len(partitions) != 1:
            return [self.read(partition, hashes=hashes, fields=fields, arrays=arrays) for partition in partitions]
        with answering():
            pipe: Any = self._client.pipeline(transaction=True)
            for partition in partitions:
                pipe.get(projection_key(partition, "checkpoint"))
                for hash_name in hashes:
                    pipe.hgetall(projection_key(partition, hash_name))
                for hash_name, names in fields:
                    if names:
                        pipe.hmget(projection_key(partition, hash_name), list(names))
                for array_name in arrays:
                    pipe.get(projection_key(partition, array_name))
            answers = iter(pipe.execute())
        return [_partition_of(partition, answers, hashes, fields, arrays) for partition in partitions]

    def field_names(self, partitions: Sequence[int], hash_name: str) -> list[Sequence[str]]:
        """The fields of a hash of each of several partitions, in no particular order; in one round trip."""
        with answering():
            # Not a transaction, so that a cluster can answer too.
            pipe: Any = self._client.pipeline(transaction=False)
            for partition in partitions:
                pipe.hkeys(projection_key(partition, hash_name))
            return [[field.decode() for field in names] for names in pipe.execute()]

    def numbers(self, partition: int, ordinal: int, arrays: Sequence[str]) -> tuple[int, ...]:
        """The number of an ordinal in each of the arrays, in one transaction; 0 if nothing is stored."""
        with answering():
            pipe = self._client.pipeline(transaction=True)
            for array_name in arrays:
                pipe.getrange(projection_key(partition, array_name), ordinal * 4, ordinal * 4 + 3)
            return tuple(int.from_bytes(data, "little") for data in pipe.execute())

    def device(self, partition: int, device_id: str) -> StoredDevice | None:
        """What is stored of a device, in one round trip; `None` if it is unknown."""
        with answering():
            answer = self._device(_device_keys(partition), [device_id])
        device = _device_of(partition, device_id, answer)
        if device is not None and device.lacks_its_cause:
            # Rebuilt projections can name an archived assignment change that was not the last change of any device when it was
            # archived, so that Redis keeps nothing of it.
            for entry in self.assignment_changes(partition, after=device.assignment_change - 1, limit=1):
                return msgspec.structs.replace(device, at=entry.at, cause=entry.cause)
        return device

    def devices(self, devices: Sequence[tuple[int, str]]) -> list[StoredDevice | None]:
        """What Redis has of several devices, by partition and id, in one round trip of a single server.

        They lack the cause of their assignment change if only the archive has it.
        """
        with answering():
            pipe: Any = self._client.pipeline(transaction=False)
            for partition, device_id in devices:
                keys = _device_keys(partition)
                pipe.evalsha(self._device.digest, len(keys), *keys, device_id)
            answers = pipe.execute()
        return [_device_of(*device, answer) for device, answer in zip(devices, answers, strict=True)]

    def assignment_change_at(self, partition: int, position: int) -> int | None:
        """The time of an assignment change in milliseconds."""
        with answering():
            archived = cast("bytes | None", self._client.hget(stored_key(partition), str(position)))
        if archived is not None:
            return stored_of(archived)[0]
        entries = self.assignment_changes(partition, after=position - 1, limit=1)
        return entries[0].at if entries else None

    def commit(self, partition: int, writes: Writes) -> bool:
        """Commit all writes and the assignment change, or nothing."""
        with answering():
            return bool(self._commit(*_commit_arguments(partition, writes)))

    def commit_each(self, writes_by_partition: Mapping[int, Writes]) -> set[int]:
        """Commit several partitions, each as by `commit`; returns the committed ones."""
        calls = [(number, *_commit_arguments(number, writes)) for number, writes in writes_by_partition.items()]
        answers: list[Any] = [NoScriptError()] * len(calls)
        with answering():
            if len(calls) > 1 and not isinstance(self._client, RedisCluster):
                pipe: Any = self._client.pipeline(transaction=False)
                for _, keys, arguments in calls:
                    pipe.evalsha(self._commit.digest, len(keys), *keys, *arguments)
                answers = pipe.execute(raise_on_error=False)
            for index, (_, keys, arguments) in enumerate(calls):
                # One partition, a cluster, or a server that has lost its scripts: `Script` sends it where it is missing.
                if isinstance(answers[index], NoScriptError):
                    answers[index] = self._commit(keys, arguments)
                elif isinstance(answers[index], Exception):
                    raise answers[index]
        return {number for (number, _, _), answer in zip(calls, answers, strict=True) if answer}

    def states(self, partitions: Sequence[int]) -> dict[int, tuple[Checkpoint, Blocked | None]]:
        """The checkpoint of several partitions, and where each is blocked, if it is; in one round trip.

        A partition whose checkpoint is damaged has the initial one, and counts as blocked.
        """
        with answering():
            # Not a transaction, so that a cluster can answer too.
            pipe: Any = self._client.pipeline(transaction=False)
            for partition in partitions:
                pipe.get(projection_key(partition, "checkpoint"))
                pipe.get(projection_key(partition, "blocked"))
            answers = pipe.execute()
        pairs = zip(answers[::2], answers[1::2], strict=True)
        return {
            partition: _state(partition, checkpoint, _blocked(blocked))
            for partition, (checkpoint, blocked) in zip(partitions, pairs, strict=True)
        }

    def assignment_changes(self, partition: int, *, after: int, limit: int) -> Sequence[AssignmentEntry]:
        """Assignment changes at positions after + 1 and on, at most `limit`."""
        if limit <= 0:
            return []
        entries = self._streams.read(f"{name(partition)}:{ASSIGNMENT_CHANGES}", after=after, limit=limit)
        return [assignment_change_of(entry) for entry in entries]

    def blocked(self, partition: int) -> Blocked | None:
        """Where a partition is blocked, if it is."""
        with answering():
            return _blocked(cast("bytes | None", self._client.get(projection_key(partition, "blocked"))))

    def blocked_among(self, partitions: Sequence[int]) -> dict[int, Blocked]:
        """The blocked partitions among these, in one round trip for each server."""
        with answering():
            pipe: Any = self._client.pipeline(transaction=False)
            for partition in partitions:
                pipe.get(projection_key(partition, "blocked"))
            marks = zip(partitions, map(_blocked, pipe.execute()), strict=True)
        return {partition: mark for partition, mark in marks if mark is not None}

    def block(self, partition: int, blocked: Blocked | None) -> None:
        """Mark a partition as blocked, or remove the mark with `None`."""
        with answering():
            if blocked is None:
                self._client.delete(projection_key(partition, "blocked"))
            else:
                self._client.set(projection_key(partition, "blocked"), canonical.encode(blocked))


def projection_key(partition: int, what: str) -> str:
    """The key of a hash or an array of a partition, of its `checkpoint`, or of its mark `blocked`."""
    return key(partition, f"projection:{what}")


def assignment_change_of(entry: RawEntry) -> AssignmentEntry:
    """The assignment change of an entry.

    Raises:
        KeyError, ValueError: the entry has none.
    """
    fields = entry.fields
    recorded = fields.get(RECORDED)
    recorded_at = None if recorded is None else int(recorded)
    return AssignmentEntry(entry.position, int(fields[b"at"]), fields[b"cause"].decode(), fields[b"data"], recorded_at)


@functools.cache
def _device_keys(partition: int) -> tuple[str, ...]:
    """The keys of device.lua."""
    parts = ("checkpoint", "ordinals", "assignment_of", "moved_by", "assignments", "configurations")
    keys = [projection_key(partition, what) for what in parts]
    keys += [key(partition, ASSIGNMENT_CHANGES), stored_key(partition)]
    return (*keys, projection_key(partition, "hand_written"), projection_key(partition, "delivered_of"))


def _device_of(partition: int, device_id: str, answer: Sequence[Any]) -> StoredDevice | None:
    """The device in an answer of device.lua."""
    if not answer:
        return None
    checkpoint, ordinal, assignment, assignment_change, configuration, archived, own, *numbers = answer
    at, cause = stored_of(archived) if archived else (0, "")
    return StoredDevice(
        device_id,
        _checkpoint(partition, checkpoint),
        int(ordinal),
        msgspec.json.decode(assignment, type=Assignment) if assignment else NO_ASSIGNMENT,
        configuration,
        int(assignment_change),
        at,
        cause,
        own,
        *map(int, numbers),
    )


def _checkpoint(partition: int, data: bytes | None) -> Checkpoint:
    try:
        return Checkpoint() if data is None else msgspec.json.decode(data, type=Checkpoint)
    except msgspec.DecodeError as error:
        raise CheckpointDamaged(partition) from error


def _state(partition: int, data: bytes | None, blocked: Blocked | None) -> tuple[Checkpoint, Blocked | None]:
    try:
        return _checkpoint(partition, data), blocked
    except CheckpointDamaged as error:
        return Checkpoint(), blocked or Blocked(partition, 0, str(error), 0, decidable=False)


def _blocked(data: bytes | None) -> Blocked | None:
    return None if data is None else msgspec.json.decode(data, type=Blocked)


def _partition_of(
    partition: int, answers: Iterator[Any], hashes: Names, fields: Fields, arrays: Names
) -> StoredPartition:
    """What was queued for one partition, from the answers in the same order."""
    checkpoint = _checkpoint(partition, next(answers))
    stored_hashes: dict[str, dict[str, bytes]] = {
        hash_name: {field.decode(): value for field, value in next(answers).items()} for hash_name in hashes
    }
    for hash_name, names in fields:
        pairs = zip(names, next(answers), strict=True) if names else ()
        stored = stored_hashes.setdefault(hash_name, {})
        stored.update({field: value for field, value in pairs if value is not None})
    return StoredPartition(checkpoint, stored_hashes, {array_name: next(answers) or b"" for array_name in arrays})


def _commit_arguments(partition: int, writes: Writes) -> tuple[list[str], list[Any]]:
    """The keys and arguments of commit.lua."""
    initial = writes.expected == Checkpoint()
    keys = [projection_key(partition, "checkpoint"), key(partition, ASSIGNMENT_CHANGES)]
    expected = b"" if initial else canonical.encode(writes.expected)
    arguments: list[Any] = [expected, canonical.encode(writes.checkpoint)]
    arguments += _assignment_change_arguments(partition, writes.assignment_change)
    for hash_name, fields in writes.hashes.items():
        keys.append(projection_key(partition, hash_name))
        arguments += hash_arguments(len(keys), fields)
    for array_name, ranges in writes.arrays.items():
        keys.append(projection_key(partition, array_name))
        for offset, data in ranges:
            arguments += range_arguments(len(keys), offset, data)
    return keys, arguments


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
        # It must be the last field: the script raises it if a clock went back (commit.lua).
        pairs[RECORDED.decode()] = assignment_change.recorded
    flat = [item for pair in pairs.items() for item in pair]
    return [1 + len(flat), f"{assignment_change.position}-0", *flat]


def range_arguments(key_index: int, offset: int, data: bytes) -> list[Any]:
    """The arguments of a script (write.lua) to write bytes of an array."""
    return [key_index, "R", offset, data]


def hash_arguments(key_index: int, fields: dict[str, bytes | None]) -> Iterator[Any]:
    """The arguments of a script (write.lua) to write fields of a hash; fields with `None` are deleted."""
    put = [(field, value) for field, value in fields.items() if value is not None]
    gone = [(field,) for field, value in fields.items() if value is None]
    items: list[tuple[Any, ...]]
    for kind, items in (("S", put), ("D", gone)):
        for start in range(0, len(items), _FIELDS_MAX):
            chunk = items[start : start + _FIELDS_MAX]
            yield from (key_index, kind, len(chunk))
            yield from itertools.chain.from_iterable(chunk)
