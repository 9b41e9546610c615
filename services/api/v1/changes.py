"""The differences between two points in time, with the events behind them: of a device, of a deployment, of the fleet."""

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET
from pyroaring import BitMap

from events.canonical import JsonObject
from events.deployment.errors import DeploymentNotFound
from events.deployment.state import DeploymentDocument, decode
from events.device.errors import DeviceNotFound
from events.envelope import Envelope
from events.fleet.assignment_change import AssignmentChange
from events.fleet.assignments import NO_ASSIGNMENT, Assignment
from events.fleet.deployments import deployment_of
from events.history.point_in_time import PointInTime
from events.log.device_documents import registered_device
from events.log.errors import UnreadableEvent
from events.log.fleet_documents import deployments
from events.log.keys import FLEET, device_of, name, partition_of
from events.log.scan import EntryFilter, scan
from events.preview.difference import differences
from events.projection_store.port import ProjectionSelection
from events.rollout.state import ROLLOUT
from events.stored_projection.partition_reader import STATUS_ARRAYS, STATUS_HASHES, PartitionReading
from services.api.context.api_context import ApiContext
from services.api.v1.diff_answer import (
    Diff,
    DiffAssignment,
    DiffChange,
    DiffDeployments,
    DiffDevices,
    DiffEvent,
    DiffSides,
    DiffStatus,
)

EVENTS_MAX = 1000
"""An answer has the newest 1,000 events, and the number of all."""
_STATUSES = ("target", "actual")
_ASSIGNMENT_CHANGES = 500


class ComparedContexts(msgspec.Struct, frozen=True):
    """The contexts of two points in time, and the fleet's events between them."""

    before: ApiContext
    after: ApiContext
    fleet_events: tuple[Envelope[Any], ...]

    @property
    def points_in_time(self) -> tuple[PointInTime, PointInTime]:
        """The two points in time."""
        assert self.before.point_in_time is not None
        assert self.after.point_in_time is not None
        return self.before.point_in_time, self.after.point_in_time


def _diff(
    both: ComparedContexts,
    events: Iterable[DiffEvent],
    *,
    of: Literal["device", "deployment", "fleet"],
    subject: str | None,
    streams: Collection[int] | None = None,
) -> Diff:
    """A diff with its events, without its changes."""
    before, after = both.points_in_time
    streams, by = list(after.positions if streams is None else streams), Counter[str]()

    # Counted on the way: a month of events of a fleet would not fit into memory.
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


def of_device(both: ComparedContexts, device_id: str, *, skipped: Collection[int] = ()) -> Diff:
    """The changes of a device's tags, properties, identity, assignment and configuration, with the events behind them.

    `skipped` are positions of its partition that an operator decided to skip.

    Raises:
        DeviceNotFound: the device did not exist at either point in time.
        UnreadableEvent: an entry of the device lacks a member that every event has.
    """
    if device_of(device_id) != device_id:
        raise DeviceNotFound(device_id)  # A module has a document as well, under a name of its own.
    before, after = _sections(both.before, device_id), _sections(both.after, device_id)
    if not before and not after:
        raise DeviceNotFound(device_id)
    layers = {deployment_id for context in (both.before, both.after) for deployment_id in _layers(context, device_id)}
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
    effective = context.fleet_projection.effective(device_id)
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


def _layers(context: ApiContext, device_id: str) -> set[str]:
    effective = context.fleet_projection.effective(device_id)
    return set() if effective is None else {layer.id for layer in effective.assignment.layers}


def _events_of_device(
    both: ComparedContexts, device_id: str, number: int, skipped: Collection[int]
) -> Iterator[DiffEvent]:
    first, last = (point_in_time.positions[number] for point_in_time in both.points_in_time)
    stream = name(number)
    entry_filter = EntryFilter(devices=frozenset({device_id}))
    # Of each entry only the fields: a property that is no longer decodable does not hide that there was an event.
    for entry in scan(both.after.streams, stream, entry_filter, after=first, upto=last):
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


def _events_of_fleet(both: ComparedContexts, deployment_ids: Collection[str] | None = None) -> Iterator[DiffEvent]:
    for envelope in both.fleet_events:
        if deployment_ids is None or deployment_of(envelope.subject) in deployment_ids:
            location, kind = f"{name(FLEET)}:{envelope.position}", type(envelope.event).__name__
            yield DiffEvent(location, envelope.at, str(envelope.by), kind, envelope.subject, envelope.cause)


def _assignment_changes(both: ComparedContexts, device_id: str, number: int) -> Iterator[DiffEvent]:
    device_assignment = both.after.fleet_projection.assignment(device_id) or both.before.fleet_projection.assignment(
        device_id
    )
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


def of_deployment(both: ComparedContexts, deployment_id: str) -> Diff:
    """The changes of a deployment's fields and rollout, the devices that it gained and lost, and the events behind them.

    Raises:
        DeploymentNotFound: the deployment did not exist at either point in time.
    """
    if ":" in deployment_id:
        raise DeploymentNotFound(deployment_id)  # A name with a colon is a subject of another kind, such as a rollout.
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
    stored = context.projections.read(number, ProjectionSelection(hashes=STATUS_HASHES, arrays=STATUS_ARRAYS))
    return PartitionReading(stored).status(deployment_id).named()[status]


def _fields(context: ApiContext, deployment_id: str) -> dict[str, JsonObject]:
    stored, rolled = context.log.load([deployment_id, ROLLOUT + deployment_id], fleet=True)
    if stored.snapshot is None:
        return {}
    fields = _fields_of(decode(stored.snapshot))
    if rolled.snapshot is not None:
        rollout = msgspec.json.decode(rolled.snapshot)
        fields["rollout"] = {member: rollout.get(member) for member in ("state", "phase", "reason", "rollback")}
    return fields


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


def of_fleet(both: ComparedContexts) -> Diff:
    """The deployments and devices that were added and removed, the changes of assignments, and the fleet's events."""
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


class _PartitionAssignments(msgspec.Struct, frozen=True):
    """The registered devices of a partition, and the assignment of each, by its number in `assignments`."""

    live: BitMap
    numbers: Any
    assignments: dict[int, Assignment]

    def moved_to(self, later: "_PartitionAssignments") -> Iterator[tuple[tuple[DiffStatus, DiffStatus], BitMap]]:
        """The devices that are registered in both and changed, by their assignment before and after."""
        # Arrays and not a loop over devices: a partition can have a hundred thousand devices and a few assignments.
        both = np.array(self.live & later.live, dtype=np.uint32)
        pairs = np.stack([_numbers_of(both, self.numbers), _numbers_of(both, later.numbers)], axis=1)
        for before, after in np.unique(pairs, axis=0).tolist() if len(both) else ():
            old, new = self.assignments.get(before, NO_ASSIGNMENT), later.assignments.get(after, NO_ASSIGNMENT)
            # The number of an assignment is not the same at two points in time, so that the assignments are compared.
            if old != new:
                members = BitMap(both[(pairs[:, 0] == before) & (pairs[:, 1] == after)])
                yield (_diff_status(old), _diff_status(new)), members


def _numbers_of(ordinals: Any, numbers: Any) -> Any:
    # The array ends with the last ordinal that had an assignment. A later one has none, which is number 0.
    padded = np.zeros(max(len(numbers), int(ordinals.max()) + 1 if len(ordinals) else 0), dtype=np.uint32)
    padded[: len(numbers)] = numbers
    return padded[ordinals]


def _diff_status(assignment: Assignment) -> DiffStatus:
    return DiffStatus(assignment.status, tuple(layer.id for layer in assignment.layers))


def _assignments(context: ApiContext, number: int) -> _PartitionAssignments:
    stored = context.projections.read(
        number, ProjectionSelection(hashes=(*STATUS_HASHES, "assignments"), arrays=STATUS_ARRAYS)
    )
    assignments = {
        int(field): msgspec.json.decode(data, type=Assignment) for field, data in stored.hashes["assignments"].items()
    }
    numbers = np.frombuffer(stored.arrays["assignment_of"], dtype="<u4")
    return _PartitionAssignments(PartitionReading(stored).set("live"), numbers, assignments)
