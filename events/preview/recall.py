"""The partitions as they stand at the head of the log, kept from one look to the next by their checkpoints."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from events.device.identifiers import module_subject
from events.fleet.column import ValueKey
from events.fleet.configuration import NOTHING, Configuration
from events.fleet.deployments import Deployments, Target, targeting_events
from events.fleet.index import DEVICE_ID, MODULES, of_module
from events.fleet.merge_cache import MergeCache
from events.log.fleet_events import FleetEventReader
from events.log.keys import FLEET, name
from events.log.port import Log
from events.preview.errors import PreviewBehind
from events.preview.recalled_partition import (
    RECALLED_ARRAYS,
    RECALLED_HASHES,
    Ahead,
    Recalled,
    decoded_sets,
    digests_of,
    path_of,
)
from events.projection.new_paths import TwinText, read_twin
from events.projection_store.port import ProjectionSelection, ProjectionStore
from events.query.module_condition import EVERY_MODULE, can_be_for
from events.query.tree import Path
from events.stored_projection.partition_codec import index_field
from events.stored_projection.partition_reader import assignments_of
from events.stored_projection.stored_partition import Checkpoint, StoredPartition

WAIT_SECONDS = 5.0
_POLL_SECONDS = 0.01
_DOCUMENTS = 1000
_SPARE = 64
"""How many configurations that nobody has are kept at most, beside as many as somebody has."""
_WANTED = ProjectionSelection(hashes=RECALLED_HASHES, arrays=RECALLED_ARRAYS)


class Recall:
    """Partitions to look ahead from. Several threads may ask."""

    def __init__(self, log: Log, projections: ProjectionStore, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._log, self._projections, self._pause = log, projections, pause
        self.merge = MergeCache()
        self._fleet = FleetEventReader(log)
        self._recalled: dict[int, Recalled] = {}
        self._shared = (0, Deployments())
        self.configurations: dict[str, Configuration] = {NOTHING.digest: NOTHING}
        """Those that were read, by digest: partitions share them."""
        self._many = _SPARE
        self._lock = threading.Lock()

    def at(self, heads: Mapping[int, int], numbers: Sequence[int]) -> dict[int, Recalled]:
        """Some partitions, each with everything up to these heads or more.

        Raises:
            PreviewBehind: the projections do not get there, or a partition is stopped.
        """
        self._wait(heads, numbers)
        with self._lock:
            now = zip(numbers, self._projections.read_each(numbers, ProjectionSelection()), strict=True)
            stale = [number for number, kept in now if not self._is_known(number, kept.checkpoint)]
            while stale:
                read = zip(stale, self._projections.read_each(stale, _WANTED), strict=True)
                stale = [number for number, kept in read if not self._keep(number, kept)]
            self._forget()
            return {number: self._recalled[number] for number in numbers}

    def _is_known(self, number: int, checkpoint: Checkpoint) -> bool:
        known = self._recalled.get(number)
        return known is not None and known.checkpoint == checkpoint

    def _wait(self, heads: Mapping[int, int], numbers: Sequence[int]) -> None:
        waited = 0.0
        while behind := self._behind(heads, numbers):
            blocked = [name(number) for number in behind if self._projections.blocked(number) is not None]
            if blocked:
                raise PreviewBehind(
                    f"{', '.join(blocked)} stands still at an event that cannot be applied (twinfold blocked)"
                )
            if waited >= WAIT_SECONDS:
                raise PreviewBehind(f"the projections of {', '.join(map(name, behind))} are behind the log")
            self._pause(_POLL_SECONDS)
            waited += _POLL_SECONDS

    def _behind(self, heads: Mapping[int, int], numbers: Sequence[int]) -> list[int]:
        vectors = [kept.checkpoint.vector for kept in self._projections.read_each(numbers, ProjectionSelection())]
        return [
            number
            for number, at in zip(numbers, vectors, strict=True)
            if at.partition < heads[number] or at.fleet < heads[FLEET]
        ]

    def _keep(self, number: int, kept: StoredPartition) -> bool:
        """Recall a partition as it was read; false when a commit came between two looks."""
        assignments = assignments_of(kept)
        if unknown := tuple(sorted(digests_of(kept, assignments) - self.configurations.keys())):
            found = self._projections.read(number, ProjectionSelection(fields=(("configurations", unknown),))).hashes[
                "configurations"
            ]
            if found.keys() != set(unknown):
                return False
            self.configurations |= {digest: Configuration.from_bytes(data) for digest, data in found.items()}
        deployments = self._deployments_at(number, kept.checkpoint.vector.fleet)
        self._recalled[number] = Recalled(kept, assignments, deployments, self.configurations)
        return True

    def _forget(self) -> None:
        """Let go of configurations that no partition names any more, once there are many."""
        if len(self.configurations) <= self._many:
            return
        self.configurations = {NOTHING.digest: NOTHING}
        for one in self._recalled.values():
            self.configurations |= one.configurations
        self._many = 2 * len(self.configurations) + _SPARE

    def _deployments_at(self, number: int, position: int) -> Deployments:
        """The deployments as a partition sees them; applied once for all partitions."""
        known, shared = self._shared
        if position < known:
            known, shared = 0, Deployments()
        if position > known:
            if self._fleet.position < position:
                self._fleet.refresh()
            after = Deployments()
            after.adopt(shared)
            after.apply(targeting_events(self._fleet.between(known, position)))
            shared = after
            self._shared = max(self._shared, (position, shared), key=lambda one: one[0])
        here = Deployments(number)
        here.translate(shared, list(targeting_events(self._fleet.between(0, position))) if shared.has_phased else ())
        return here

    # -- what commands need beside

    def ahead(
        self,
        recalled: Mapping[int, Recalled],
        *,
        targets: Sequence[Target],
        names: Iterable[str],
        devices: Mapping[int, Sequence[str]],
    ) -> dict[int, Ahead]:
        """What it takes to ask some conditions anew of everybody, and any condition of some devices, by partition.

        `names` are ids that what is decided refers to, wherever these devices are.
        """
        asked = _asked(targets)
        ids = {*names, *asked.ids, *(one for some in devices.values() for one in some)}
        plain = ProjectionSelection(
            hashes=("ordinals",) if asked.every_id else (),
            fields=(
                ("index", tuple(sorted(index_field(path, key) for path, key in asked.values))),
                ("ordinals", () if asked.every_id else tuple(sorted(ids))),
            ),
        )
        numbers = list(recalled)
        read = dict(zip(numbers, self._projections.read_each(numbers, plain), strict=True))
        return {
            number: self._ahead(
                number, recalled[number], read[number], asked=asked, targets=targets, devices=devices.get(number, ())
            )
            for number in numbers
        }

    def _ahead(
        self,
        number: int,
        recalled: Recalled,
        kept: StoredPartition,
        *,
        asked: "_Asked",
        targets: Sequence[Target],
        devices: Sequence[str],
    ) -> Ahead:
        checkpoint, hashes = recalled.checkpoint, kept.hashes
        unindexed = frozenset(path for path in asked.columns | asked.paths if not _is_indexed(checkpoint, path))
        index = dict(hashes.get("index", {}))
        if columns := asked.columns - unindexed:
            fields = [one for one in self._projections.field_names(number, "index") if _is_of(path_of(one), columns)]
            index |= self._projections.read(number, ProjectionSelection(fields=(("index", tuple(fields)),))).hashes.get(
                "index", {}
            )
        ordinals = hashes.get("ordinals", {})
        if unindexed and not asked.every_id:
            ordinals = self._projections.read(number, ProjectionSelection(hashes=("ordinals",))).hashes["ordinals"]
        ids = {device_id: int(ordinal) for device_id, ordinal in ordinals.items()}
        module_ids = _module_ids(recalled, targets)
        return Ahead(
            {device_id: ordinal for device_id, ordinal in ids.items() if ordinal < checkpoint.ordinals},
            bool(devices),
            tuple(one for one in decoded_sets(index.items()) if one[0] not in unindexed),
            unindexed,
            self._documents(number, ids, module_ids, unindexed) if unindexed else (),
            tuple(self._documents(number, devices, module_ids)),
        )

    def _documents(
        self,
        number: int,
        device_ids: Iterable[str],
        module_ids: Iterable[str],
        paths: frozenset[Path] | None = None,
    ) -> Iterator[tuple[str, str, TwinText]]:
        """The documents of some devices and of their modules; with `paths` no others than those that have one of them."""
        of_modules = paths is None or any(path[0] == MODULES[0] for path in paths)
        some = sorted(module_ids) if of_modules else []
        names = list(device_ids)
        for start in range(0, len(names), _DOCUMENTS):
            devices = names[start : start + _DOCUMENTS]
            generations = {}
            for device_id, data in zip(devices, self._log.snapshots(number, devices), strict=True):
                if data is not None:
                    document = read_twin(data)
                    generations[device_id] = document.generation
                    yield device_id, "", document
            for module_id in some:
                subjects = [module_subject(device_id, module_id) for device_id in devices]
                for device_id, data in zip(devices, self._log.snapshots(number, subjects), strict=True):
                    if data is not None:
                        document = read_twin(data)
                        if document.generation == generations.get(device_id):
                            yield device_id, module_id, document


class _Asked(msgspec.Struct, frozen=True):
    """What some conditions look at: single sets where they need no more, whole columns, and ids."""

    values: frozenset[tuple[Path, ValueKey]]
    paths: frozenset[Path]
    """Those of the single sets."""
    columns: frozenset[Path]
    ids: frozenset[str]
    every_id: bool


def _asked(targets: Iterable[Target]) -> _Asked:
    values, columns, ids, every_id = set[tuple[Path, ValueKey]](), set[Path](), set[str](), False
    for target in targets:
        if target.values is None or any(path[0] == MODULES[0] for path in target.paths):
            columns |= target.paths - {DEVICE_ID}
            every_id |= DEVICE_ID in target.paths
        else:
            values |= {pair for pair in target.values if pair[0] != DEVICE_ID}
            ids |= {str(key[1]) for path, key in target.values if path == DEVICE_ID}
    paths = frozenset(path for path, _ in values)
    return _Asked(frozenset(values), paths, frozenset(columns), frozenset(ids), every_id)


def _is_indexed(checkpoint: Checkpoint, path: Path) -> bool:
    if checkpoint.is_indexed(path):
        return True
    return path[0] == MODULES[0] and can_be_for(path[1]) and of_module(path, EVERY_MODULE) in checkpoint.named


def _is_of(path: Path, columns: frozenset[Path]) -> bool:
    return path in columns or (path[0] == MODULES[0] and of_module(path, EVERY_MODULE) in columns)


def _module_ids(recalled: Recalled, targets: Iterable[Target]) -> frozenset[str]:
    """The modules that conditions may be about; none where no condition is about any."""
    if not recalled.deployments.of_modules_ascending and not any(target.module for target in targets):
        return frozenset()
    named = {path[1] for path in recalled.deployments.named_paths() if path[0] == MODULES[0]}
    return recalled.module_ids | (named - {EVERY_MODULE}) | {target.module for target in targets} - {"", EVERY_MODULE}
