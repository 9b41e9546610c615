"""An event or an assignment change as others are told of it: a CloudEvent 1.0 in JSON, without secrets."""

from collections.abc import Callable, Iterator

import msgspec
from msgspec import UNSET
from pyroaring import BitMap

from events import canonical
from events.canonical import JsonObject
from events.deployment.events import AdmissionChanged, DeploymentEvent, Kept
from events.device.times import time_text
from events.envelope import Envelope
from events.fleet.assignment_change import AssignmentChange, AssignmentMove
from events.fleet.assignments import Assignment, Own
from events.log.keys import FLEET, device_of
from events.log.kinds import ASSIGNMENT_CHANGE, UNREADABLE
from events.log.port import Event
from events.rollout.events import (
    Devices,
    DevicesAdmitted,
    DevicesRetried,
    PhaseOpened,
    ResultsRecorded,
    RollbackBegan,
    RollbackEnded,
    RolloutEvent,
    RolloutResults,
)
from events.rollout.state import ROLLOUT
from events.secrets.references import MASK, mask
from events.stored_projection.stored_partition import AssignmentEntry

TYPE = "twinfold."
TEST = "Test"
MEDIA_TYPE = "application/cloudevents+json"

_HIDDEN = ("authentication", "digest")
"""Members that say how somebody proves who they are: they tell nobody else anything."""


Shown = Callable[[Devices], JsonObject]
"""`{"count": 3, "devices": ["edge-1", …]}` of a set."""


class EventLocation(msgspec.Struct, frozen=True):
    """Where a notification stands. `index` is that of its stream among all positions, `number` the partition's or FLEET."""

    epoch: str
    index: int
    name: str
    number: int
    position: int

    @property
    def event_id(self) -> str:
        """`p03:17`, `p03/assignments:2`; unique together with the source, and for good."""
        return f"{self.name}:{self.position}"

    @property
    def source(self) -> str:
        """The stream, as a path."""
        return f"/twinfold/{self.epoch}/{self.name}"


class Notification(msgspec.Struct, frozen=True):
    """What somebody may be told of, with what it is about; `body` is the event.

    `moved` has the ordinals of an assignment change's partition that it is about. `at` is in milliseconds, 0 where nobody can tell.
    """

    location: EventLocation
    at: int
    kind: str
    body: bytes
    deployments: frozenset[str] = frozenset()
    device: str | None = None
    moved: BitMap | None = None


def of_event(location: EventLocation, envelope: Envelope[Event], sets: Shown) -> Notification:
    """Tell of an event; `sets` says which devices are in its sets."""
    data = with_ids(envelope.event, msgspec.to_builtins(envelope.event), sets)
    kind = data.pop("type")
    shown = {name: MASK if name in _HIDDEN and value else mask(value) for name, value in data.items()}
    more: JsonObject = {"position": location.position, "version": envelope.version, "by": str(envelope.by)}
    if envelope.cause:
        more["cause"] = envelope.cause
    body = _body(location, kind, envelope.at, {**more, "subject": envelope.subject, "data": shown})
    is_about = isinstance(envelope.event, DeploymentEvent | RolloutEvent)
    deployments = frozenset({envelope.subject.removeprefix(ROLLOUT)} if is_about else ())
    device = None if location.number == FLEET else device_of(envelope.subject)
    return Notification(location, envelope.at, kind, body, deployments, device)


def with_ids(event: Event, data: JsonObject, shown: Shown) -> JsonObject:
    """The data of an event, with ids in the place of ordinals, which say nothing outside the log."""
    match event:
        case DevicesAdmitted(_, devices) | DevicesRetried(devices):
            return {**data, "devices": shown(devices)}
        case PhaseOpened(_, _, pool) if pool is not UNSET:
            return {**data, "pool": shown(pool)}
        case RollbackBegan() | ResultsRecorded():
            return {**data, "results": _results(event.results, shown)}
        case RollbackEnded():
            return {**data, "not_back": _by_reason(event.not_back, shown)}
        case AdmissionChanged(Kept(devices)):
            return {**data, "admission": {**data["admission"], "devices": shown(devices)}}
        case _:
            return data


def _results(results: RolloutResults, shown: Shown) -> JsonObject:
    plain = ("healthy", "already", "silent", "pending", "outranked")
    return {
        **{name: shown(getattr(results, name)) for name in plain},
        "failed": _by_reason(results.failed, shown),
        "not_applied": _by_reason(results.not_applied, shown),
        "is_whole": results.is_whole,
    }


def _by_reason(by_reason: dict[str, Devices], shown: Shown) -> JsonObject:
    return {why: shown(devices) for why, devices in by_reason.items()}


def of_assignment_change(
    location: EventLocation, entry: AssignmentEntry, assignment_change: AssignmentChange, devices: list[list[str]]
) -> Notification:
    """Tell of an assignment change; `devices` has, for each of its moves, the ids of its first devices."""
    moves: list[JsonObject] = [
        {"count": move.count, "devices": ids, "before": _assignment(move.before), "after": _assignment(move.after)}
        for move, ids in zip(assignment_change.moves, devices, strict=True)
    ]
    data = {"before": _vector(assignment_change.before), "after": _vector(assignment_change.after), "moves": moves}
    more: JsonObject = {"position": location.position, "subject": location.name.partition("/")[0], "data": data}
    if entry.cause:
        more["cause"] = entry.cause
    names = frozenset(name for move in assignment_change.moves for name in _deployments(move))
    return Notification(
        location,
        entry.at,
        ASSIGNMENT_CHANGE,
        _body(location, ASSIGNMENT_CHANGE, entry.at, more),
        names,
        moved=assignment_change.ordinals(),
    )


def of_unreadable(location: EventLocation) -> Notification:
    """Tell that an entry does not decode, as operators are told by a partition that stops there."""
    return Notification(location, 0, UNREADABLE, _body(location, UNREADABLE, 0, {"position": location.position}))


def of_test(epoch: str, webhook_id: str, *, at: int) -> Notification:
    """What is sent to see whether a webhook gets through; its place is the time."""
    location = EventLocation(epoch, -1, f"webhooks/{webhook_id}", FLEET, at)
    return Notification(location, at, TEST, _body(location, TEST, at, {"subject": f"webhook:{webhook_id}", "data": {}}))


def _body(location: EventLocation, kind: str, at: int, more: JsonObject) -> bytes:
    event: JsonObject = {
        "specversion": "1.0",
        "id": location.event_id,
        "source": location.source,
        "type": TYPE + kind,
        "datacontenttype": "application/json",
        **({"time": time_text(at)} if at else {}),
        **more,
    }
    return canonical.encode(event)


def _vector(vector: object) -> JsonObject:
    partition, fleet = msgspec.to_builtins(vector)
    return {"partition": partition, "fleet": fleet}


def _assignment(assignment: Assignment) -> JsonObject:
    shown: JsonObject = {
        "status": assignment.status.value,
        "reason": assignment.reason or None,
        "layers": [layer.id for layer in assignment.stack],
        "configuration": assignment.configuration,
        "versions": assignment.module_versions,
    }
    if assignment.own is not UNSET:
        shown["device"] = _own(assignment.own)
    if assignment.module_parts:
        shown["byModule"] = {name: _own(part) for name, part in sorted(assignment.module_parts.items())}
    return shown


def _own(own: Own) -> JsonObject:
    return {"version": own.version, "layers": [layer.id for layer in own.stack]}


def _deployments(move: AssignmentMove) -> Iterator[str]:
    for assignment in (move.before, move.after):
        yield from (layer.id for layer in (*assignment.layers, *assignment.wanted))
