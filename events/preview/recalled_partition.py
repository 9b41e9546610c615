"""What is kept of a partition, put back as far as deciding ahead needs it: everybody's assignments and targets, and nobody's name."""

from collections.abc import Iterable, Iterator, Mapping

import msgspec
from pyroaring import BitMap

from events.bitmaps import as_stored
from events.canonical import JsonObject
from events.fleet.assignments import Assignment, Layer
from events.fleet.column import ValueKey
from events.fleet.configuration import NOTHING, Configuration
from events.fleet.deployments import Deployments
from events.fleet.merge_cache import MergeCache
from events.fleet.partition import Partition
from events.projection.new_paths import NewPaths, TwinText
from events.query.tree import Path
from events.stored_projection.stored_partition import Checkpoint, StoredPartition

_NOBODY = BitMap()

RECALLED_HASHES = ("before", "modules", "assignments", "sets", "targets")
RECALLED_ARRAYS = ("assignment_of",)
IndexSet = tuple[Path, ValueKey, BitMap]
"""One set of the index."""


class Ahead(msgspec.Struct, frozen=True, eq=False):
    """What commands need of a partition beside its assignments and targets.

    `ids` are the ordinals of the devices that are named. `sets` of the index are there for conditions that are asked anew of
    everybody; what they name that is not indexed, `unindexed`, is read from `everybody`'s documents, device by device, with
    the name of the module where it is that of one. `documents` are the devices that change, and their modules.
    """

    ids: Mapping[str, int]
    changes_devices: bool = False
    sets: tuple[IndexSet, ...] = ()
    unindexed: frozenset[Path] = frozenset()
    everybody: Iterable[tuple[str, str, TwinText]] = ()
    documents: tuple[tuple[str, str, TwinText], ...] = ()


class Recalled:
    """A partition at one checkpoint, to make states of which differ from there on. Not changed by any of them."""

    def __init__(
        self,
        kept: StoredPartition,
        assignments: Mapping[int, Assignment],
        deployments: Deployments,
        configurations: Mapping[str, Configuration],
    ) -> None:
        """`assignments` are those kept, `deployments` at the checkpoint's vector; every configuration is there that is named."""
        hashes = kept.hashes
        self.checkpoint: Checkpoint = kept.checkpoint
        self.deployments = deployments
        self._assignment_of = kept.arrays["assignment_of"]
        self._sets = {name: hashes["sets"].get(name) for name in ("live", "edge", "enabled")}
        self._targets = {field.partition(":")[2]: as_stored(data) for field, data in hashes["targets"].items()}
        self._modules = hashes["modules"]
        self.assignments = assignments
        self._before = tuple(_before(kept))
        self.configurations = {digest: configurations[digest] for digest in digests_of(kept, assignments)}
        """Those that are named, by digest."""

    @property
    def module_ids(self) -> frozenset[str]:
        """Every module that some device may have."""
        named = (configuration.module_ids for configuration in self.configurations.values())
        return frozenset(self._modules).union(*named)

    def partition(self, number: int, ahead: Ahead, merge: MergeCache) -> Partition:
        """A state at the checkpoint to apply on from; what it does not have is what nothing that is applied may look at."""
        partition, checkpoint = Partition(number, merge), self.checkpoint
        partition.vector, partition.at = checkpoint.vector, checkpoint.at
        sets = {name: BitMap() if data is None else as_stored(data) for name, data in self._sets.items()}
        partition.directory.recall(checkpoint.ordinals, ahead.ids, **sets)
        partition.deployments.adopt(self.deployments)
        partition.modules.update({name: as_stored(data) for name, data in self._modules.items()})
        targets = self._targets
        if ahead.changes_devices:
            # Whoever changes goes in or out of these very sets.
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
        self._fill(partition, ahead)
        return partition

    def _fill(self, partition: Partition, ahead: Ahead) -> None:
        index = partition.index
        index.over_budget = set(self.checkpoint.over_budget)
        for path, key, members in ahead.sets:
            index.restore(path, key, members)
        named = partition.deployments.named_paths()
        index.name(named | ahead.unindexed)
        for paths, twins in ((ahead.unindexed, ahead.everybody), (named | ahead.unindexed, ahead.documents)):
            new = NewPaths(partition, paths)
            for device_id, module_id, twin in twins:
                new.fill(device_id, module_id, twin)
        index.take_touched()

    def target(self, kept_name: str) -> BitMap:
        """Whom a deployment targeted, by the name that it is kept by; nobody where there is none."""
        return self._targets.get(kept_name, _NOBODY)


def digests_of(kept: StoredPartition, assignments: Mapping[int, Assignment]) -> set[str]:
    """The configurations that the assignments and the notes of rollouts name; the empty one needs no keeping."""
    named = {digest for assignment in assignments.values() for digest in assignment.configurations}
    return (named | {digest for _, digest, _ in _before(kept)}) - {NOTHING.digest}


def _before(kept: StoredPartition) -> Iterator[tuple[Layer, str, BitMap]]:
    for field, data in kept.hashes["before"].items():
        at, deployment_id, digest = msgspec.json.decode(field, type=tuple[int, str, str])
        yield Layer(deployment_id, at), digest, as_stored(data)


def decoded_sets(fields: Iterable[tuple[str, bytes]]) -> Iterator[IndexSet]:
    """Sets of the index from their fields and bytes."""
    for field, data in fields:
        path, kind, value = msgspec.json.decode(
            field, type=tuple[tuple[str, ...], str, JsonObject | str | float | bool | None]
        )
        yield path, (kind, value), as_stored(data)


def path_of(field: str) -> Path:
    """The path that a field of the `index` hash is of."""
    return tuple(msgspec.json.decode(field)[0])
