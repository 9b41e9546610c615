"""What projections need of streams that are archived: entries after their checkpoints, and time and cause of last changes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from events.log.connect import Client, answering
from events.log.entries import RawEntry, number_of
from events.log.errors import UnreadableEvent
from events.log.keys import FLEET, key
from events.projection_store.port import ProjectionStore

PROJECTIONS = "projections"
_ASSIGNMENT_CHANGES = ":assignments"


def stored_key(partition: int) -> str:
    """`{p03}:assignments:kept`: position → `at cause` of archived assignment changes."""
    # With this hash, reading a device needs no archive, which can be a slow object store.
    return key(partition, "assignments:kept")


def stored_of(data: bytes) -> tuple[int, str]:
    """(at in milliseconds, cause) of a field of the hash."""
    at, _, cause = data.partition(b" ")
    return int(at), cause.decode()


def _time_and_cause(stream: str, entry: RawEntry) -> bytes:
    try:
        field = entry.fields[b"at"] + b" " + entry.fields[b"cause"]
        stored_of(field)
    except KeyError as error:
        raise UnreadableEvent(stream, entry.position, f"field {error} is missing") from error
    except ValueError as error:
        raise UnreadableEvent(stream, entry.position, str(error)) from error
    return field


class ProjectionHold:
    """Holds the entries after the checkpoints; of the fleet's stream, those after the checkpoint of the slowest partition."""

    def __init__(self, projections: ProjectionStore, *, partitions: int) -> None:
        self._projections, self._partitions = projections, partitions

    def positions(self, stream: str) -> Mapping[str, int]:
        """See `events.log.archive.notes.RetentionHold`.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        number = number_of(stream)
        if number == FLEET:
            numbers = range(self._partitions)
            return {PROJECTIONS: min(self._projections.checkpoint(partition).vector.fleet for partition in numbers)}
        checkpoint, of_changes = self._projections.checkpoint(number), stream.endswith(_ASSIGNMENT_CHANGES)
        return {PROJECTIONS: checkpoint.assignment_changes if of_changes else checkpoint.vector.partition}


class AssignmentChangeKeeper:
    """Keeps time and cause of assignment changes that leave Redis, as long as one is the last change of a device."""

    def __init__(self, client: Client, projections: ProjectionStore) -> None:
        self._client, self._projections = client, projections

    def keep(self, stream: str, entries: Sequence[RawEntry]) -> None:
        """See `events.log.archive.mover.Keeper`.

        Raises:
            UnreadableEvent: the last change of a device has no time or cause; the entry stays in Redis.
            LogUnavailable: Redis does not answer.
        """
        if not stream.endswith(_ASSIGNMENT_CHANGES):
            return
        number = number_of(stream)
        moved_by = self._projections.read(number, arrays=("moved_by",)).arrays["moved_by"]
        # Devices only move to newer assignment changes, so one that no device has is never read again.
        had = set(np.unique(np.frombuffer(moved_by, dtype="<u4")).tolist())
        last = [entry for entry in entries if entry.position in had]
        new_fields: dict[Any, Any] = {str(entry.position): _time_and_cause(stream, entry) for entry in last}
        with answering():
            gone = [field for field in self._client.hkeys(stored_key(number)) if int(field) not in had]
            if new_fields:
                self._client.hset(stored_key(number), mapping=new_fields)
            if gone:
                self._client.hdel(stored_key(number), *gone)
