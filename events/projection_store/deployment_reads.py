"""Reads of single deployments: their counts, and the fields of the stored form that their status sets are made of."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from events.fleet.deployment_status import DeploymentCounts
from events.manifest.document import DEVICE
from events.projection_store.port import Fields, ProjectionStore
from events.stored_projection.partition_reader import PartitionReading
from events.stored_projection.stored_partition import StoredPartition, target_field

_SETS = ("acknowledged", "enabled", "failed", "healthy", "live", "succeeded", "unhealthy")
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

    def readings(self, numbers: Sequence[int], *deployment_ids: str) -> list[PartitionReading]:
        """A reading of each partition, for the status sets of these deployments."""
        places = {name: self._places.get(name, Places()) for name in deployment_ids}
        while True:
            partitions = self._projections.read_each(numbers, fields=_fields_of(places))
            # Each partition tells in the same transaction where the sets are. If they are elsewhere, as at the first read and
            # after another creation, they are read again.
            stored: dict[str, set[tuple[int, str]]] = {}
            for partition in partitions:
                for name, counts in counts_in(partition).items():
                    of_modules = ((counts.created, module) for module in counts.modules)
                    stored.setdefault(name, set()).update([(counts.created, ""), *of_modules])
            if all(current <= places[name] for name, current in stored.items()):
                break
            for name, current in stored.items():
                positions = {created for created, _ in current}
                places[name] = frozenset(current | {place for place in places[name] if place[0] in positions})
        if len(self._places) + len(places) > _CACHED_MAX:
            self._places = {}
        self._places |= places
        return [PartitionReading(partition) for partition in partitions]


def _fields_of(places: Mapping[str, Places]) -> Fields:
    stored_names = [
        (created, f"{name}/{module}" if module else name)
        for name, places_of_name in places.items()
        for created, module in places_of_name
    ]
    fields = tuple(sorted(target_field(*stored_name) for stored_name in stored_names))
    ranks = tuple(field for field in fields if "/" not in field)
    modules = {module for places_of_name in places.values() for _, module in places_of_name if module}
    return (
        ("counts", tuple(places)),
        ("deployments", ranks),
        ("targets", fields),
        ("applied", fields),
        ("undelivered", (DEVICE, *sorted(modules)) if fields else ()),
        ("sets", _SETS if fields else ()),
    )
