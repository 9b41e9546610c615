"""Partitions as they stood at some vectors, in files outside Redis: a cache, from which replaying goes on."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol

import msgspec
import structlog

from events.envelope import Vector
from events.history.errors import SnapshotDamaged, SnapshotGone
from events.log.entries import RawEntry, digest
from events.log.errors import LogLostItsTail, ObjectStoreUnavailable, SegmentDamaged, SegmentMissing
from events.log.keys import FLEET, name
from events.log.object_store import ObjectStore
from events.stored_projection.stored_partition import Checkpoint, StoredPartition

_MAGIC = b"twinfold snapshot 3\n"
_DIGEST_BYTES = hashlib.sha256().digest_size
_NAME = re.compile(r"([0-9]{15})-([0-9]{15})\.zst", re.ASCII)

DENSITY = 32
"""What is replayed to a moment is at most this part of the events since then, or what lay between two snapshots when they were taken."""

logger = structlog.get_logger()


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    size_bytes: int
    data: bytes


class _File(msgspec.Struct, frozen=True, array_like=True):
    """What a file has beside its digest: whose it is, the stored form, and the documents of devices and modules by subject.

    `stands_on` are the digests of the last entries that it has in it: of its partition, of the fleet, and of its assignment changes.
    """

    epoch: str
    partition: int
    stands_on: tuple[bytes, bytes, bytes]
    kept: _Packed
    documents: _Packed


class Entries(Protocol):
    """Where entries of the log are read as they are stored: `RawStreams`."""

    def read(self, stream: str, *, after: int, limit: int) -> Sequence[RawEntry]:
        """Entries at positions after + 1 and on, at most `limit`."""
        ...


class Snapshot:
    """One partition as it stood at a vector; its documents are unpacked when somebody asks."""

    def __init__(self, kept: StoredPartition, documents: _Packed) -> None:
        self.kept, self._documents = kept, documents

    @property
    def vector(self) -> Vector:
        """Where it stands."""
        return self.kept.checkpoint.vector

    def documents(self) -> dict[str, bytes]:
        """The documents of its devices and modules at that position, by subject."""
        return dict(self._unpacked)

    @cached_property
    def _unpacked(self) -> dict[str, bytes]:
        return msgspec.msgpack.decode(_unpacked(self._documents), type=dict[str, bytes])


class Snapshots:
    """The snapshots of one log in an object store, `snapshots/<epoch>/p03/<position>-<fleet>.zst`.

    A Redis that lost its newest events (a failover, an older file) goes on from where it stands: one that was taken
    before has events in it that the log does not have. So each is held against the log's entries where it stands.
    """

    def __init__(self, object_store: ObjectStore, entries: Entries, *, epoch: str) -> None:
        self._object_store, self._entries, self._epoch = object_store, entries, epoch

    def put(self, number: int, kept: StoredPartition, documents: dict[str, bytes]) -> str:
        """Keep a partition's state at its checkpoint; the documents are those at the same position. Answers the file's name.

        Raises:
            ObjectStoreUnavailable: it cannot be written; nothing of it is to be seen.
            LogLostItsTail: an entry that it would stand on is not there: lost, or left out and gone.
            SegmentMissing, SegmentDamaged, LogUnavailable: nobody can tell what it would stand on.
        """
        file = _File(
            self._epoch,
            number,
            self._stands_on(number, kept.checkpoint),
            _packed(msgspec.msgpack.encode(kept)),
            _packed(msgspec.msgpack.encode(documents)),
        )
        body = msgspec.msgpack.encode(file)
        where = self._where(number, kept.checkpoint.vector)
        self._object_store.put(where, _MAGIC + hashlib.sha256(body).digest() + body)
        return where

    def vectors(self, number: int) -> list[Vector]:
        """Where there are snapshots of a partition, in order.

        Raises:
            ObjectStoreUnavailable: nobody answers.
        """
        return [vector for vector, _ in self._listed(number)]

    def newest(self, number: int, upto: Vector, *, before: Vector | None = None) -> Snapshot | None:
        """The last good snapshot that lies at a vector or before it in both parts; `None` where there is none.

        With `before`, one that does not have all up to that vector: what was decided there is not in it.

        One that is damaged is told of by its name, and the one before it is taken. Where the object store does not answer it is as
        if there were none: without snapshots it takes longer, and comes to the same.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        try:
            for vector, where in reversed(self._listed(number)):
                is_late = before is not None and before.is_within(vector)
                if vector.is_within(upto) and not is_late:
                    found = self._good(number, where)
                    if found is not None:
                        return found
        except ObjectStoreUnavailable as error:
            logger.warning("snapshots cannot be read", why=str(error))
        return None

    def _good(self, number: int, where: str) -> Snapshot | None:
        try:
            return self.read(number, where)
        except SnapshotGone:
            return None
        except SnapshotDamaged as error:
            logger.warning("snapshot damaged", snapshot=where, why=error.why)
            return None

    def read(self, number: int, where: str) -> Snapshot:
        """A snapshot by the name of its file.

        Raises:
            SnapshotGone: it was removed.
            SnapshotDamaged: it is not as it was written, or is another log's or partition's, or has events in it that the
                log does not have.
            ObjectStoreUnavailable, LogUnavailable: nobody answers.
        """
        data = self._object_store.get(where)
        if data is None:
            raise SnapshotGone(where)
        if not data.startswith(_MAGIC):
            raise SnapshotDamaged(where, "it is no snapshot of this version")
        body = data[len(_MAGIC) + _DIGEST_BYTES :]
        if hashlib.sha256(body).digest() != data[len(_MAGIC) : len(_MAGIC) + _DIGEST_BYTES]:
            raise SnapshotDamaged(where, "its digest is another")
        try:
            file = msgspec.msgpack.decode(body, type=_File)
            if (file.epoch, file.partition) != (self._epoch, number):
                raise SnapshotDamaged(where, f"it is of {name(file.partition)} of the log {file.epoch}")
            kept = msgspec.msgpack.decode(_unpacked(file.kept), type=StoredPartition)
        except (msgspec.DecodeError, ValueError, OSError) as error:
            raise SnapshotDamaged(where, str(error)) from error
        if where != self._where(number, kept.checkpoint.vector):
            raise SnapshotDamaged(where, "it is of another vector than its name says")
        try:
            stands_on = self._stands_on(number, kept.checkpoint)
        except (LogLostItsTail, SegmentMissing, SegmentDamaged) as error:
            raise SnapshotDamaged(where, f"it cannot be held against the log: {error}") from error
        if stands_on != file.stands_on:
            raise SnapshotDamaged(where, "it has events or assignment changes in it that the log does not have")
        return Snapshot(kept, file.documents)

    def has(self, number: int, vector: Vector) -> bool:
        """Whether there is a good snapshot of a partition at a vector.

        Raises:
            ObjectStoreUnavailable, LogUnavailable: nobody answers.
        """
        return self._good(number, self._where(number, vector)) is not None

    def thin(self, number: int) -> list[str]:
        """Remove those that are not needed, as there are others near enough; answers their files' names.

        Raises:
            ObjectStoreUnavailable: nobody answers; some may be gone already, and the next call goes on.
        """
        listed = self._listed(number)
        names = [listed[index][1] for index in dispensable([vector.partition for vector, _ in listed])]
        for where in names:
            self._object_store.delete(where)
        return names

    def names(self, number: int) -> Iterator[str]:
        """The files of a partition's snapshots, in the order of their vectors."""
        return (where for _, where in self._listed(number))

    def _stands_on(self, number: int, checkpoint: Checkpoint) -> tuple[bytes, bytes, bytes]:
        vector, own = checkpoint.vector, name(number)
        return (
            self._digest(own, vector.partition),
            self._digest(name(FLEET), vector.fleet),
            self._digest(f"{own}:assignments", checkpoint.assignment_changes),
        )

    def _digest(self, stream: str, position: int) -> bytes:
        """Of the entry at a position; empty where it is before the first one."""
        if not position:
            return b""
        found = self._entries.read(stream, after=position - 1, limit=1)
        if not found:
            raise LogLostItsTail(stream, expected=position, actual=position - 1)
        return digest(stream, found[0])

    def _folder(self, number: int) -> str:
        return f"snapshots/{self._epoch}/{name(number)}"

    def _where(self, number: int, vector: Vector) -> str:
        return f"{self._folder(number)}/{vector.partition:015}-{vector.fleet:015}.zst"

    def _listed(self, number: int) -> list[tuple[Vector, str]]:
        found = []
        for where in self._object_store.names(self._folder(number)):
            fitting = _NAME.fullmatch(where.rpartition("/")[2])
            if fitting is not None:
                found.append((Vector(int(fitting[1]), int(fitting[2])), where))
        return sorted(found)


def dispensable(positions: Sequence[int]) -> list[int]:
    """Of the rising positions of some snapshots, the indices of those that are not needed; the newest always is.

    One may go if the two beside it are no further apart than a `DENSITY`-th of the events since the later of them. Before the
    first one there is the beginning of the log. Whatever goes, that stays true of those that are left, as they only get older:
    at most some 2 * DENSITY of them for every time that the log becomes e times as long.
    """
    gone: list[int] = []
    before = 0
    for index, (position, following) in enumerate(pairwise(positions)):
        if (following - before) * DENSITY <= positions[-1] - following:
            gone.append(index)
        else:
            before = position
    return gone


def _packed(data: bytes) -> _Packed:
    return _Packed(len(data), _zstd().compress(data, asbytes=True))


def _unpacked(packed: _Packed) -> bytes:
    data: bytes = _zstd().decompress(packed.data, packed.size_bytes, asbytes=True)
    return data


def _zstd() -> Any:
    # It is slow to import, and a process may never look at the past.
    import pyarrow as pa  # noqa: PLC0415

    return pa.Codec("zstd")
