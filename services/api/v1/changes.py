"""What changed between two moments, and what made it so: of a device, of a deployment, or of the whole fleet."""

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET, field
from pyroaring import BitMap

from events.canonical import JsonObject
from events.deployment.errors import DeploymentNotFound
from events.deployment.state import DeploymentDocument, decode
from events.device.errors import DeviceNotFound
from events.envelope import Envelope
from events.fleet.deployments import deployment_of
from events.fleet.outcome import Outcome
from events.fleet.rows import NO_ROW, Row, Standing
from events.history.moment import Moment
from events.log.device_documents import registered_device
from events.log.errors import UnreadableFact
from events.log.fleet_documents import deployments
from events.log.keys import FLEET, device_of, name, partition_of
from events.log.scan import Wanted, scan
from events.preview.difference import How, differences
from events.rollout.state import ROLLOUT
from events.view_store.port import Selection
from events.views.reading import STATUS_ARRAYS, STATUS_HASHES, PartitionReading, ids_of, pages_of
from services.api.context.api_context import Room
from services.api.http.json_answer import AnswerBody

SHOWN_MAX = 100
"""Devices of a list that are named; every list says how many there are."""
FACTS_MAX = 1000
"""Facts that are told, the newest ones; the answer says how many there are."""
_STATUSES = ("target", "actual")
_OUTCOMES = 500


class Between(msgspec.Struct, frozen=True):
    """Two moments of a fleet: the rooms of both, and the fleet's facts that lie between."""

    before: Room
    after: Room
    fleet_facts: tuple[Envelope[Any], ...]

    @property
    def moments(self) -> tuple[Moment, Moment]:
        """When."""
        assert self.before.moment is not None
        assert self.after.moment is not None
        return self.before.moment, self.after.moment


# -- the answer


class DiffChange(AnswerBody):
    """One property, removals first; `before` and `after` are `null` where there is none. Secrets show as `***`."""

    section: str
    path: str
    how: How
    before: Any
    after: Any


class DiffDevices(AnswerBody):
    """How many devices, and the first hundred of them."""

    count: int = 0
    devices: list[str] = field(default_factory=list)

    def add(self, room: Room, number: int, ordinals: BitMap) -> None:
        """Add some of a partition."""
        self.count += len(ordinals)
        named = BitMap(itertools.islice(ordinals, SHOWN_MAX - len(self.devices)))
        if named:
            fields = room.views.read(number, Selection(fields=(("ids", pages_of(named)),)))
            self.devices = sorted([*self.devices, *ids_of(named, fields)])


class DiffSides(AnswerBody):
    """The devices that left a list, and those that joined it."""

    lost: DiffDevices
    gained: DiffDevices


class DiffStanding(msgspec.Struct, frozen=True):
    """How devices stood, and what they ran."""

    standing: Standing
    layers: tuple[str, ...]


class DiffAssignment(AnswerBody):
    """Devices that went from one assignment to another."""

    before: DiffStanding
    after: DiffStanding
    count: int
    devices: list[str]


class DiffDeployments(AnswerBody):
    """Deployments that were deleted, edited and created."""

    removed: list[str]
    changed: list[str]
    added: list[str]


class DiffFact(AnswerBody):
    """A fact or an outcome in between: where it stands, when (milliseconds), who, what, and its cause."""

    position: str
    at: int
    by: str
    type: str
    subject: str
    cause: str


class Diff(AnswerBody, kw_only=True):
    """What changed; a device has no `devices`, the fleet no `changes`, and it alone `deployments` and `assignments`.

    `fromTime` and `toTime` are in milliseconds. `devices` has `target` and `actual` of a deployment, and who is `registered`
    of the fleet. `facts` are the newest thousand of `factCount`, `by` counts all of them by their author.
    """

    first: str = field(name="from")
    from_time: int
    to: str
    to_time: int
    of: Literal["device", "deployment", "fleet"]
    id: str | None
    changes: list[DiffChange] = field(default_factory=list)
    devices: dict[str, DiffSides] = field(default_factory=dict)
    deployments: DiffDeployments | None = None
    assignments: list[DiffAssignment] = field(default_factory=list)
    facts: list[DiffFact]
    fact_count: int
    by: dict[str, int]


def _diff(
    both: Between,
    facts: Iterable[DiffFact],
    *,
    of: Literal["device", "deployment", "fleet"],
    subject: str | None,
    streams: Collection[int] | None = None,
) -> Diff:
    """A diff without its changes; of the facts no more are in memory at once than it names."""
    before, after = both.moments
    streams, by = list(after.positions if streams is None else streams), Counter[str]()

    def counted() -> Iterator[DiffFact]:
        for fact in facts:
            by[fact.by] += 1
            yield fact

    return Diff(
        first=before.text(streams),
        from_time=before.time,
        to=after.text(streams),
        to_time=after.time,
        of=of,
        id=subject,
        facts=heapq.nlargest(FACTS_MAX, counted(), key=_order)[::-1],
        fact_count=by.total(),
        by=dict(by.most_common()),
    )


def _order(fact: DiffFact) -> tuple[int, str, int]:
    stream, _, position = fact.position.rpartition(":")
    return fact.at, stream, int(position)


def _changes(before: dict[str, JsonObject], after: dict[str, JsonObject]) -> list[DiffChange]:
    return [
        DiffChange(change.module, change.path, change.how, change.before, change.after)
        for change in differences(before, after)
    ]


# -- a device


def of_device(both: Between, device_id: str, *, left_out: Collection[int] = ()) -> Diff:
    """A device's tags, properties, identity, standing and configuration, with the facts and outcomes that changed them.

    `left_out` are positions of its partition that an operator decided to leave out.

    Raises:
        DeviceNotFound: it was there at neither moment.
        UnreadableFact: an entry of it lacks what facts have.
    """
    if device_of(device_id) != device_id:
        raise DeviceNotFound(device_id)  # A module has a document as well.
    before, after = _sections(both.before, device_id), _sections(both.after, device_id)
    if not before and not after:
        raise DeviceNotFound(device_id)
    layers = {one for room in (both.before, both.after) for one in _layers(room, device_id)}
    number = partition_of(device_id, both.after.log.partitions)
    facts = itertools.chain(
        _facts_of_device(both, device_id, number, left_out),
        _facts_of_fleet(both, layers),
        _outcomes(both, device_id, number),
    )
    diff = _diff(both, facts, of="device", subject=device_id, streams=(FLEET, number))
    diff.changes = _changes(before, after)
    return diff


def _sections(room: Room, device_id: str) -> dict[str, JsonObject]:
    document = registered_device(room.log, device_id)
    if document is None:
        return {}
    found: dict[str, JsonObject] = {
        "identity": {
            "enabled": document.enabled,
            "statusReason": document.status_reason,
            "edge": document.edge,
            "generation": document.generation,
            **({"parentScope": document.parent_scope} if document.parent_scope else {}),
        },
        "tags": msgspec.json.decode(document.tags),
        "desired": msgspec.json.decode(document.desired),
        "reported": msgspec.json.decode(document.reported),
    }
    effective = room.view.effective(device_id)
    if effective is not None:
        row = effective.row
        found["assignment"] = {
            "standing": row.standing.value,
            "reason": row.reason,
            "layers": [layer.id for layer in row.stack],
            "versions": row.module_versions,
        }
        if effective.own is not None:
            found["configured"] = effective.own
        found |= {f"modules/{module}": section for module, section in effective.modules.items()}
    return found


def _layers(room: Room, device_id: str) -> set[str]:
    effective = room.view.effective(device_id)
    return set() if effective is None else {layer.id for layer in effective.row.layers}


def _facts_of_device(both: Between, device_id: str, number: int, left_out: Collection[int]) -> Iterator[DiffFact]:
    first, last = (moment.positions[number] for moment in both.moments)
    stream = name(number)
    wanted = Wanted(devices=frozenset({device_id}))
    for entry in scan(both.after.streams, stream, wanted, after=first, upto=last):
        if entry.position in left_out:
            continue
        try:
            by, kind, subject, cause = (
                entry.fields[member].decode() for member in (b"by", b"type", b"subject", b"cause")
            )
            at = int(entry.fields[b"at"])
            yield DiffFact(f"{stream}:{entry.position}", at, by, kind, subject, cause)
        except (KeyError, ValueError) as error:
            raise UnreadableFact(stream, entry.position, str(error)) from error


def _facts_of_fleet(both: Between, deployment_ids: Collection[str] | None = None) -> Iterator[DiffFact]:
    for envelope in both.fleet_facts:
        if deployment_ids is None or deployment_of(envelope.subject) in deployment_ids:
            place, kind = f"{name(FLEET)}:{envelope.position}", type(envelope.fact).__name__
            yield DiffFact(place, envelope.at, str(envelope.by), kind, envelope.subject, envelope.cause)


def _outcomes(both: Between, device_id: str, number: int) -> Iterator[DiffFact]:
    found = both.after.view.assignment(device_id) or both.before.view.assignment(device_id)
    if found is None:
        return
    stream, after = f"{name(number)}:outcomes", both.before.views.checkpoint(number).outcomes
    while entries := both.after.views.outcomes(number, after=after, limit=_OUTCOMES):
        after = entries[-1].position
        for entry in entries:
            outcome = msgspec.json.decode(entry.data, type=Outcome)
            if found.ordinal in outcome.ordinals():
                place = f"{stream}:{entry.position}"
                yield DiffFact(place, entry.at, "system:project", "Outcome", device_id, entry.cause)


# -- a deployment


def of_deployment(both: Between, deployment_id: str) -> Diff:
    """A deployment's fields and rollout, the devices that it gained and lost, and the facts that changed it.

    Raises:
        DeploymentNotFound: it stood at neither moment.
    """
    if ":" in deployment_id:
        raise DeploymentNotFound(deployment_id)  # What has a colon in its name is another kind of subject.
    before, after = (_fields(room, deployment_id) for room in (both.before, both.after))
    if not before and not after:
        raise DeploymentNotFound(deployment_id)
    diff = _diff(both, _facts_of_fleet(both, {deployment_id}), of="deployment", subject=deployment_id)
    diff.changes = _changes(before, after)
    for status in _STATUSES:
        diff.devices[status] = sides = DiffSides(DiffDevices(), DiffDevices())
        for number in range(both.after.log.partitions):
            old, new = (_status(room, number, deployment_id, status) for room in (both.before, both.after))
            sides.lost.add(both.before, number, old - new)
            sides.gained.add(both.after, number, new - old)
    return diff


def _status(room: Room, number: int, deployment_id: str, status: str) -> BitMap:
    kept = room.views.read(number, Selection(hashes=STATUS_HASHES, arrays=STATUS_ARRAYS))
    return PartitionReading(kept).status(deployment_id).named()[status]


def _fields(room: Room, deployment_id: str) -> dict[str, JsonObject]:
    stored, rolled = room.log.load([deployment_id, ROLLOUT + deployment_id], fleet=True)
    if stored.snapshot is None:
        return {}
    found = _fields_of(decode(stored.snapshot))
    if rolled.snapshot is not None:
        rollout = msgspec.json.decode(rolled.snapshot)
        found["rollout"] = {one: rollout.get(one) for one in ("state", "phase", "reason", "rollback")}
    return found


def _fields_of(document: DeploymentDocument) -> dict[str, JsonObject]:
    return {
        "deployment": {
            "targetCondition": document.target_condition,
            "priority": document.priority,
            "labels": dict(document.labels),
            "metrics": dict(document.metrics),
            "admission": type(document.admission).__name__,
            "schedule": None if document.schedule is UNSET else msgspec.to_builtins(document.schedule),
            "createdAt": document.created_at,
        },
        "content": document.content,
    }


# -- the fleet


def of_fleet(both: Between) -> Diff:
    """The deployments and devices that came and went, whose assignment changed from what to what, and the fleet's facts."""
    diff = _diff(both, _facts_of_fleet(both), of="fleet", subject=None)
    diff.devices["registered"] = sides = DiffSides(DiffDevices(), DiffDevices())
    moved: defaultdict[tuple[DiffStanding, DiffStanding], DiffDevices] = defaultdict(DiffDevices)
    for number in range(both.after.log.partitions):
        old, new = (_rows(room, number) for room in (both.before, both.after))
        sides.lost.add(both.before, number, old.live - new.live)
        sides.gained.add(both.after, number, new.live - old.live)
        for pair, members in old.moved_to(new):
            moved[pair].add(both.after, number, members)
    most_devices_first = sorted(moved.items(), key=lambda item: (-item[1].count, msgspec.json.encode(item[0])))
    diff.assignments = [DiffAssignment(*pair, devices.count, devices.devices) for pair, devices in most_devices_first]
    before, after = (dict(deployments(room.log)) for room in (both.before, both.after))
    diff.deployments = DiffDeployments(
        removed=sorted(before.keys() - after.keys()),
        changed=sorted(name for name in before.keys() & after.keys() if before[name] != after[name]),
        added=sorted(after.keys() - before.keys()),
    )
    return diff


class _Rows(msgspec.Struct, frozen=True):
    """Who is registered in a partition, and what each ordinal runs."""

    live: BitMap
    numbers: Any
    rows: dict[int, Row]

    def moved_to(self, other: "_Rows") -> Iterator[tuple[tuple[DiffStanding, DiffStanding], BitMap]]:
        """Those that are registered in both and do not run the same, by what they ran and run."""
        both = np.array(self.live & other.live, dtype=np.uint32)
        pairs = np.stack([_taken(self.numbers, both), _taken(other.numbers, both)], axis=1)
        for was, is_ in np.unique(pairs, axis=0).tolist() if len(both) else ():
            old, new = self.rows.get(was, NO_ROW), other.rows.get(is_, NO_ROW)
            if old != new:
                members = BitMap(both[(pairs[:, 0] == was) & (pairs[:, 1] == is_)])
                yield (_standing(old), _standing(new)), members


def _taken(numbers: Any, ordinals: Any) -> Any:
    padded = np.zeros(max(len(numbers), int(ordinals.max()) + 1 if len(ordinals) else 0), dtype=np.uint32)
    padded[: len(numbers)] = numbers
    return padded[ordinals]


def _standing(row: Row) -> DiffStanding:
    return DiffStanding(row.standing, tuple(layer.id for layer in row.layers))


def _rows(room: Room, number: int) -> _Rows:
    kept = room.views.read(number, Selection(hashes=(*STATUS_HASHES, "rows"), arrays=STATUS_ARRAYS))
    rows = {int(field): msgspec.json.decode(data, type=Row) for field, data in kept.hashes["rows"].items()}
    numbers = np.frombuffer(kept.arrays["row_of"], dtype="<u4")
    return _Rows(PartitionReading(kept).set("live"), numbers, rows)
