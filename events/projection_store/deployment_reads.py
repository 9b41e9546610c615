"""Reads of single deployments: their counts, and the fields of the stored form that their status sets are made of."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from events.fleet.deployment_status import DeploymentCounts
from events.manifest.document import DEVICE
from events.projection_store.port import Fields, ProjectionStore
from events.stored_projection.partition_reader import STATUS_ARRAYS, PartitionReading, assignments_of
from events.stored_projection.stored_partition import StoredPartition, target_field

_SETS = ("acknowledged", "enabled", "failed", "healthy", "live", "succeeded", "unhealthy")
_MORE_SETS = ("edge", "refused")
_CACHED_MAX = 10_000

Places = frozenset[tuple[int, str]]
"""Where the sets of a deployment are stored: the position of its creation, and a module (empty for devices)."""


def counts_in(stored: StoredPartition) -> dict[str, DeploymentCounts]:
    """The counts of the deployments of a partition that were read; `stored` holds `counts`."""
    rows = stored.hashes["counts"].items()
    return {deployment_id: msgspec.json.decode(data, type=DeploymentCounts) for deployment_id, data in rows}


def counts_of(
    projections: ProjectionStore, numbers: Sequence[int], deployment_ids: Sequence[str]
) -> Iterator[Mapping[str, DeploymentCounts]]:
    """For each partition, the counts of those of the deployments that it has, in one round trip for all partitions."""
    for stored in projections.read_each(numbers, fields=(("counts", tuple(dict.fromkeys(deployment_ids))),)):
        yield counts_in(stored)


class DeploymentReads:
    """Reads the status sets of given deployments. The cost follows their devices, not the number of other deployments."""

    def __init__(self, projections: ProjectionStore) -> None:
        self._projections = projections
        self._places: dict[str, Places] = {}
        self._rivals = frozenset[str]()
        """Fields of the deployments that assignments name: their ranks tell why another one does not apply."""

    def readings(
        self, numbers: Sequence[int], *deployment_ids: str, with_assignments: bool = False
    ) -> list[PartitionReading]:
        """A reading of each partition, for the status sets of these deployments.

        `with_assignments`: also for whatever else a rollout of one of them is judged on, and the edge-capable devices.
        """
        places = {name: self._places.get(name, Places()) for name in deployment_ids}
        rivals = self._rivals
        hashes, arrays = (("assignments",), STATUS_ARRAYS) if with_assignments else ((), ())
        while True:
            fields = _fields_of(places, rivals if with_assignments else None)
            partitions = self._projections.read_each(numbers, hashes=hashes, fields=fields, arrays=arrays)
            # Each partition tells in the same transaction where the sets are. If they are elsewhere, as at the first read and
            # after another creation, they are read again.
            stored: dict[str, set[tuple[int, str]]] = {}
            for partition in partitions:
                for name, counts in counts_in(partition).items():
                    of_modules = ((counts.created, module) for module in counts.modules)
                    stored.setdefault(name, set()).update([(counts.created, ""), *of_modules])
            named = _named_by_assignments(partitions) if with_assignments else frozenset()
            if all(current <= places[name] for name, current in stored.items()) and named <= rivals:
                break
            rivals = named if len(rivals | named) > _CACHED_MAX else rivals | named
            for name, current in stored.items():
                positions = {created for created, _ in current}
                places[name] = frozenset(current | {place for place in places[name] if place[0] in positions})
        if len(self._places) + len(places) > _CACHED_MAX:
            self._places = {}
        self._places |= places
        self._rivals = rivals
        return [PartitionReading(partition) for partition in partitions]


def _named_by_assignments(partitions: Sequence[StoredPartition]) -> frozenset[str]:
    """The fields of the deployments that assignments name."""
    assignments = (assignment for stored in partitions for assignment in assignments_of(stored).values())
    layers = {layer for assignment in assignments for layer in (*assignment.stack, *assignment.wanted)}
    return frozenset(target_field(layer.created, layer.id) for layer in layers)


def _fields_of(places: Mapping[str, Places], rivals: frozenset[str] | None) -> Fields:
    stored_names = [
        (created, f"{name}/{module}" if module else name)
        for name, places_of_name in places.items()
        for created, module in places_of_name
    ]
    fields = tuple(sorted(target_field(*stored_name) for stored_name in stored_names))
    ranks = tuple(field for field in fields if "/" not in field)
    modules = {module for places_of_name in places.values() for _, module in places_of_name if module}
    needed: Fields = (
        ("counts", tuple(places)),
        ("deployments", tuple(sorted({*ranks, *(rivals or ())}))),
        ("targets", fields),
        ("applied", fields),
        ("undelivered", (DEVICE, *sorted(modules)) if fields else ()),
    )
    if rivals is None:
        return (*needed, ("sets", _SETS if fields else ()))
    return (*needed, ("already", fields), ("sets", (*_SETS, *_MORE_SETS)))
