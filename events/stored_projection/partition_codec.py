"""Converts a partition in memory to its stored form and back."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET
from pyroaring import BitMap

from events import canonical
from events.bitmaps import from_bytes, to_bytes
from events.canonical import JsonObject
from events.envelope import Envelope, Vector
from events.fleet.answers import Combinations, Deliveries, Signature
from events.fleet.assignments import UNASSIGNED, Assignment, AssignmentChange, Layer, MergeCache
from events.fleet.configuration import Configuration
from events.fleet.deployment_status import Applied, DeploymentCounts
from events.fleet.deployments import targeting_events
from events.fleet.packed import PAGE_ITEMS, Packed
from events.fleet.partition import Partition
from events.manifest.document import ContentKind
from events.readiness.effective import read_findings
from events.stored_projection.stored_partition import (
    AssignmentEntry,
    Checkpoint,
    DeploymentRank,
    StoredPartition,
    Writes,
    all_device_ids,
    target_field,
)

_json = msgspec.json
IndexField = tuple[tuple[str, ...], str, JsonObject | str | float | bool | None]
"""The path, the kind and the value of a field of the hash `index`."""

_K = TypeVar("_K")
_V = TypeVar("_V")


def checkpoint_of(partition: Partition) -> Checkpoint:
    """The checkpoint of a partition's state."""
    return Checkpoint(
        partition.vector,
        partition.at,
        partition.assignment_changes,
        partition.decided,
        len(partition.directory.ids),
        partition.assignments.next_number,
        partition.answers.signatures.next_number,
        partition.answers.deliveries.next_number,
        tuple(sorted(partition.index.over_budget)),
        tuple(sorted(partition.deployments.named_paths())),
        True if partition.deployments.has_had_own else UNSET,
        partition.hand_writes,
        partition.rebuilt,
        partition.own_event,
        partition.fleet_event,
    )


def writes_of(
    partition: Partition,
    assignment_change: AssignmentChange | None,
    *,
    expected: Checkpoint,
    recorded: int | None = None,
) -> Writes:
    """Everything that changed since the last call; the partition counts as stored afterwards.

    `recorded` is the time at which the assignment change is recorded (milliseconds), if it is known.
    """
    checkpoint = checkpoint_of(partition)
    entry = None
    if assignment_change is not None:
        cause = cause_of(partition.number, assignment_change.before, assignment_change.after)
        # The clocks of two hosts differ, and an assignment change must not be recorded before its events.
        recorded = None if recorded is None else max(recorded, partition.at)
        data, position = canonical.encode(assignment_change), partition.assignment_changes
        entry = AssignmentEntry(position, partition.at, cause, data, recorded)
    arrays = {name: tuple(packed.changes()) for name, packed in _arrays(partition).items()}
    hashes = _changed_hashes(partition)
    return Writes(
        expected,
        checkpoint,
        {name: fields for name, fields in hashes.items() if fields},
        {name: ranges for name, ranges in arrays.items() if ranges},
        entry,
    )


def cause_of(number: int, before: Vector, after: Vector) -> str:
    """The events between two vectors as the cause of an assignment change: `p03:101-117 fleet:4-4`."""
    spans = [(f"p{number:02d}", before.partition, after.partition), ("fleet", before.fleet, after.fleet)]
    return " ".join(f"{name}:{first + 1}-{last}" for name, first, last in spans if last > first)


def _arrays(partition: Partition) -> dict[str, Packed]:
    answers = partition.answers
    return {
        "answer_codes": answers.agent.codes,
        "answer_runtimes": answers.runtime_of,
        "answer_signatures": answers.signature_of,
        "answer_versions": answers.agent.versions,
        "delivered_of": answers.delivered_of,
        "hand_written": partition.hand_written,
        "hub_codes": answers.hub.codes,
        "hub_versions": answers.hub.versions,
        "moved_by": partition.moved_by,
        "assignment_of": partition.assignment_of,
        "twin_versions": partition.twin_versions,
    }


def _changed_hashes(partition: Partition) -> dict[str, dict[str, bytes | None]]:
    directory, assignments, answers = partition.directory, partition.assignments, partition.answers
    notes, configurations = partition.notes, assignments.configurations
    readiness = {digest: _findings(configurations.get(digest)) for digest in assignments.changed_configurations}
    return {
        "already": _drained(
            notes.changed_already,
            lambda layer: target_field(layer.created, layer.id),
            lambda layer: _set_bytes(notes.already.get(layer)),
        ),
        "applied": _drained(
            partition.statuses.changed_applied,
            lambda pair: target_field(*pair),
            lambda pair: _applied(partition, *pair),
        ),
        "before": _drained(
            notes.changed_before,
            lambda pair: canonical.encode([pair[0].created, pair[0].id, pair[1]]).decode(),
            lambda pair: _set_bytes(notes.before.get(pair[0], {}).get(pair[1])),
        ),
        "children": _drained_sets(partition.children.changed, partition.children.of),
        "configurations": _drained_values(
            assignments.changed_configurations,
            configurations,
            lambda configuration: canonical.encode(configuration.sections),
        ),
        "counts": _drained_values(
            partition.statuses.changed_counts, partition.statuses.counts, lambda counts: counts.to_bytes()
        ),
        "deployments": _drained(
            partition.changed_deployments, lambda pair: target_field(*pair), lambda pair: _rank(partition, *pair)
        ),
        "ids": _drained(
            directory.changed_pages,
            str,
            lambda page: canonical.encode(directory.ids[page * PAGE_ITEMS : (page + 1) * PAGE_ITEMS]),
        ),
        "index": {index_field(path, key): _set_bytes(members) for path, key, members in partition.index.changes()},
        "metrics": _drained(
            partition.metrics.changed,
            lambda name: metric_field(*name),
            lambda name: _number_bytes(partition.metrics.count(name)),
        ),
        "modules": _drained_sets(partition.changed_modules, partition.modules),
        "ordinals": _drained(directory.changed_ids, str, lambda name: _number_bytes(directory.ordinal_of.get(name))),
        "readiness": readiness,
        "assignments": _drained_values(assignments.changed_assignments, assignments.by_number, canonical.encode),
        "sets": _changed_sets(partition),
        "deliveries": _drained_values(answers.deliveries.changed, answers.deliveries.by_number, canonical.encode),
        "signatures": _drained_values(answers.signatures.changed, answers.signatures.by_number, canonical.encode),
        "undelivered": _drained_sets(answers.changed_undelivered, answers.undelivered),
        "targets": _drained(
            partition.targets.changed, lambda pair: target_field(*pair), lambda pair: _target(partition, *pair)
        ),
    }


def _drained(
    changed: set[_K], field: Callable[[_K], str], data: Callable[[_K], bytes | None]
) -> dict[str, bytes | None]:
    """The fields and bytes of the changed members; `changed` is empty afterwards."""
    fields = {field(member): data(member) for member in changed}
    changed.clear()
    return fields


def _drained_values(
    changed: set[_K], values: Mapping[_K, _V], encode: Callable[[_V], bytes]
) -> dict[str, bytes | None]:
    return _drained(changed, str, lambda member: encode(values[member]) if member in values else None)


def _drained_sets(changed: set[str], sets: Mapping[str, BitMap]) -> dict[str, bytes | None]:
    return _drained(changed, str, lambda name: _set_bytes(sets.get(name)))


def _set_bytes(members: BitMap | None) -> bytes | None:
    return to_bytes(members) if members else None


def _number_bytes(number: int | None) -> bytes | None:
    return None if number is None else str(number).encode()


def _target(partition: Partition, created: int, name: str) -> bytes | None:
    deployment = partition.deployments.by_id.get(name.partition("/")[0])
    members = partition.targets.stored(name) if deployment is not None and deployment.created == created else None
    return None if members is None else to_bytes(members)


def _applied(partition: Partition, created: int, name: str) -> bytes | None:
    stored_created, sets = partition.statuses.applied.get(name.partition("/")[0], (created, {}))
    return sets[name].to_bytes() if stored_created == created and name in sets else None


def _rank(partition: Partition, created: int, name: str) -> bytes | None:
    deployment = partition.deployments.by_id.get(name)
    if deployment is None or deployment.created != created:
        return None
    own, admission = deployment.kind is not ContentKind.EDGE, type(deployment.admission).__name__
    return DeploymentRank(deployment.priority, deployment.layered, admission, own, deployment.module).to_bytes()


def _findings(configuration: Configuration | None) -> bytes | None:
    return configuration.findings.to_bytes() if configuration is not None and configuration.is_of_modules else None


def _changed_sets(partition: Partition) -> dict[str, bytes | None]:
    directory = partition.directory
    # These sets change in place with many events, so their bytes are compared instead of noting each change.
    now = {"live": directory.live, "edge": directory.edge, "enabled": directory.enabled, **partition.answers.sets}
    changed: dict[str, bytes | None] = {}
    for name, members in now.items():
        data = to_bytes(members)
        if partition.stored_sets.get(name) != data:
            changed[name] = partition.stored_sets[name] = data
    return changed


def index_field(path: tuple[str, ...], key: tuple[str, object]) -> str:
    """The field of the `index` hash with the set of a path and a typed value."""
    # A condition does not distinguish 1 from 1.0, so both have one field.
    kind, value = key
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return canonical.encode([path, kind, value]).decode()


def metric_field(created: int, deployment_id: str, name: str) -> str:
    """The field of the `metrics` hash with the number of rows of a custom metric."""
    return canonical.encode((created, deployment_id, name)).decode()


def restore(
    number: int, stored: StoredPartition, fleet_events: Iterable[Envelope[Any]], merge: MergeCache | None = None
) -> Partition:
    """The partition of a stored form. `fleet_events` are the fleet's events from the first to the checkpoint's vector."""
    partition = Partition(number, merge)
    checkpoint = stored.checkpoint
    partition.vector, partition.at = checkpoint.vector, checkpoint.at
    partition.assignment_changes, partition.decided = checkpoint.assignment_changes, checkpoint.decided
    partition.rebuilt = checkpoint.rebuilt
    partition.own_event, partition.fleet_event = checkpoint.own_event, checkpoint.fleet_event
    hashes, sets = stored.hashes, stored.hashes["sets"]
    partition.stored_sets = dict(sets)
    live, edge, enabled = (from_bytes(sets[name]) if name in sets else BitMap() for name in ("live", "edge", "enabled"))
    partition.directory.restore(all_device_ids(hashes["ids"]), live, edge, enabled)
    partition.modules.update({name: from_bytes(data) for name, data in hashes["modules"].items()})
    partition.children.restore({scope: from_bytes(data) for scope, data in hashes["children"].items()})
    # Deployments are not stored with each partition: they follow from the fleet's events, which are few beside the devices'.
    partition.deployments.apply(targeting_events(fleet_events))
    partition.index.over_budget = set(checkpoint.over_budget)
    for field, data in hashes["index"].items():
        path, kind, value = _json.decode(field, type=IndexField)
        partition.index.restore(path, (kind, value), from_bytes(data))
    partition.index.name(partition.deployments.named_paths())
    partition.targets.restore({field.partition(":")[2]: from_bytes(data) for field, data in hashes["targets"].items()})
    for name, packed in _arrays(partition).items():
        packed.load(stored.arrays.get(name, b""))
    for field, data in hashes["already"].items():
        created, _, name = field.partition(":")
        partition.notes.already[Layer(name, int(created))] = from_bytes(data)
    _restore_assignments(partition, hashes)
    for field, data in hashes["before"].items():
        at, deployment_id, digest = _json.decode(field, type=tuple[int, str, str])
        partition.notes.before.setdefault(Layer(deployment_id, at), {})[digest] = from_bytes(data)
        partition.assignments.hold(digest)
    _restore_answers(partition, hashes)
    _restore_statuses(partition, hashes)
    partition.assignments.next_number = checkpoint.next_assignment
    partition.answers.signatures.next_number = checkpoint.next_signature
    partition.answers.deliveries.next_number = checkpoint.next_delivery
    partition.hand_writes = checkpoint.hand_writes
    # Only the counts of metrics are stored; the rows follow from the index and the assignments (docs/decisions/0020).
    partition.metrics.fill()
    return partition


def _restore_assignments(partition: Partition, hashes: dict[str, dict[str, bytes]]) -> None:
    assignments = partition.assignments
    for data in hashes["configurations"].values():
        configuration = Configuration.from_bytes(data)
        assignments.configurations[configuration.digest] = configuration
    # The number of devices of an assignment is not stored, as it follows from the array.
    counts = partition.assignment_of.counts()
    for number in sorted(map(int, hashes["assignments"])):
        assert number != UNASSIGNED
        assignments.restore(number, _json.decode(hashes["assignments"][str(number)], type=Assignment), counts[number])
    for digest, configuration in assignments.configurations.items():
        if configuration.is_of_modules and read_findings(hashes["readiness"].get(digest)) is None:
            # The stored findings are those of another version of the rules; the next commit writes the current ones.
            assignments.changed_configurations.add(digest)


def _restore_statuses(partition: Partition, hashes: dict[str, dict[str, bytes]]) -> None:
    counts = {name: _json.decode(data, type=DeploymentCounts) for name, data in hashes["counts"].items()}
    fields = ((*field.partition(":")[::2], data) for field, data in hashes["applied"].items())
    partition.statuses.restore(
        counts, ((int(created), name, Applied.from_bytes(data)) for created, name, data in fields)
    )


def _restore_answers(partition: Partition, hashes: dict[str, dict[str, bytes]]) -> None:
    answers = partition.answers
    for name in answers.sets:
        if name in hashes["sets"]:
            answers.sets[name] = from_bytes(hashes["sets"][name])
    answers.undelivered.update({name: from_bytes(data) for name, data in hashes["undelivered"].items()})
    _restore_combinations(answers.signatures, hashes["signatures"], answers.signature_of, Signature)
    _restore_combinations(answers.deliveries, hashes["deliveries"], answers.delivered_of, Deliveries)


def _restore_combinations(combinations: Combinations[Any], stored: dict[str, bytes], of: Packed, kind: Any) -> None:
    uses = of.counts()
    for number in sorted(map(int, stored)):
        combinations.restore(number, _json.decode(stored[str(number)], type=kind), uses[number])
