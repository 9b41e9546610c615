"""A fact or an outcome as others are told of it: a CloudEvent 1.0 in JSON, without secrets."""

from collections.abc import Callable, Iterator

import msgspec
from msgspec import UNSET
from pyroaring import BitMap

from events import canonical
from events.canonical import JsonObject
from events.deployment.facts import AdmissionChanged, DeploymentFact, Kept
from events.device.times import time_text
from events.envelope import Envelope
from events.fleet.outcome import Moved, Outcome
from events.fleet.rows import Own, Row
from events.log.keys import FLEET, device_of
from events.log.kinds import OUTCOME, UNREADABLE
from events.log.port import Fact
from events.rollout.facts import (
    Devices,
    DevicesAdmitted,
    DevicesRetried,
    PhaseOpened,
    Results,
    ResultsRecorded,
    RollbackBegan,
    RollbackEnded,
    RolloutFact,
)
from events.rollout.state import ROLLOUT
from events.secrets.references import MASK, mask
from events.views.kept import OutcomeEntry

TYPE = "twinfold."
TEST = "Test"
MEDIA_TYPE = "application/cloudevents+json"

_HIDDEN = ("authentication", "digest")
"""Members that say how somebody proves who they are: they tell nobody else anything."""


Shown = Callable[[Devices], JsonObject]
"""`{"count": 3, "devices": ["edge-1", …]}` of a set."""


class Place(msgspec.Struct, frozen=True):
    """Where a notification stands. `index` is that of its stream among all positions, `number` the partition's or FLEET."""

    epoch: str
    index: int
    name: str
    number: int
    position: int

    @property
    def event_id(self) -> str:
        """`p03:17`, `p03/outcomes:2`; unique together with the source, and for good."""
        return f"{self.name}:{self.position}"

    @property
    def source(self) -> str:
        """The stream, as a path."""
        return f"/twinfold/{self.epoch}/{self.name}"


class Notification(msgspec.Struct, frozen=True):
    """What somebody may be told of, with what it is about; `body` is the event.

    `moved` has the ordinals of an outcome's partition that it is about. `at` is in milliseconds, 0 where nobody can tell.
    """

    place: Place
    at: int
    kind: str
    body: bytes
    deployments: frozenset[str] = frozenset()
    device: str | None = None
    moved: BitMap | None = None


def of_fact(place: Place, envelope: Envelope[Fact], sets: Shown) -> Notification:
    """Tell of a fact; `sets` says which devices are in its sets."""
    data = with_ids(envelope.fact, msgspec.to_builtins(envelope.fact), sets)
    kind = data.pop("type")
    shown = {name: MASK if name in _HIDDEN and value else mask(value) for name, value in data.items()}
    more: JsonObject = {"position": place.position, "version": envelope.version, "by": str(envelope.by)}
    if envelope.cause:
        more["cause"] = envelope.cause
    body = _body(place, kind, envelope.at, {**more, "subject": envelope.subject, "data": shown})
    is_about = isinstance(envelope.fact, DeploymentFact | RolloutFact)
    deployments = frozenset({envelope.subject.removeprefix(ROLLOUT)} if is_about else ())
    device = None if place.number == FLEET else device_of(envelope.subject)
    return Notification(place, envelope.at, kind, body, deployments, device)


def with_ids(fact: Fact, data: JsonObject, shown: Shown) -> JsonObject:
    """The data of an event, with ids in the place of ordinals, which say nothing outside the log."""
    match fact:
        case DevicesAdmitted(_, devices) | DevicesRetried(devices):
            return {**data, "devices": shown(devices)}
        case PhaseOpened(_, _, pool) if pool is not UNSET:
            return {**data, "pool": shown(pool)}
        case RollbackBegan() | ResultsRecorded():
            return {**data, "results": _results(fact.results, shown)}
        case RollbackEnded():
            return {**data, "not_back": _by_reason(fact.not_back, shown)}
        case AdmissionChanged(Kept(devices)):
            return {**data, "admission": {**data["admission"], "devices": shown(devices)}}
        case _:
            return data


def _results(results: Results, shown: Shown) -> JsonObject:
    plain = ("healthy", "already", "silent", "pending", "outranked")
    return {
        **{name: shown(getattr(results, name)) for name in plain},
        "failed": _by_reason(results.failed, shown),
        "not_applied": _by_reason(results.not_applied, shown),
        "is_whole": results.is_whole,
    }


def _by_reason(by_reason: dict[str, Devices], shown: Shown) -> JsonObject:
    return {why: shown(devices) for why, devices in by_reason.items()}


def of_outcome(place: Place, entry: OutcomeEntry, outcome: Outcome, devices: list[list[str]]) -> Notification:
    """Tell of an outcome; `devices` has, for each of its moves, the ids of its first devices."""
    moves: list[JsonObject] = [
        {"count": move.count, "devices": ids, "before": _assignment(move.before), "after": _assignment(move.after)}
        for move, ids in zip(outcome.moves, devices, strict=True)
    ]
    data = {"before": _vector(outcome.before), "after": _vector(outcome.after), "moves": moves}
    more: JsonObject = {"position": place.position, "subject": place.name.partition("/")[0], "data": data}
    if entry.cause:
        more["cause"] = entry.cause
    names = frozenset(name for move in outcome.moves for name in _deployments(move))
    return Notification(
        place, entry.at, OUTCOME, _body(place, OUTCOME, entry.at, more), names, moved=outcome.ordinals()
    )


def of_unreadable(place: Place) -> Notification:
    """Tell that an entry does not decode, as operators are told by a partition that stops there."""
    return Notification(place, 0, UNREADABLE, _body(place, UNREADABLE, 0, {"position": place.position}))


def of_test(epoch: str, webhook_id: str, *, at: int) -> Notification:
    """What is sent to see whether a webhook gets through; its place is the time."""
    place = Place(epoch, -1, f"webhooks/{webhook_id}", FLEET, at)
    return Notification(place, at, TEST, _body(place, TEST, at, {"subject": f"webhook:{webhook_id}", "data": {}}))


def _body(place: Place, kind: str, at: int, more: JsonObject) -> bytes:
    event: JsonObject = {
        "specversion": "1.0",
        "id": place.event_id,
        "source": place.source,
        "type": TYPE + kind,
        "datacontenttype": "application/json",
        **({"time": time_text(at)} if at else {}),
        **more,
    }
    return canonical.encode(event)


def _vector(vector: object) -> JsonObject:
    partition, fleet = msgspec.to_builtins(vector)
    return {"partition": partition, "fleet": fleet}


def _assignment(row: Row) -> JsonObject:
    shown: JsonObject = {
        "standing": row.standing.value,
        "reason": row.reason or None,
        "layers": [layer.id for layer in row.stack],
        "configuration": row.configuration,
        "versions": row.module_versions,
    }
    if row.own is not UNSET:
        shown["device"] = _own(row.own)
    if row.module_parts:
        shown["byModule"] = {name: _own(part) for name, part in sorted(row.module_parts.items())}
    return shown


def _own(own: Own) -> JsonObject:
    return {"version": own.version, "layers": [layer.id for layer in own.stack]}


def _deployments(move: Moved) -> Iterator[str]:
    for row in (move.before, move.after):
        yield from (layer.id for layer in (*row.layers, *row.wanted))
