"""An event or an assignment change for receivers outside: a CloudEvent 1.0 in JSON, without secrets."""

from collections.abc import Callable

import msgspec
from msgspec import UNSET
from pyroaring import BitMap

from events import canonical
from events.canonical import JsonObject
from events.deployment.events import AdmissionChanged, DeploymentEvent, Kept
from events.device.times import time_text
from events.envelope import Envelope
from events.fleet.assignments import Assignment, AssignmentChange, Own
from events.log.keys import FLEET, device_of
from events.log.port import ASSIGNMENT_CHANGE, UNREADABLE, Event
from events.rollout import events as rollout
from events.rollout.state import ROLLOUT
from events.secrets.references import MASK, mask
from events.stored_projection.stored_partition import AssignmentEntry

TYPE = "twinfold."
TEST = "Test"
MEDIA_TYPE = "application/cloudevents+json"

_HIDDEN = ("authentication", "digest")
"""Members that prove an identity; receivers have no use for them."""

DescribeDevices = Callable[[rollout.Devices], JsonObject]
"""Returns a set of devices as `{"count": 3, "devices": ["edge-1", …]}`."""


class EventLocation(msgspec.Struct, frozen=True):
    """The location of a notification. `index` is its stream's index among all positions, `number` the partition's or FLEET."""

    epoch: str
    index: int
    name: str
    number: int
    position: int

    @property
    def event_id(self) -> str:
        """`p03:17`, `p03/assignments:2`; permanent, and unique together with the source."""
        return f"{self.name}:{self.position}"

    @property
    def source(self) -> str:
        """The stream, as a path."""
        return f"/twinfold/{self.epoch}/{self.name}"


class Notification(msgspec.Struct, frozen=True):
    """An event for a receiver, with its deployments and devices; `body` is the CloudEvent.

    `moved` has the ordinals of the devices of an assignment change. `at` is in milliseconds, 0 for an unknown time.
    """

    location: EventLocation
    at: int
    kind: str
    body: bytes
    deployments: frozenset[str] = frozenset()
    device: str | None = None
    moved: BitMap | None = None


def of_event(location: EventLocation, envelope: Envelope[Event], describe: DescribeDevices) -> Notification:
    """Returns an event as a notification; `describe` returns the devices of a set."""
    data = with_ids(envelope.event, msgspec.to_builtins(envelope.event), describe)
    kind = data.pop("type")
    visible = {name: MASK if name in _HIDDEN and value else mask(value) for name, value in data.items()}
    more: JsonObject = {"position": location.position, "version": envelope.version, "by": str(envelope.by)}
    if envelope.cause:
        more["cause"] = envelope.cause
    body = _body(location, kind, envelope.at, {**more, "subject": envelope.subject, "data": visible})
    is_about = isinstance(envelope.event, DeploymentEvent | rollout.RolloutEvent)
    deployments = frozenset({envelope.subject.removeprefix(ROLLOUT)} if is_about else ())
    device = None if location.number == FLEET else device_of(envelope.subject)
    return Notification(location, envelope.at, kind, body, deployments, device)


def with_ids(event: Event, data: JsonObject, describe: DescribeDevices) -> JsonObject:
    """Returns an event's data with device ids instead of ordinals, which have no meaning outside the log."""
    match event:
        case rollout.DevicesAdmitted(_, devices) | rollout.DevicesRetried(devices):
            return {**data, "devices": describe(devices)}
        case rollout.PhaseOpened(_, _, pool) if pool is not UNSET:
            return {**data, "pool": describe(pool)}
        case rollout.RollbackBegan() | rollout.ResultsRecorded():
            return {**data, "results": _described(event.results, describe)}
        case rollout.RollbackEnded():
            return {**data, "not_back": {why: describe(devices) for why, devices in event.not_back.items()}}
        case AdmissionChanged(Kept(devices)):
            return {**data, "admission": {**data["admission"], "devices": describe(devices)}}
        case _:
            return data


def _described(results: rollout.RolloutResults, describe: DescribeDevices) -> JsonObject:
    plain = ("healthy", "already", "silent", "pending", "outranked")
    return {
        **{name: describe(getattr(results, name)) for name in plain},
        "failed": {why: describe(devices) for why, devices in results.failed.items()},
        "not_applied": {why: describe(devices) for why, devices in results.not_applied.items()},
        "is_whole": results.is_whole,
    }


def of_assignment_change(
    location: EventLocation, entry: AssignmentEntry, assignment_change: AssignmentChange, devices: list[list[str]]
) -> Notification:
    """Returns an assignment change as a notification; `devices` has the ids of each move's first devices."""
    moves: list[JsonObject] = [
        {"count": move.count, "devices": ids, "before": _assignment(move.before), "after": _assignment(move.after)}
        for move, ids in zip(assignment_change.moves, devices, strict=True)
    ]
    data = {"before": _vector(assignment_change.before), "after": _vector(assignment_change.after), "moves": moves}
    more: JsonObject = {"position": location.position, "subject": location.name.partition("/")[0], "data": data}
    if entry.cause:
        more["cause"] = entry.cause
    names = frozenset(
        layer.id
        for move in assignment_change.moves
        for assignment in (move.before, move.after)
        for layer in (*assignment.layers, *assignment.wanted)
    )
    body = _body(location, ASSIGNMENT_CHANGE, entry.at, more)
    return Notification(location, entry.at, ASSIGNMENT_CHANGE, body, names, moved=assignment_change.ordinals())


def of_unreadable(location: EventLocation) -> Notification:
    """Returns the notification of an entry that does not decode; the partition stops there."""
    return Notification(location, 0, UNREADABLE, _body(location, UNREADABLE, 0, {"position": location.position}))


def of_test(epoch: str, webhook_id: str, *, at: int) -> Notification:
    """Returns the test notification of a webhook; its position is the time."""
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
    described: JsonObject = {
        "status": assignment.status.value,
        "reason": assignment.reason or None,
        "layers": [layer.id for layer in assignment.stack],
        "configuration": assignment.configuration,
        "versions": assignment.module_versions,
    }
    if assignment.own is not UNSET:
        described["device"] = _own(assignment.own)
    if assignment.module_parts:
        described["byModule"] = {name: _own(part) for name, part in sorted(assignment.module_parts.items())}
    return described


def _own(own: Own) -> JsonObject:
    return {"version": own.version, "layers": [layer.id for layer in own.stack]}
