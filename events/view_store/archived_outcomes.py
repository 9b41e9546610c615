"""What views hold of the archive: streams up to their checkpoints, and time and cause of outcomes that devices still have."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from events.log.connect import Client, answering
from events.log.entries import RawEntry, number_of
from events.log.errors import UnreadableFact
from events.log.keys import FLEET, key
from events.view_store.port import Selection, ViewStore

VIEWS = "views"
_OUTCOMES = ":outcomes"


def kept_key(partition: int) -> str:
    """`{p03}:outcomes:kept`: position → `at cause` of archived outcomes, so that reading a device asks no archive."""
    return key(partition, "outcomes:kept")


def kept_of(data: bytes) -> tuple[int, str]:
    """(at in milliseconds, cause) of what is kept."""
    at, _, cause = data.partition(b" ")
    return int(at), cause.decode()


def _kept(stream: str, entry: RawEntry) -> bytes:
    try:
        kept = entry.fields[b"at"] + b" " + entry.fields[b"cause"]
        kept_of(kept)
    except KeyError as error:
        raise UnreadableFact(stream, entry.position, f"field {error} is missing") from error
    except ValueError as error:
        raise UnreadableFact(stream, entry.position, str(error)) from error
    return kept


class ViewsHold:
    """Views need what comes after their checkpoints: the fleet's stream is needed by the slowest partition."""

    def __init__(self, views: ViewStore, *, partitions: int) -> None:
        self._views, self._partitions = views, partitions

    def positions(self, stream: str) -> Mapping[str, int]:
        """See `events.log.archive.holding.Holding`.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        number = number_of(stream)
        if number == FLEET:
            return {VIEWS: min(self._views.checkpoint(one).vector.fleet for one in range(self._partitions))}
        checkpoint = self._views.checkpoint(number)
        return {VIEWS: checkpoint.outcomes if stream.endswith(_OUTCOMES) else checkpoint.vector.partition}


class OutcomesKeeper:
    """Keeps time and cause of outcomes that are about to leave Redis, for as long as a device has one of them."""

    def __init__(self, client: Client, views: ViewStore) -> None:
        self._client, self._views = client, views

    def keep(self, stream: str, entries: Sequence[RawEntry]) -> None:
        """See `events.log.archive.moving.Keeper`.

        Raises:
            UnreadableFact: an outcome that a device has does not say when it was, or why; it stays in Redis.
            LogUnavailable: Redis does not answer.
        """
        if not stream.endswith(_OUTCOMES):
            return
        number = number_of(stream)
        moved_by = self._views.read(number, Selection(arrays=("moved_by",))).arrays["moved_by"]
        # Devices only ever move to newer outcomes, so that what nobody has is not asked for again.
        had = set(np.unique(np.frombuffer(moved_by, dtype="<u4")).tolist())
        kept: dict[Any, Any] = {str(entry.position): _kept(stream, entry) for entry in entries if entry.position in had}
        with answering():
            gone = [field for field in self._client.hkeys(kept_key(number)) if int(field) not in had]
            if kept:
                self._client.hset(kept_key(number), mapping=kept)
            if gone:
                self._client.hdel(kept_key(number), *gone)
