"""A cache of partitions at the head of the log, for previews."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from events.device.identifiers import module_subject
from events.fleet.assignments import MergeCache
from events.fleet.column import ValueKey
from events.fleet.configuration import NOTHING, Configuration
from events.fleet.deployments import Deployments, Target, targeting_events
from events.fleet.index import DEVICE_ID, MODULES, of_module
from events.log.fleet_events import FleetEventReader
from events.log.keys import FLEET, name
from events.log.port import Log
from events.preview.cached_partition import CachedPartition, PreviewInputs, decoded_sets, digests_of
from events.preview.errors import PreviewBehind
from events.projection.new_paths import TwinText, read_twin
from events.projection_store.port import ProjectionStore, read_fields
from events.query.module_condition import EVERY_MODULE, can_be_for
from events.query.tree import Path
from events.stored_projection.partition_codec import index_field
from events.stored_projection.partition_reader import assignments_of
from events.stored_projection.stored_partition import Checkpoint, StoredPartition

WAIT_SECONDS = 5.0
_POLL_SECONDS = 0.01
_DOCUMENTS = 1000
_SPARE = 64
"""How many unused configurations are cached at most, beside as many as are in use."""
_CACHED_HASHES = ("before", "modules", "assignments", "sets", "targets")


class PartitionCache:
    """Partitions to preview from, each cached until its checkpoint moves. Thread-safe."""

    def __init__(self, log: Log, projections: ProjectionStore, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._log, self._projections, self._pause = log, projections, pause
        self.merge = MergeCache()
        self._fleet = FleetEventReader(log)
        self._recalled: dict[int, CachedPartition] = {}
        self._shared = (0, Deployments())
        self.configurations: dict[str, Configuration] = {NOTHING.digest: NOTHING}
        """Configurations by digest, shared by all partitions."""
        self._configurations_max = _SPARE
        self._lock = threading.Lock()

    def at(self, heads: Mapping[int, int], numbers: Sequence[int]) -> dict[int, CachedPartition]:
        """Partitions, each at these heads or later. Waits up to 5 s for workers.

        Raises:
            PreviewBehind: the projections do not get there, or a partition is blocked.
        """
        self._wait(heads, numbers)
        with self._lock:
            stale = [
                number
                for number, checkpoint in self._checkpoints(numbers).items()
                if number not in self._recalled or self._recalled[number].checkpoint != checkpoint
            ]
            while stale:
                cached = self._projections.read_each(stale, hashes=_CACHED_HASHES, arrays=("assignment_of",))
                read = zip(stale, cached, strict=True)
                stale = [number for number, stored in read if not self._keep(number, stored)]
            self._forget()
            return {number: self._recalled[number] for number in numbers}

    def _checkpoints(self, numbers: Sequence[int]) -> dict[int, Checkpoint]:
        stored = self._projections.read_each(numbers)
        return {number: each.checkpoint for number, each in zip(numbers, stored, strict=True)}

    def _wait(self, heads: Mapping[int, int], numbers: Sequence[int]) -> None:
        waited = 0.0
        while True:
            vectors = {number: checkpoint.vector for number, checkpoint in self._checkpoints(numbers).items()}
            behind = [n for n, at in vectors.items() if at.partition < heads[n] or at.fleet < heads[FLEET]]
            if not behind:
                return
            blocked = [name(number) for number in behind if self._projections.blocked(number) is not None]
            if blocked:
                raise PreviewBehind(f"{', '.join(blocked)} is blocked at an event (see `twinfold blocked`)")
            if waited >= WAIT_SECONDS:
                raise PreviewBehind(f"the projections of {', '.join(map(name, behind))} are behind the log")
            self._pause(_POLL_SECONDS)
            waited += _POLL_SECONDS

    def _keep(self, number: int, stored: StoredPartition) -> bool:
        """Cache a partition as it was read; returns false if a commit came between the two reads."""
        assignments = assignments_of(stored)
        if unknown := tuple(sorted(digests_of(stored, assignments) - self.configurations.keys())):
            configurations = read_fields(self._projections, number, "configurations", unknown)
            if configurations.keys() != set(unknown):
                return False
            self.configurations |= {digest: Configuration.from_bytes(data) for digest, data in configurations.items()}
        deployments = self._deployments_at(number, stored.checkpoint.vector.fleet)
        self._recalled[number] = CachedPartition(stored, assignments, deployments, self.configurations)
        return True

    def _forget(self) -> None:
        """Drop configurations that no partition uses, once there are many."""
        if len(self.configurations) <= self._configurations_max:
            return
        self.configurations = {NOTHING.digest: NOTHING}
        for recalled in self._recalled.values():
            self.configurations |= recalled.configurations
        # Twice as many before the next time, so that finding the unused ones stays cheap per configuration.
        self._configurations_max = 2 * len(self.configurations) + _SPARE

    def _deployments_at(self, number: int, position: int) -> Deployments:
        """The deployments of a partition at a position of the fleet's stream."""
        # Events are applied once for all partitions; only phased deployments differ by partition.
        shared_position, shared = self._shared
        if position < shared_position:
            shared_position, shared = 0, Deployments()
        if position > shared_position:
            if self._fleet.position < position:
                self._fleet.refresh()
            after = Deployments()
            after.adopt(shared)
            after.apply(targeting_events(self._fleet.between(shared_position, position)))
            shared = after
            self._shared = max(self._shared, (position, shared), key=lambda pair: pair[0])
        here = Deployments(number)
        here.translate(shared, list(targeting_events(self._fleet.between(0, position))) if shared.has_phased else ())
        return here

    def ahead(
        self,
        recalled: Mapping[int, CachedPartition],
        *,
        targets: Sequence[Target],
        names: Iterable[str],
        devices: Mapping[int, Sequence[str]],
    ) -> dict[int, PreviewInputs]:
        """What a preview needs beside the cached partitions, by partition.

        That is the index for `targets`, conditions that are evaluated for every device, and the documents of `devices`, for
        which every condition is evaluated. `names` are further device ids that the events name.
        """
        reads = _reads_of(targets)
        ids = {*names, *reads.ids, *(device_id for device_ids in devices.values() for device_id in device_ids)}
        read_hashes, named = (("ordinals",), ()) if reads.every_id else ((), sorted(ids))
        read = (("index", sorted(index_field(path, key) for path, key in reads.values)), ("ordinals", named))
        numbers, ahead = list(recalled), {}
        paths = reads.columns | {path for path, _ in reads.values}
        partitions = self._projections.read_each(numbers, hashes=read_hashes, fields=read)
        for number, stored in zip(numbers, partitions, strict=True):
            checkpoint, hashes = recalled[number].checkpoint, stored.hashes
            unindexed = frozenset(path for path in paths if not _is_indexed(checkpoint, path))
            index, ordinals = hashes.get("index", {}), hashes.get("ordinals", {})
            if columns := reads.columns - unindexed:
                (names_of_fields,) = self._projections.field_names([number], "index")
                fields = [field for field in names_of_fields if _is_of(tuple(msgspec.json.decode(field)[0]), columns)]
                index = {**index, **read_fields(self._projections, number, "index", fields)}
            if unindexed and not reads.every_id:
                ordinals = self._projections.read(number, hashes=("ordinals",)).hashes["ordinals"]
            all_ids = {device_id: int(ordinal) for device_id, ordinal in ordinals.items()}
            module_ids = _module_ids(recalled[number], targets)
            ahead[number] = PreviewInputs(
                {device_id: ordinal for device_id, ordinal in all_ids.items() if ordinal < checkpoint.ordinals},
                bool(devices.get(number)),
                tuple(index_set for index_set in decoded_sets(index.items()) if index_set[0] not in unindexed),
                unindexed,
                self._documents(number, all_ids, module_ids, unindexed) if unindexed else (),
                tuple(self._documents(number, devices.get(number, ()), module_ids)),
            )
        return ahead

    def _documents(
        self, number: int, device_ids: Iterable[str], module_ids: Iterable[str], paths: frozenset[Path] | None = None
    ) -> Iterator[tuple[str, str, TwinText]]:
        """The documents of devices and of their modules; with `paths`, modules only if a path is of a module."""
        of_modules = paths is None or any(path[0] == MODULES[0] for path in paths)
        modules = sorted(module_ids) if of_modules else []
        names = list(device_ids)
        for start in range(0, len(names), _DOCUMENTS):
            devices = names[start : start + _DOCUMENTS]
            generations = {}
            for device_id, data in zip(devices, self._log.snapshots(number, devices), strict=True):
                if data is not None:
                    document = read_twin(data)
                    generations[device_id] = document.generation
                    yield device_id, "", document
            for module_id in modules:
                subjects = [module_subject(device_id, module_id) for device_id in devices]
                for device_id, data in zip(devices, self._log.snapshots(number, subjects), strict=True):
                    if data is not None:
                        document = read_twin(data)
                        if document.generation == generations.get(device_id):
                            yield device_id, module_id, document


class _ConditionReads(msgspec.Struct):
    """What conditions read of the index: single sets (`values`), whole columns, and device ids."""

    values: set[tuple[Path, ValueKey]]
    columns: set[Path]
    ids: set[str]
    every_id: bool = False


def _reads_of(targets: Iterable[Target]) -> _ConditionReads:
    reads = _ConditionReads(set(), set(), set())
    for target in targets:
        if target.values is None or any(path[0] == MODULES[0] for path in target.paths):
            reads.columns |= target.paths - {DEVICE_ID}
            reads.every_id |= DEVICE_ID in target.paths
        else:
            reads.values |= {pair for pair in target.values if pair[0] != DEVICE_ID}
            reads.ids |= {str(key[1]) for path, key in target.values if path == DEVICE_ID}
    return reads


def _is_indexed(checkpoint: Checkpoint, path: Path) -> bool:
    of_every = path[0] == MODULES[0] and can_be_for(path[1]) and of_module(path, EVERY_MODULE) in checkpoint.named
    return of_every or checkpoint.is_indexed(path)


def _is_of(path: Path, columns: set[Path]) -> bool:
    return path in columns or (path[0] == MODULES[0] and of_module(path, EVERY_MODULE) in columns)


def _module_ids(recalled: CachedPartition, targets: Iterable[Target]) -> frozenset[str]:
    """The modules that conditions can be about; none if no condition is about modules."""
    if not recalled.deployments.of_modules_ascending and not any(target.module for target in targets):
        return frozenset()
    named = {path[1] for path in recalled.deployments.named_paths() if path[0] == MODULES[0]}
    return recalled.module_ids | (named - {EVERY_MODULE}) | {target.module for target in targets} - {"", EVERY_MODULE}
