"""Snapshots: stored forms of partitions in files outside Redis, at which a replay can begin. They are a cache."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import msgspec
import structlog

from events.envelope import Vector
from events.history.errors import SnapshotDamaged, SnapshotGone
from events.log.entries import digest
from events.log.errors import LogLostItsTail, ObjectStoreUnavailable, SegmentDamaged, SegmentMissing
from events.log.keys import FLEET, name
from events.log.object_store import ObjectStore
from events.log.raw import RawStreams
from events.stored_projection.stored_partition import Checkpoint, StoredPartition

_MAGIC = b"twinfold snapshot 3\n"
_NAME = re.compile(r"([0-9]{15})-([0-9]{15})\.zst", re.ASCII)

DENSITY = 32
"""A replay to a point in time applies at most a `DENSITY`-th of the events since, or the events between two snapshots."""

logger = structlog.get_logger()


_Packed = tuple[int, bytes]
"""The size of data in bytes, and the data, compressed."""


class _SnapshotFile(msgspec.Struct, frozen=True, array_like=True):
    """The content of a file: log and partition, the stored form, and the documents of devices and modules by subject.

    `entry_digests` are those of the last entries that it includes: of the partition, of the fleet, of the assignment changes.
    """

    epoch: str
    partition: int
    entry_digests: tuple[bytes, bytes, bytes]
    stored_partition: _Packed
    documents: _Packed


class Snapshot:
    """One partition at a vector."""

    def __init__(self, stored: StoredPartition, documents: _Packed) -> None:
        self.stored_partition, self._documents = stored, documents

    @cached_property
    def documents(self) -> Mapping[str, bytes]:
        """The documents of its devices and modules at that position, by subject; unpacked at the first use."""
        return msgspec.msgpack.decode(_unpacked(self._documents), type=dict[str, bytes])


class Snapshots:
    """The snapshots of one log in an object store, `snapshots/<epoch>/p03/<position>-<fleet>.zst`."""

    # A Redis that lost its newest events (a failover, an older file) goes on without them. A snapshot that was taken before
    # would keep the lost events for ever, so each use compares digests of its last entries with the log's (decisions/0029).

    def __init__(self, object_store: ObjectStore, entries: RawStreams, *, epoch: str) -> None:
        self._object_store, self._entries, self._epoch = object_store, entries, epoch

    def put(self, number: int, stored: StoredPartition, documents: dict[str, bytes]) -> str:
        """Write a partition's stored form with the documents at the same position; returns the file name.

        Raises:
            ObjectStoreUnavailable: the file cannot be written; no part of it is visible.
            LogLostItsTail: an entry whose digest it needs is missing: lost, or skipped and deleted.
            SegmentMissing, SegmentDamaged, LogUnavailable: such an entry cannot be read.
        """
        file = _SnapshotFile(
            self._epoch,
            number,
            self._entry_digests(number, stored.checkpoint),
            _packed(msgspec.msgpack.encode(stored)),
            _packed(msgspec.msgpack.encode(documents)),
        )
        body, file_name = msgspec.msgpack.encode(file), self._file_name(number, stored.checkpoint.vector)
        self._object_store.put(file_name, _MAGIC + hashlib.sha256(body).digest() + body)
        return file_name

    def listed(self, number: int) -> dict[Vector, str]:
        """The files of a partition's snapshots by vector, in order.

        Raises:
            ObjectStoreUnavailable: the object store does not answer.
        """
        snapshots = []
        for file_name in self._object_store.names(self._folder(number)):
            match = _NAME.fullmatch(file_name.rpartition("/")[2])
            if match is not None:
                snapshots.append((Vector(int(match[1]), int(match[2])), file_name))
        return dict(sorted(snapshots))

    def newest(self, number: int, upto: Vector, *, before: Vector | None = None) -> Snapshot | None:
        """The last undamaged snapshot at or before a vector, in both parts; `None` if there is none.

        With `before`, snapshots that include everything up to that vector are skipped: they include its decision. Damaged
        snapshots are logged and skipped.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        try:
            for vector, file_name in reversed(self.listed(number).items()):
                is_late = before is not None and before.is_within(vector)
                if vector.is_within(upto) and not is_late and (snapshot := self._good(number, file_name)) is not None:
                    return snapshot
        except ObjectStoreUnavailable as error:
            # Without snapshots a replay takes longer and gives the same result.
            logger.warning("snapshots cannot be read", why=str(error))
        return None

    def _good(self, number: int, file_name: str) -> Snapshot | None:
        try:
            return self.read(number, file_name)
        except SnapshotGone:
            return None
        except SnapshotDamaged as error:
            logger.warning("snapshot damaged", snapshot=file_name, why=error.why)
            return None

    def read(self, number: int, file_name: str) -> Snapshot:
        """The snapshot of a file.

        Raises:
            SnapshotGone: the file was deleted.
            SnapshotDamaged: the file is damaged, belongs to another log or partition, or has events that the log lost.
            ObjectStoreUnavailable, LogUnavailable: the object store or Redis does not answer.
        """
        data = self._object_store.get(file_name)
        if data is None:
            raise SnapshotGone(file_name)
        if not data.startswith(_MAGIC):
            raise SnapshotDamaged(file_name, "it is no snapshot of this version of twinfold")
        start = len(_MAGIC) + hashlib.sha256().digest_size
        body = data[start:]
        if hashlib.sha256(body).digest() != data[len(_MAGIC) : start]:
            raise SnapshotDamaged(file_name, "its SHA-256 digest does not match")
        try:
            file = msgspec.msgpack.decode(body, type=_SnapshotFile)
            if (file.epoch, file.partition) != (self._epoch, number):
                raise SnapshotDamaged(file_name, f"it belongs to {name(file.partition)} of the log {file.epoch}")
            stored = msgspec.msgpack.decode(_unpacked(file.stored_partition), type=StoredPartition)
        except (msgspec.DecodeError, ValueError, OSError) as error:
            raise SnapshotDamaged(file_name, str(error)) from error
        if file_name != self._file_name(number, stored.checkpoint.vector):
            raise SnapshotDamaged(file_name, "its vector does not match its name")
        try:
            entry_digests = self._entry_digests(number, stored.checkpoint)
        except (LogLostItsTail, SegmentMissing, SegmentDamaged) as error:
            raise SnapshotDamaged(file_name, f"it cannot be compared with the log: {error}") from error
        if entry_digests != file.entry_digests:
            raise SnapshotDamaged(file_name, "it has events or assignment changes that the log does not have")
        return Snapshot(stored, file.documents)

    def has(self, number: int, vector: Vector) -> bool:
        """Whether there is an undamaged snapshot of a partition at a vector.

        Raises:
            ObjectStoreUnavailable, LogUnavailable: the object store or Redis does not answer.
        """
        return self._good(number, self._file_name(number, vector)) is not None

    def thin(self, number: int) -> list[str]:
        """Delete the snapshots that are not needed because others are near enough; returns their file names.

        Raises:
            ObjectStoreUnavailable: the object store does not answer. Some may be deleted already; the next call continues.
        """
        listed = self.listed(number)
        files, positions = list(listed.values()), [vector.partition for vector in listed]
        names = [files[index] for index in dispensable(positions)]
        for file_name in names:
            self._object_store.delete(file_name)
        return names

    def _entry_digests(self, number: int, checkpoint: Checkpoint) -> tuple[bytes, bytes, bytes]:
        """The digests of the last entries that a checkpoint includes; empty at position 0."""

        def digest_at(stream: str, position: int) -> bytes:
            if not position:
                return b""
            entries = self._entries.read(stream, after=position - 1, limit=1)
            if not entries:
                raise LogLostItsTail(stream, expected=position, actual=position - 1)
            return digest(stream, entries[0])

        return (
            digest_at(name(number), checkpoint.vector.partition),
            digest_at(name(FLEET), checkpoint.vector.fleet),
            digest_at(f"{name(number)}:assignments", checkpoint.assignment_changes),
        )

    def _folder(self, number: int) -> str:
        return f"snapshots/{self._epoch}/{name(number)}"

    def _file_name(self, number: int, vector: Vector) -> str:
        return f"{self._folder(number)}/{vector.partition:015}-{vector.fleet:015}.zst"


def dispensable(positions: Sequence[int]) -> list[int]:
    """The indices of the snapshots that are not needed, of their rising positions; the newest is always needed.

    A snapshot is not needed if its two neighbours are no further apart than a `DENSITY`-th of the events since the later
    one. The beginning of the log counts as the neighbour of the first.
    """
    # The condition stays true for those that remain, as they only get older. About 2 * DENSITY snapshots remain for every time
    # that the log becomes e times as long.
    gone: list[int] = []
    before = 0
    for index, (position, following) in enumerate(pairwise(positions)):
        if (following - before) * DENSITY <= positions[-1] - following:
            gone.append(index)
        else:
            before = position
    return gone


def _packed(data: bytes) -> _Packed:
    return len(data), _zstd().compress(data, asbytes=True)


def _unpacked(packed: _Packed) -> bytes:
    size_bytes, compressed = packed
    data: bytes = _zstd().decompress(compressed, size_bytes, asbytes=True)
    return data


def _zstd() -> Any:
    # pyarrow is slow to import, and most processes never read the past.
    import pyarrow as pa  # noqa: PLC0415

    return pa.Codec("zstd")
