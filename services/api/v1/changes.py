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
from events.fleet.assignment_change import AssignmentChange
from events.fleet.assignments import NO_ASSIGNMENT, Assignment, AssignmentStatus
from events.fleet.deployments import deployment_of
from events.history.point_in_time import PointInTime
from events.log.device_documents import registered_device
from events.log.errors import UnreadableEvent
from events.log.fleet_documents import deployments
from events.log.keys import FLEET, device_of, name, partition_of
from events.log.scan import EntryFilter, scan
from events.preview.difference import DifferenceKind, differences
from events.projection_store.port import ProjectionSelection
from events.rollout.state import ROLLOUT
from events.stored_projection.partition_reader import STATUS_ARRAYS, STATUS_HASHES, PartitionReading, ids_of, pages_of
from services.api.context.api_context import ApiContext
from services.api.http.json_answer import AnswerBody

SHOWN_MAX = 100
"""Devices of a list that are named; every list says how many there are."""
EVENTS_MAX = 1000
"""Events that are told, the newest ones; the answer says how many there are."""
_STATUSES = ("target", "actual")
_ASSIGNMENT_CHANGES = 500


class Between(msgspec.Struct, frozen=True):
    """Two moments of a fleet: the rooms of both, and the fleet's events that lie between."""

    before: ApiContext
    after: ApiContext
    fleet_events: tuple[Envelope[Any], ...]

    @property
    def points_in_time(self) -> tuple[PointInTime, PointInTime]:
        """When."""
        assert self.before.point_in_time is not None
        assert self.after.point_in_time is not None
        return self.before.point_in_time, self.after.point_in_time


# -- the answer


class DiffChange(AnswerBody):
    """One property, removals first; `before` and `after` are `null` where there is none. Secrets show as `***`."""

    section: str
    path: str
    how: DifferenceKind
    before: Any
    after: Any


class DiffDevices(AnswerBody):
    """How many devices, and the first hundred of them."""

    count: int = 0
    devices: list[str] = field(default_factory=list)

    def add(self, context: ApiContext, number: int, ordinals: BitMap) -> None:
        """Add some of a partition."""
        self.count += len(ordinals)
        named = BitMap(itertools.islice(ordinals, SHOWN_MAX - len(self.devices)))
        if named:
            fields = context.projections.read(number, ProjectionSelection(fields=(("ids", pages_of(named)),)))
            self.devices = sorted([*self.devices, *ids_of(named, fields)])


class DiffSides(AnswerBody):
    """The devices that left a list, and those that joined it."""

    lost: DiffDevices
    gained: DiffDevices


class DiffStatus(msgspec.Struct, frozen=True):
    """How devices stood, and what they ran."""

    status: AssignmentStatus
    layers: tuple[str, ...]


class DiffAssignment(AnswerBody):
    """Devices that went from one assignment to another."""

    before: DiffStatus
    after: DiffStatus
    count: int
    devices: list[str]


class DiffDeployments(AnswerBody):
    """Deployments that were deleted, edited and created."""

    removed: list[str]
    changed: list[str]
    added: list[str]


class DiffEvent(AnswerBody):
    """An event or an assignment change in between: where it stands, when (milliseconds), who, what, and its cause."""

    position: str
    at: int
    by: str
    type: str
    subject: str
    cause: str


class Diff(AnswerBody, kw_only=True):
    """What changed; a device has no `devices`, the fleet no `changes`, and it alone `deployments` and `assignments`.

    `fromTime` and `toTime` are in milliseconds. `devices` has `target` and `actual` of a deployment, and who is `registered`
    of the fleet. `events` are the newest thousand of `eventCount`, `by` counts all of them by their author.
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
    events: list[DiffEvent]
    event_count: int
    by: dict[str, int]


def _diff(
    both: Between,
    events: Iterable[DiffEvent],
    *,
    of: Literal["device", "deployment", "fleet"],
    subject: str | None,
    streams: Collection[int] | None = None,
) -> Diff:
    """A diff without its changes; of the events no more are in memory at once than it names."""
    before, after = both.points_in_time
    streams, by = list(after.positions if streams is None else streams), Counter[str]()

    def counted() -> Iterator[DiffEvent]:
        for event in events:
            by[event.by] += 1
            yield event

    return Diff(
        first=before.text(streams),
        from_time=before.time,
        to=after.text(streams),
        to_time=after.time,
        of=of,
        id=subject,
        events=heapq.nlargest(EVENTS_MAX, counted(), key=_order)[::-1],
        event_count=by.total(),
        by=dict(by.most_common()),
    )


def _order(event: DiffEvent) -> tuple[int, str, int]:
    stream, _, position = event.position.rpartition(":")
    return event.at, stream, int(position)


def _changes(before: dict[str, JsonObject], after: dict[str, JsonObject]) -> list[DiffChange]:
    return [
        DiffChange(change.module, change.path, change.how, change.before, change.after)
        for change in differences(before, after)
    ]


# -- a device


def of_device(both: Between, device_id: str, *, skipped: Collection[int] = ()) -> Diff:
    """A device's tags, properties, identity, standing and configuration, with the events and assignment changes that changed them.

    `skipped` are positions of its partition that an operator decided to leave out.

    Raises:
        DeviceNotFound: it was there at neither moment.
        UnreadableEvent: an entry of it lacks what events have.
    """
    if device_of(device_id) != device_id:
        raise DeviceNotFound(device_id)  # A module has a document as well.
    before, after = _sections(both.before, device_id), _sections(both.after, device_id)
    if not before and not after:
        raise DeviceNotFound(device_id)
    layers = {one for context in (both.before, both.after) for one in _layers(context, device_id)}
    number = partition_of(device_id, both.after.log.partitions)
    events = itertools.chain(
        _events_of_device(both, device_id, number, skipped),
        _events_of_fleet(both, layers),
        _assignment_changes(both, device_id, number),
    )
    diff = _diff(both, events, of="device", subject=device_id, streams=(FLEET, number))
    diff.changes = _changes(before, after)
    return diff


def _sections(context: ApiContext, device_id: str) -> dict[str, JsonObject]:
    document = registered_device(context.log, device_id)
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
    effective = context.fleet_projection.effective(device_id)
    if effective is not None:
        assignment = effective.assignment
        found["assignment"] = {
            "status": assignment.status.value,
            "reason": assignment.reason,
            "layers": [layer.id for layer in assignment.stack],
            "versions": assignment.module_versions,
        }
        if effective.own is not None:
            found["configured"] = effective.own
        found |= {f"modules/{module}": section for module, section in effective.modules.items()}
    return found


def _layers(context: ApiContext, device_id: str) -> set[str]:
    effective = context.fleet_projection.effective(device_id)
    return set() if effective is None else {layer.id for layer in effective.assignment.layers}


def _events_of_device(both: Between, device_id: str, number: int, skipped: Collection[int]) -> Iterator[DiffEvent]:
    first, last = (point_in_time.positions[number] for point_in_time in both.points_in_time)
    stream = name(number)
    wanted = EntryFilter(devices=frozenset({device_id}))
    for entry in scan(both.after.streams, stream, wanted, after=first, upto=last):
        if entry.position in skipped:
            continue
        try:
            by, kind, subject, cause = (
                entry.fields[member].decode() for member in (b"by", b"type", b"subject", b"cause")
            )
            at = int(entry.fields[b"at"])
            yield DiffEvent(f"{stream}:{entry.position}", at, by, kind, subject, cause)
        except (KeyError, ValueError) as error:
            raise UnreadableEvent(stream, entry.position, str(error)) from error


def _events_of_fleet(both: Between, deployment_ids: Collection[str] | None = None) -> Iterator[DiffEvent]:
    for envelope in both.fleet_events:
        if deployment_ids is None or deployment_of(envelope.subject) in deployment_ids:
            location, kind = f"{name(FLEET)}:{envelope.position}", type(envelope.event).__name__
            yield DiffEvent(location, envelope.at, str(envelope.by), kind, envelope.subject, envelope.cause)


def _assignment_changes(both: Between, device_id: str, number: int) -> Iterator[DiffEvent]:
    found = both.after.fleet_projection.assignment(device_id) or both.before.fleet_projection.assignment(device_id)
    if found is None:
        return
    stream, after = f"{name(number)}:assignments", both.before.projections.checkpoint(number).assignment_changes
    while entries := both.after.projections.assignment_changes(number, after=after, limit=_ASSIGNMENT_CHANGES):
        after = entries[-1].position
        for entry in entries:
            assignment_change = msgspec.json.decode(entry.data, type=AssignmentChange)
            if found.ordinal in assignment_change.ordinals():
                location = f"{stream}:{entry.position}"
                yield DiffEvent(location, entry.at, "system:project", "AssignmentChange", device_id, entry.cause)


# -- a deployment


def of_deployment(both: Between, deployment_id: str) -> Diff:
    """A deployment's fields and rollout, the devices that it gained and lost, and the events that changed it.

    Raises:
        DeploymentNotFound: it stood at neither moment.
    """
    if ":" in deployment_id:
        raise DeploymentNotFound(deployment_id)  # What has a colon in its name is another kind of subject.
    before, after = (_fields(context, deployment_id) for context in (both.before, both.after))
    if not before and not after:
        raise DeploymentNotFound(deployment_id)
    diff = _diff(both, _events_of_fleet(both, {deployment_id}), of="deployment", subject=deployment_id)
    diff.changes = _changes(before, after)
    for status in _STATUSES:
        diff.devices[status] = sides = DiffSides(DiffDevices(), DiffDevices())
        for number in range(both.after.log.partitions):
            old, new = (_status(context, number, deployment_id, status) for context in (both.before, both.after))
            sides.lost.add(both.before, number, old - new)
            sides.gained.add(both.after, number, new - old)
    return diff


def _status(context: ApiContext, number: int, deployment_id: str, status: str) -> BitMap:
    kept = context.projections.read(number, ProjectionSelection(hashes=STATUS_HASHES, arrays=STATUS_ARRAYS))
    return PartitionReading(kept).status(deployment_id).named()[status]


def _fields(context: ApiContext, deployment_id: str) -> dict[str, JsonObject]:
    stored, rolled = context.log.load([deployment_id, ROLLOUT + deployment_id], fleet=True)
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
    """The deployments and devices that came and went, whose assignment changed from what to what, and the fleet's events."""
    diff = _diff(both, _events_of_fleet(both), of="fleet", subject=None)
    diff.devices["registered"] = sides = DiffSides(DiffDevices(), DiffDevices())
    moved: defaultdict[tuple[DiffStatus, DiffStatus], DiffDevices] = defaultdict(DiffDevices)
    for number in range(both.after.log.partitions):
        old, new = (_assignments(context, number) for context in (both.before, both.after))
        sides.lost.add(both.before, number, old.live - new.live)
        sides.gained.add(both.after, number, new.live - old.live)
        for pair, members in old.moved_to(new):
            moved[pair].add(both.after, number, members)
    most_devices_first = sorted(moved.items(), key=lambda item: (-item[1].count, msgspec.json.encode(item[0])))
    diff.assignments = [DiffAssignment(*pair, devices.count, devices.devices) for pair, devices in most_devices_first]
    before, after = (dict(deployments(context.log)) for context in (both.before, both.after))
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
    assignments: dict[int, Assignment]

    def moved_to(self, other: "_Rows") -> Iterator[tuple[tuple[DiffStatus, DiffStatus], BitMap]]:
        """Those that are registered in both and do not run the same, by what they ran and run."""
        both = np.array(self.live & other.live, dtype=np.uint32)
        pairs = np.stack([_taken(self.numbers, both), _taken(other.numbers, both)], axis=1)
        for was, is_ in np.unique(pairs, axis=0).tolist() if len(both) else ():
            old, new = self.assignments.get(was, NO_ASSIGNMENT), other.assignments.get(is_, NO_ASSIGNMENT)
            if old != new:
                members = BitMap(both[(pairs[:, 0] == was) & (pairs[:, 1] == is_)])
                yield (_diff_status(old), _diff_status(new)), members


def _taken(numbers: Any, ordinals: Any) -> Any:
    padded = np.zeros(max(len(numbers), int(ordinals.max()) + 1 if len(ordinals) else 0), dtype=np.uint32)
    padded[: len(numbers)] = numbers
    return padded[ordinals]


def _diff_status(assignment: Assignment) -> DiffStatus:
    return DiffStatus(assignment.status, tuple(layer.id for layer in assignment.layers))


def _assignments(context: ApiContext, number: int) -> _Rows:
    kept = context.projections.read(
        number, ProjectionSelection(hashes=(*STATUS_HASHES, "assignments"), arrays=STATUS_ARRAYS)
    )
    assignments = {
        int(field): msgspec.json.decode(data, type=Assignment) for field, data in kept.hashes["assignments"].items()
    }
    numbers = np.frombuffer(kept.arrays["assignment_of"], dtype="<u4")
    return _Rows(PartitionReading(kept).set("live"), numbers, assignments)
