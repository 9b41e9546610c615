"""The acts on each deployment and its rollout, with their authors: read from the fleet's stream as far as a caller asks."""

import contextlib
import threading
from bisect import bisect_right
from collections.abc import Iterable
from typing import get_args

import msgspec

from events.deployment.facts import DeploymentCreated, DeploymentFact, DeploymentUpdated
from events.envelope import Envelope
from events.event_text import text_of
from events.fleet.deployments import deployment_of
from events.log.codec import decode_entry
from events.log.entries import RawEntry
from events.log.errors import LogLostItsTail, UnreadableFact
from events.log.keys import FLEET, name
from events.log.port import Fact, Log
from events.log.raw import RawStreams
from events.log.scan import Wanted, scan
from events.rollout.facts import DevicesAdmitted, RolloutFact
from events.rollout.sets import FleetSet


class HistoryEntry(msgspec.Struct, frozen=True):
    """An event on a deployment, or on its rollout, without its content and without sets of devices.

    `text` says what it did, without the time. `condition` and `priority` are what it set them to, `None` where it set neither.
    """

    position: int
    at: int
    by: str
    kind: str
    text: str
    cause: str = ""
    condition: str | None = None
    priority: int | None = None


_WANTED = Wanted(types=frozenset(kind.__name__ for union in (DeploymentFact, RolloutFact) for kind in get_args(union)))


class DeploymentHistory:
    """Every event on a deployment or its rollout, also of deleted deployments. Safe for several threads.

    Skips what cannot be read: where the fleet's stream stops workers, explanations still have the rest.
    """

    def __init__(self, streams: RawStreams) -> None:
        self._streams = streams
        self._position = 0
        self._by_id: dict[str, list[HistoryEntry]] = {}
        self._lock = threading.Lock()

    def of(self, deployment_id: str, *, upto: int) -> tuple[HistoryEntry, ...]:
        """The events on the deployment that was created last under an id, oldest first, up to a position of the fleet's stream.

        Raises:
            LogUnavailable: Redis does not answer.
            DepotUnavailable, SegmentDamaged, SegmentMissing: the archive does not have what was archived.
        """
        with self._lock:
            self._read_on(upto)
            entries = self._by_id.get(deployment_id, [])
            entries = entries[: bisect_right(entries, upto, key=lambda entry: entry.position)]
        created = (
            index for index in reversed(range(len(entries))) if entries[index].kind == DeploymentCreated.__name__
        )
        return tuple(entries[next(created, 0) :])

    def _read_on(self, upto: int) -> None:
        while self._position < upto:
            try:
                for entry in scan(self._streams, name(FLEET), _WANTED, after=self._position, upto=upto):
                    self._position = entry.position
                    self._note(entry)
            except LogLostItsTail as error:
                if error.found <= self._position:
                    return
                self._position = error.found - 1
            else:
                # A stream that ends before its head has lost its tail.
                self._position = max(self._position, upto)

    def _note(self, entry: RawEntry) -> None:
        with contextlib.suppress(UnreadableFact):
            envelope = decode_entry(name(FLEET), entry.position, entry.fields)
            self._by_id.setdefault(deployment_of(envelope.subject), []).append(_entry(envelope))


def _entry(envelope: Envelope[Fact]) -> HistoryEntry:
    fact = envelope.fact
    edited = isinstance(fact, DeploymentCreated | DeploymentUpdated)
    return HistoryEntry(
        envelope.position,
        envelope.at,
        str(envelope.by),
        type(fact).__name__,
        text_of(envelope),
        envelope.cause,
        fact.target_condition if edited else None,  # type: ignore[union-attr]
        fact.priority if edited else None,  # type: ignore[union-attr]
    )


ADMISSIONS_MAX = 200
"""The newest so many admissions are searched for a device."""


def admission_of(log: Log, history: Iterable[HistoryEntry], *, number: int, ordinal: int) -> HistoryEntry | None:
    """The event that admitted a device, by its partition and ordinal; `None` where none of the newest ADMISSIONS_MAX did."""
    admissions = [entry for entry in history if entry.kind == DevicesAdmitted.__name__]
    for entry in reversed(admissions[-ADMISSIONS_MAX:]):
        for envelope in log.read(FLEET, after=entry.position - 1, limit=1):
            if isinstance(envelope.fact, DevicesAdmitted) and ordinal in FleetSet.of(
                envelope.fact.devices
            ).of_partition(number):
                return entry
    return None
