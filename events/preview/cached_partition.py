"""A stored partition, restored as far as a preview needs it: assignments and targets of all devices, without their ids."""

from collections.abc import Iterable, Iterator, Mapping

import msgspec
from pyroaring import BitMap

from events.bitmaps import as_stored
from events.canonical import JsonObject
from events.fleet.assignments import Assignment, Layer, MergeCache
from events.fleet.column import ValueKey
from events.fleet.configuration import NOTHING, Configuration
from events.fleet.deployments import Deployments
from events.fleet.partition import Partition
from events.projection.new_paths import NewPaths, TwinText
from events.query.tree import Path
from events.stored_projection.stored_partition import StoredPartition

IndexSet = tuple[Path, ValueKey, BitMap]
"""Path, value and ordinals of one set of the index."""


class PreviewInputs(msgspec.Struct, frozen=True, eq=False):
    """What commands need of a partition beside its assignments and targets.

    `ids` are the ordinals of the named devices. `sets` of the index are for conditions that are evaluated for every device.
    Their paths without an index, `unindexed`, are read from `all_documents`: device id, module id (empty for the device's own
    document) and document. `documents` are those of the devices that change, and of their modules.
    """

    ids: Mapping[str, int]
    changes_devices: bool = False
    sets: tuple[IndexSet, ...] = ()
    unindexed: frozenset[Path] = frozenset()
    all_documents: Iterable[tuple[str, str, TwinText]] = ()
    documents: tuple[tuple[str, str, TwinText], ...] = ()


class CachedPartition:
    """A partition at one checkpoint, from which copies are made. Copies do not change it."""

    def __init__(
        self,
        stored: StoredPartition,
        assignments: Mapping[int, Assignment],
        deployments: Deployments,
        configurations: Mapping[str, Configuration],
    ) -> None:
        """`assignments` are those of `stored`, `deployments` those at its vector; every named configuration must be given."""
        hashes, self._assignment_of = stored.hashes, stored.arrays["assignment_of"]
        self.checkpoint, self.deployments, self.assignments = stored.checkpoint, deployments, assignments
        self._sets = {name: hashes["sets"].get(name) for name in ("live", "edge", "enabled")}
        # The devices that deployments target, by the name in the hash `targets`.
        self.targets = {field.partition(":")[2]: as_stored(data) for field, data in hashes["targets"].items()}
        self._modules = hashes["modules"]
        self._before = tuple(_before(stored))
        self.configurations = {digest: configurations[digest] for digest in digests_of(stored, assignments)}

    @property
    def module_ids(self) -> frozenset[str]:
        """Every module that a device can have."""
        named = (configuration.module_ids for configuration in self.configurations.values())
        return frozenset(self._modules).union(*named)

    def partition(self, number: int, ahead: PreviewInputs, merge: MergeCache) -> Partition:
        """A copy of the partition at the checkpoint, with no more than applying the events of the preview reads."""
        partition, checkpoint = Partition(number, merge), self.checkpoint
        partition.vector, partition.at = checkpoint.vector, checkpoint.at
        sets = {name: BitMap() if data is None else as_stored(data) for name, data in self._sets.items()}
        partition.directory.recall(checkpoint.ordinals, ahead.ids, **sets)
        partition.deployments.adopt(self.deployments)
        partition.modules.update({name: as_stored(data) for name, data in self._modules.items()})
        targets = self.targets
        if ahead.changes_devices:
            # Applying events of devices changes these sets in place, and all copies share them.
            targets = {name: BitMap(members) for name, members in targets.items()}
            for packed in (partition.moved_by, partition.twin_versions, partition.hand_written, partition.answers):
                packed.reserve(checkpoint.ordinals)
        partition.targets.restore(targets)
        partition.assignment_of.load(self._assignment_of)
        partition.assignment_of.reserve(checkpoint.ordinals)
        partition.assignments.by_number.update(self.assignments)
        partition.assignments.configurations.update(self.configurations)
        for layer, digest, members in self._before:
            partition.notes.before.setdefault(layer, {})[digest] = members
        index = partition.index
        index.over_budget = set(self.checkpoint.over_budget)
        for path, key, members in ahead.sets:
            index.restore(path, key, members)
        named = partition.deployments.named_paths()
        index.name(named | ahead.unindexed)
        for paths, twins in ((ahead.unindexed, ahead.all_documents), (named | ahead.unindexed, ahead.documents)):
            new = NewPaths(partition, paths)
            for device_id, module_id, twin in twins:
                new.fill(device_id, module_id, twin)
        index.take_touched()
        return partition


def digests_of(stored: StoredPartition, assignments: Mapping[int, Assignment]) -> set[str]:
    """The digests that the assignments and the notes of rollouts name, without the empty configuration's."""
    named = {digest for assignment in assignments.values() for digest in assignment.configurations}
    return (named | {digest for _, digest, _ in _before(stored)}) - {NOTHING.digest}


def _before(stored: StoredPartition) -> Iterator[tuple[Layer, str, BitMap]]:
    for field, data in stored.hashes["before"].items():
        at, deployment_id, digest = msgspec.json.decode(field, type=tuple[int, str, str])
        yield Layer(deployment_id, at), digest, as_stored(data)


def decoded_sets(fields: Iterable[tuple[str, bytes]]) -> Iterator[IndexSet]:
    """The sets of the index from fields of the hash `index`."""
    for field, data in fields:
        path, kind, value = msgspec.json.decode(
            field, type=tuple[tuple[str, ...], str, JsonObject | str | float | bool | None]
        )
        yield path, (kind, value), as_stored(data)
