"""`/v1/diff`: what changed between two points in time, with reasons and authors: of a device, a deployment or the fleet."""

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Annotated, Any, Literal, Self

import msgspec
import numpy as np
from fastapi import Query, Request
from msgspec import UNSET, field
from pyroaring import BitMap

from events.canonical import JsonObject
from events.deployment.errors import DeploymentNotFound
from events.deployment.state import decode
from events.device.errors import DeviceNotFound
from events.envelope import Envelope
from events.fleet.assignments import NO_ASSIGNMENT, Assignment, AssignmentChange, AssignmentStatus
from events.fleet.deployments import deployment_of
from events.history.point_in_time import PointInTime
from events.log.device_documents import registered_device
from events.log.errors import UnreadableEvent
from events.log.fleet_documents import deployments
from events.log.keys import FLEET, device_of, name, partition_of
from events.log.scan import EntryFilter, scan
from events.preview.difference import DifferenceKind, differences
from events.projection_store.fleet_projection import Effective
from events.rollout.state import ROLLOUT
from events.stored_projection.partition_reader import STATUS_ARRAYS, STATUS_HASHES, PartitionReading, ids_of, pages_of
from services.api.context.api_context import ApiContext
from services.api.context.point_in_time import AT_CHARACTERS_MAX, AT_FORM, AtMode, PastContexts
from services.api.http.access import REGISTRY_READ, TWIN_READ, Access
from services.api.http.errors import BodyInvalid
from services.api.http.json_answer import AnswerBody
from services.api.http.path_names import DEPLOYMENT, DEPLOYMENT_FORM, DEVICE, DEVICE_FORM
from services.api.http.request_costs import LONG
from services.api.v1.router import v1_router

router = v1_router()
EVENTS_MAX = 1000
"""An answer has the newest 1,000 events, and the number of all."""
_ASSIGNMENT_CHANGES = 500
DEVICES_MAX = 100
"""A list names its first 100 devices, and has the number of all."""


class DiffChange(AnswerBody):
    """A property that was removed, changed or added. `before` or `after` is `null` if there is none. Secrets appear as `***`."""

    section: str
    path: str
    how: DifferenceKind
    before: Any
    after: Any


class DiffDevices(AnswerBody):
    """The number of devices, and the first hundred of them."""

    count: int = 0
    devices: list[str] = field(default_factory=list)

    def add(self, context: ApiContext, number: int, ordinals: BitMap) -> None:
        """Add devices of a partition."""
        self.count += len(ordinals)
        named = BitMap(itertools.islice(ordinals, DEVICES_MAX - len(self.devices)))
        if named:
            fields = context.projections.read(number, fields=(("ids", pages_of(named)),))
            self.devices = sorted([*self.devices, *ids_of(named, fields)])


class DiffSides(AnswerBody):
    """The devices that left a list, and those that joined it."""

    lost: DiffDevices
    gained: DiffDevices


class DiffStatus(msgspec.Struct, frozen=True):
    """The status and the layers of an assignment."""

    status: AssignmentStatus
    layers: tuple[str, ...]


class DiffAssignment(AnswerBody):
    """Devices that changed from one assignment to another."""

    before: DiffStatus
    after: DiffStatus
    count: int
    devices: list[str]


class DiffDeployments(AnswerBody):
    """Deployments that were deleted, changed and created."""

    removed: list[str]
    changed: list[str]
    added: list[str]


class DiffEvent(AnswerBody):
    """An event or an assignment change in between: its position, time (milliseconds), author, type, subject and cause."""

    position: str
    at: int
    by: str
    type: str
    subject: str
    cause: str


class Diff(AnswerBody, kw_only=True):
    """What changed. Only a deployment and the fleet have `devices`, only the fleet has `deployments` and `assignments`.

    The fleet has no `changes`. `fromTime` and `toTime` are in milliseconds. `devices` has `target` and `actual` of a
    deployment, and `registered` of the fleet. `events` are the newest 1,000 of `eventCount`; `by` counts all of them by
    author.
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


_AT: Any = {"max_length": AT_CHARACTERS_MAX, "pattern": AT_FORM}
ThisDevice = Annotated[str | None, Query(description=f"Only this device: {DEVICE}.", json_schema_extra=DEVICE_FORM)]
ThisDeployment = Annotated[
    str | None, Query(description=f"Only this deployment: {DEPLOYMENT}.", json_schema_extra=DEPLOYMENT_FORM)
]


@router.get("/diff")
@Access(REGISTRY_READ | TWIN_READ, at="it has two points in time of its own, `from` and `to`", cost=LONG)
def diff(
    request: Request,
    *,
    first: Annotated[
        str, Query(alias="from", description="The earlier point in time, as `at`.", examples=["fleet:1"], **_AT)
    ],
    last: Annotated[
        str | None, Query(alias="to", description="The later point in time, as `at`. The default is now.", **_AT)
    ] = None,
    device: ThisDevice = None,
    deployment: ThisDeployment = None,
    mode: AtMode = "in-effect",
) -> Diff:
    """What changed between two points in time: removals first, with the events in between. Secrets appear as `***`."""
    if device is not None and deployment is not None:
        raise BodyInvalid(
            "`device` and `deployment` cannot both be set; a diff is of a device, a deployment or the fleet"
        )
    past: PastContexts = request.app.state.past
    before, after = past.point_in_time(first), past.point_in_time(last)
    behind = [stream for stream in before.positions if before.positions[stream] > after.positions[stream]]
    if behind or before.time > after.time:
        raise BodyInvalid(f"`to` ({after.text([FLEET])}) must not be before `from` ({before.text([FLEET])})")
    fleet = past.fleet_events()
    skipped = fleet.skipped(FLEET)
    envelopes = fleet.upto(after.positions[FLEET], after=before.positions[FLEET])
    events = tuple(envelope for envelope in envelopes if envelope.position not in skipped)
    both = _Both(past.context_at(before, mode), past.context_at(after, mode), before, after, events)
    if device is not None:
        return _of_device(both, device, skipped=fleet.skipped(partition_of(device, both.after.log.partitions)))
    return _of_fleet(both) if deployment is None else _of_deployment(both, deployment)


class _Both(msgspec.Struct, frozen=True):
    """The contexts of two points in time, these points, and the fleet's events between them."""

    before: ApiContext
    after: ApiContext
    first: PointInTime
    last: PointInTime
    fleet_events: tuple[Envelope[Any], ...]


def _diff(
    both: _Both,
    events: Iterable[DiffEvent],
    before: dict[str, JsonObject],
    after: dict[str, JsonObject],
    *,
    of: Literal["device", "deployment", "fleet"],
    subject: str | None,
    streams: Collection[int] | None = None,
) -> Diff:
    """A diff with its events, and with the changes from the sections `before` to those `after`."""
    streams, by = list(both.last.positions if streams is None else streams), Counter[str]()

    # Counted on the way: a month of events of a fleet would not fit into memory.
    def counted() -> Iterator[DiffEvent]:
        for event in events:
            by[event.by] += 1
            yield event

    return Diff(
        first=both.first.text(streams),
        from_time=both.first.time,
        to=both.last.text(streams),
        to_time=both.last.time,
        of=of,
        id=subject,
        changes=[
            DiffChange(change.module, change.path, change.how, change.before, change.after)
            for change in differences(before, after)
        ],
        events=heapq.nlargest(EVENTS_MAX, counted(), key=_order)[::-1],
        event_count=by.total(),
        by=dict(by.most_common()),
    )


def _order(event: DiffEvent) -> tuple[int, str, int]:
    stream, _, position = event.position.rpartition(":")
    return event.at, stream, int(position)


# -- a device


def _of_device(both: _Both, device_id: str, *, skipped: Collection[int] = ()) -> Diff:
    """The changes of a device's tags, properties, identity, assignment and configuration, with the events behind them.

    `skipped` are positions of its partition that an operator decided to skip.

    Raises:
        DeviceNotFound: the device did not exist at either point in time.
        UnreadableEvent: an entry of the device lacks a member that every event has.
    """
    if device_of(device_id) != device_id:
        raise DeviceNotFound(device_id)  # A module has a document as well, under a name of its own.
    effective = [context.fleet_projection.effective(device_id) for context in (both.before, both.after)]
    before, after = _sections(both.before, device_id, effective[0]), _sections(both.after, device_id, effective[1])
    if not before and not after:
        raise DeviceNotFound(device_id)
    layers = {layer.id for each in effective if each is not None for layer in each.assignment.layers}
    number = partition_of(device_id, both.after.log.partitions)
    events = itertools.chain(
        _events_of_device(both, device_id, number, skipped),
        _events_of_fleet(both, layers),
        _assignment_changes(both, device_id, number),
    )
    return _diff(both, events, before, after, of="device", subject=device_id, streams=(FLEET, number))


def _sections(context: ApiContext, device_id: str, effective: Effective | None) -> dict[str, JsonObject]:
    document = registered_device(context.log, device_id)
    if document is None:
        return {}
    sections: dict[str, JsonObject] = {
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
    if effective is not None:
        assignment = effective.assignment
        sections["assignment"] = {
            "status": assignment.status.value,
            "reason": assignment.reason,
            "layers": [layer.id for layer in assignment.stack],
            "versions": assignment.module_versions,
        }
        if effective.own_section is not None:
            sections["configured"] = effective.own_section
        sections |= {f"modules/{module}": section for module, section in effective.modules.items()}
    return sections


def _events_of_device(both: _Both, device_id: str, number: int, skipped: Collection[int]) -> Iterator[DiffEvent]:
    first, last, stream = both.first.positions[number], both.last.positions[number], name(number)
    entry_filter = EntryFilter(devices=frozenset({device_id}))
    # Of each entry only the fields: a property that is no longer decodable does not hide that there was an event.
    for entry in scan(both.after.streams, stream, entry_filter, after=first, upto=last):
        if entry.position in skipped:
            continue
        try:
            texts = (entry.fields[member].decode() for member in (b"by", b"type", b"subject", b"cause"))
            yield DiffEvent(f"{stream}:{entry.position}", int(entry.fields[b"at"]), *texts)
        except (KeyError, ValueError) as error:
            raise UnreadableEvent(stream, entry.position, str(error)) from error


def _events_of_fleet(both: _Both, deployment_ids: Collection[str] | None = None) -> Iterator[DiffEvent]:
    for envelope in both.fleet_events:
        if deployment_ids is None or deployment_of(envelope.subject) in deployment_ids:
            location, kind = f"{name(FLEET)}:{envelope.position}", type(envelope.event).__name__
            yield DiffEvent(location, envelope.at, str(envelope.by), kind, envelope.subject, envelope.cause)


def _assignment_changes(both: _Both, device_id: str, number: int) -> Iterator[DiffEvent]:
    after_or_before = (context.fleet_projection.assignment(device_id) for context in (both.after, both.before))
    device_assignment = next(filter(None, after_or_before), None)
    if device_assignment is None:
        return
    stream, after = f"{name(number)}:assignments", both.before.projections.checkpoint(number).assignment_changes
    while entries := both.after.projections.assignment_changes(number, after=after, limit=_ASSIGNMENT_CHANGES):
        after = entries[-1].position
        for entry in entries:
            assignment_change = msgspec.json.decode(entry.data, type=AssignmentChange)
            if device_assignment.ordinal in assignment_change.ordinals():
                location = f"{stream}:{entry.position}"
                yield DiffEvent(location, entry.at, "system:project", "AssignmentChange", device_id, entry.cause)


# -- a deployment


def _of_deployment(both: _Both, deployment_id: str) -> Diff:
    """The changes of a deployment's fields and rollout, the devices that it gained and lost, and the events behind them.

    Raises:
        DeploymentNotFound: the deployment did not exist at either point in time.
    """
    if ":" in deployment_id:
        raise DeploymentNotFound(deployment_id)  # A name with a colon is a subject of another kind, such as a rollout.
    before, after = (_fields(context, deployment_id) for context in (both.before, both.after))
    if not before and not after:
        raise DeploymentNotFound(deployment_id)
    events = _events_of_fleet(both, {deployment_id})
    diff = _diff(both, events, before, after, of="deployment", subject=deployment_id)
    for status in ("target", "actual"):
        diff.devices[status] = sides = DiffSides(DiffDevices(), DiffDevices())
        for number in range(both.after.log.partitions):
            stored_sides = (
                context.projections.read(number, hashes=STATUS_HASHES, arrays=STATUS_ARRAYS)
                for context in (both.before, both.after)
            )
            old, new = (PartitionReading(stored).status(deployment_id).named()[status] for stored in stored_sides)
            sides.lost.add(both.before, number, old - new)
            sides.gained.add(both.after, number, new - old)
    return diff


def _fields(context: ApiContext, deployment_id: str) -> dict[str, JsonObject]:
    stored, rolled = context.log.load([deployment_id, ROLLOUT + deployment_id], fleet=True)
    if stored.snapshot is None:
        return {}
    document = decode(stored.snapshot)
    fields: dict[str, JsonObject] = {
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
    if rolled.snapshot is not None:
        rollout = msgspec.json.decode(rolled.snapshot)
        fields["rollout"] = {member: rollout.get(member) for member in ("state", "phase", "reason", "rollback")}
    return fields


# -- the fleet


def _of_fleet(both: _Both) -> Diff:
    """The deployments and devices that were added and removed, the changes of assignments, and the fleet's events."""
    diff = _diff(both, _events_of_fleet(both), {}, {}, of="fleet", subject=None)
    diff.devices["registered"] = sides = DiffSides(DiffDevices(), DiffDevices())
    moved: defaultdict[tuple[DiffStatus, DiffStatus], DiffDevices] = defaultdict(DiffDevices)
    for number in range(both.after.log.partitions):
        old, new = (_PartitionAssignments.read(context, number) for context in (both.before, both.after))
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


class _PartitionAssignments(msgspec.Struct, frozen=True):
    """The registered devices of a partition, and the assignment of each, by its number in `assignments`."""

    live: BitMap
    numbers: Any
    assignments: dict[int, Assignment]

    @classmethod
    def read(cls, context: ApiContext, number: int) -> Self:
        """The assignments of a partition at the point in time of a context."""
        stored = context.projections.read(number, hashes=(*STATUS_HASHES, "assignments"), arrays=STATUS_ARRAYS)
        by_number = stored.hashes["assignments"].items()
        assignments = {int(field): msgspec.json.decode(data, type=Assignment) for field, data in by_number}
        numbers = np.frombuffer(stored.arrays["assignment_of"], dtype="<u4")
        return cls(PartitionReading(stored).set("live"), numbers, assignments)

    def numbers_of(self, ordinals: Any) -> Any:
        """The number of each device's assignment."""
        # The array ends with the last ordinal that had an assignment. A later one has none, which is number 0.
        size = max(len(self.numbers), int(ordinals.max()) + 1 if len(ordinals) else 0)
        return np.pad(self.numbers, (0, size - len(self.numbers)))[ordinals]

    def moved_to(self, later: Self) -> Iterator[tuple[tuple[DiffStatus, DiffStatus], BitMap]]:
        """The devices that are registered in both and changed, by their assignment before and after."""
        # Arrays and not a loop over devices: a partition can have a hundred thousand devices and a few assignments.
        both = np.array(self.live & later.live, dtype=np.uint32)
        pairs = np.stack([self.numbers_of(both), later.numbers_of(both)], axis=1)
        for before, after in np.unique(pairs, axis=0).tolist() if len(both) else ():
            old, new = self.assignments.get(before, NO_ASSIGNMENT), later.assignments.get(after, NO_ASSIGNMENT)
            # The number of an assignment is not the same at two points in time, so that the assignments are compared.
            if old != new:
                status_before, status_after = (
                    DiffStatus(each.status, tuple(layer.id for layer in each.layers)) for each in (old, new)
                )
                members = BitMap(both[(pairs[:, 0] == before) & (pairs[:, 1] == after)])
                yield (status_before, status_after), members
