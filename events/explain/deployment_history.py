"""The events on each deployment and its rollout, with their authors, read incrementally from the fleet's stream."""

import contextlib
import threading
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import get_args

import msgspec
from msgspec import UNSET

from events.deployment.events import DeploymentCreated, DeploymentEvent, DeploymentUpdated
from events.envelope import Envelope
from events.event_text import text_of
from events.fleet.deployments import deployment_of
from events.log.codec import decode_entry
from events.log.errors import LogLostItsTail, UnreadableEvent
from events.log.keys import FLEET, name
from events.log.port import Event, Log
from events.log.raw import RawStreams
from events.log.scan import EntryFilter, scan
from events.rollout import events
from events.rollout.events import DevicesAdmitted, Evidence, RolloutEvent
from events.rollout.sets import FleetSet


class RolloutAct(msgspec.Struct, frozen=True):
    """An event on a rollout: its time (milliseconds), author, type and reason. `phase` counts from 1, `count` are devices.

    `counts` are those of its evidence, `None` if it has no evidence.
    """

    position: int
    at: int
    by: str
    act: str
    reason: str | None = None
    phase: int | None = None
    count: int | None = None
    counts: events.RecordedCounts | None = None


class HistoryEntry(msgspec.Struct, frozen=True):
    """An event on a deployment, or on its rollout, without its content and without sets of devices.

    `text` says what it did, without the time. `condition` and `priority` are the values that it set, or `None`.
    `of_rollout` is set for an event on the rollout.
    """

    position: int
    at: int
    by: str
    kind: str
    text: str
    cause: str = ""
    condition: str | None = None
    priority: int | None = None
    of_rollout: RolloutAct | None = None


_HISTORY_EVENTS = EntryFilter(
    types=frozenset(kind.__name__ for union in (DeploymentEvent, RolloutEvent) for kind in get_args(union))
)


class DeploymentHistory:
    """Every event on a deployment or its rollout, also of deleted deployments. Safe for several threads."""

    def __init__(self, streams: RawStreams) -> None:
        self._streams = streams
        self._position = 0
        self._by_id: dict[str, list[HistoryEntry]] = {}
        self._lock = threading.Lock()

    def of(self, deployment_id: str, *, upto: int) -> tuple[HistoryEntry, ...]:
        """Returns the events on a deployment, oldest first, up to a position of the fleet's stream; of a reused id, those of its last use.

        Raises:
            LogUnavailable: Redis does not answer.
            ObjectStoreUnavailable, SegmentDamaged, SegmentMissing: archived events cannot be read.
        """
        entries = self._entries(deployment_id, upto)
        return tuple(entries[_last(entries, DeploymentCreated.__name__) or 0 :])

    def acts(self, deployment_id: str, *, upto: int) -> list[RolloutAct]:
        """Returns the events on a deployment's current rollout, oldest first, up to a position of the fleet's stream.

        Raises:
            LogUnavailable, ObjectStoreUnavailable, SegmentDamaged, SegmentMissing: as `of`.
        """
        entries = self._entries(deployment_id, upto)
        deleted = _last(entries, events.RolloutDeleted.__name__)
        created = _last(entries, events.RolloutCreated.__name__)
        if created is None or (deleted is not None and deleted > created):
            return []
        return [entry.of_rollout for entry in entries[created:] if entry.of_rollout is not None]

    def _entries(self, deployment_id: str, upto: int) -> list[HistoryEntry]:
        with self._lock:
            while self._position < upto:
                try:
                    for entry in scan(self._streams, name(FLEET), _HISTORY_EVENTS, after=self._position, upto=upto):
                        self._position = entry.position
                        # An event that cannot be read stops workers; explanations still show the other events.
                        with contextlib.suppress(UnreadableEvent):
                            envelope = decode_entry(name(FLEET), entry.position, entry.fields)
                            self._by_id.setdefault(deployment_of(envelope.subject), []).append(_entry(envelope))
                except LogLostItsTail as error:
                    if error.actual <= self._position:
                        break
                    self._position = error.actual - 1
                else:
                    # A stream that ends before its head has lost its tail.
                    self._position = max(self._position, upto)
            entries = self._by_id.get(deployment_id, [])
            return entries[: bisect_right(entries, upto, key=lambda entry: entry.position)]


def _last(entries: Sequence[HistoryEntry], kind: str) -> int | None:
    return next((index for index in reversed(range(len(entries))) if entries[index].kind == kind), None)


def _entry(envelope: Envelope[Event]) -> HistoryEntry:
    event, act = envelope.event, None
    position, at, by, kind = envelope.position, envelope.at, str(envelope.by), type(event).__name__
    if isinstance(event, RolloutEvent):
        evidence, phase = getattr(event, "evidence", UNSET), getattr(event, "phase", None)
        act = RolloutAct(
            position,
            at,
            by,
            kind,
            getattr(event, "reason", None) or None,
            None if phase is None else phase + 1,
            getattr(event, "count", None),
            evidence.counts if isinstance(evidence, Evidence) else None,
        )
    condition, priority = None, None
    if isinstance(event, DeploymentCreated | DeploymentUpdated):
        condition, priority = event.target_condition, event.priority
    return HistoryEntry(position, at, by, kind, text_of(envelope), envelope.cause, condition, priority, act)


def evidence_of(log: Log, act: RolloutAct) -> Evidence:
    """Returns the evidence of an act that has `counts`, with the sets of devices that the history leaves out.

    Raises:
        LogUnavailable, ObjectStoreUnavailable, SegmentDamaged, SegmentMissing: as `DeploymentHistory.of`.
    """
    (envelope,) = log.read(FLEET, after=act.position - 1, limit=1)
    evidence = getattr(envelope.event, "evidence", UNSET)
    assert isinstance(evidence, Evidence)
    return evidence


ADMISSIONS_MAX = 200
"""How many of the newest admissions are searched for a device. Each takes one read of the log."""


def admission_of(log: Log, history: Iterable[HistoryEntry], *, number: int, ordinal: int) -> HistoryEntry | None:
    """Returns the event that admitted a device; `None` if none of the newest ADMISSIONS_MAX did."""
    admissions = [entry for entry in history if entry.kind == DevicesAdmitted.__name__]
    for entry in reversed(admissions[-ADMISSIONS_MAX:]):
        for envelope in log.read(FLEET, after=entry.position - 1, limit=1):
            assert isinstance(envelope.event, DevicesAdmitted)
            if ordinal in FleetSet.of(envelope.event.devices).of_partition(number):
                return entry
    return None
