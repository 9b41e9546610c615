"""The partitions as they stand at the head of the log, kept from one look to the next by their checkpoints."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from events.device.identifiers import module_subject
from events.fleet.configuration import NOTHING, Configuration
from events.fleet.deployments import Deployments, Target, targeting_facts
from events.fleet.index import DEVICE_ID, MODULES, ValueKey, of_module
from events.fleet.partition import MergeCache
from events.log.fleet_facts import FleetFacts
from events.log.keys import FLEET, name, partition_of
from events.log.port import Log
from events.preview.errors import PreviewBehind
from events.query.module_condition import EVERY_MODULE, can_be_for
from events.targeting.tree import Path
from events.view_store.port import Selection, ViewStore
from events.views.keeping import index_field
from events.views.kept import Checkpoint
from events.views.recalling import (
    RECALLED_ARRAYS,
    RECALLED_HASHES,
    Ahead,
    Recalled,
    TwinText,
    decoded_sets,
    digests_of,
    path_of,
)

WAIT_SECONDS = 5.0
_LOOK_SECONDS = 0.01
_DOCUMENTS = 1000
_WANTED = Selection(hashes=RECALLED_HASHES, arrays=RECALLED_ARRAYS)


class Recall:
    """Partitions to look ahead from. Several threads may ask."""

    def __init__(self, log: Log, views: ViewStore, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._log, self._views, self._pause = log, views, pause
        self.merge = MergeCache()
        self._fleet = FleetFacts(log)
        self._recalled: dict[int, Recalled] = {}
        self._deployments: dict[int, tuple[int, Deployments]] = {}
        self._configurations: dict[str, Configuration] = {NOTHING.digest: NOTHING}
        self._lock = threading.Lock()

    def at(self, heads: Mapping[int, int], numbers: Sequence[int]) -> dict[int, Recalled]:
        """Some partitions, each with everything up to these heads or more.

        Raises:
            PreviewBehind: the views do not get there, or a partition is stopped.
        """
        self._wait(heads, numbers)
        with self._lock:
            found = {}
            now = zip(numbers, self._views.read_each(numbers, Selection()), strict=True)
            stale = [number for number, kept in now if not self._is_known(number, kept.checkpoint)]
            while stale:
                stale = [number for number in stale if not self._read(number)]
            for number in numbers:
                found[number] = self._recalled[number]
            return found

    def _is_known(self, number: int, checkpoint: Checkpoint) -> bool:
        known = self._recalled.get(number)
        return known is not None and known.checkpoint == checkpoint

    def _wait(self, heads: Mapping[int, int], numbers: Sequence[int]) -> None:
        waited = 0.0
        while behind := self._behind(heads, numbers):
            blocked = [name(number) for number in behind if self._views.blocked(number) is not None]
            if blocked:
                raise PreviewBehind(
                    f"{', '.join(blocked)} stands still at a fact that cannot be folded (twinfold blocked)"
                )
            if waited >= WAIT_SECONDS:
                raise PreviewBehind(f"the views of {', '.join(map(name, behind))} are behind the log")
            self._pause(_LOOK_SECONDS)
            waited += _LOOK_SECONDS

    def _behind(self, heads: Mapping[int, int], numbers: Sequence[int]) -> list[int]:
        vectors = [kept.checkpoint.vector for kept in self._views.read_each(numbers, Selection())]
        return [
            number
            for number, at in zip(numbers, vectors, strict=True)
            if at.partition < heads[number] or at.fleet < heads[FLEET]
        ]

    def _read(self, number: int) -> bool:
        """Recall a partition as it is now; false when a commit came between two looks."""
        kept = self._views.read(number, _WANTED)
        unknown = tuple(sorted(digests_of(kept) - self._configurations.keys()))
        stored = self._views.read(number, Selection(fields=(("configurations", unknown),))).hashes
        found = stored.get("configurations", {})
        if found.keys() != set(unknown):
            return False
        self._configurations |= {digest: Configuration.from_bytes(data) for digest, data in found.items()}
        deployments = self._deployments_at(number, kept.checkpoint.vector.fleet)
        self._recalled[number] = Recalled(kept, deployments, self._configurations)
        return True

    def _deployments_at(self, number: int, position: int) -> Deployments:
        known, deployments = self._deployments.get(number, (0, Deployments(number)))
        if position > known:
            if len(self._fleet.between(0)) < position:
                self._fleet.refresh()
            after = Deployments(number)
            after.adopt(deployments)
            after.fold(targeting_facts(self._fleet.between(known, position)))
            deployments = after
            self._deployments[number] = (position, deployments)
        return deployments

    # -- what commands need beside

    def ahead(
        self,
        number: int,
        recalled: Recalled,
        *,
        targets: Iterable[Target],
        names: Iterable[str],
        devices: Sequence[str],
    ) -> Ahead:
        """What it takes to ask some conditions anew of everybody, and any condition of some devices of a partition.

        `names` are ids that what is decided refers to, wherever these devices are.
        """
        asked = _asked(targets)
        checkpoint = recalled.checkpoint
        unindexed = frozenset(path for path in asked.columns | asked.paths if not _is_indexed(checkpoint, path))
        partitions = self._log.partitions
        wanted_ids = {one for one in (*names, *asked.ids) if partition_of(one, partitions) == number} | set(devices)
        fields = {index_field(path, key) for path, key in asked.values if path not in unindexed}
        if columns := asked.columns - unindexed:
            fields |= {one for one in self._views.field_names(number, "index") if _is_of(path_of(one), columns)}
        every_id = asked.every_id or bool(unindexed)
        kept = self._views.read(
            number,
            Selection(
                hashes=("ordinals",) if every_id else (),
                fields=(("index", tuple(sorted(fields))), ("ordinals", () if every_id else tuple(sorted(wanted_ids)))),
            ),
        )
        ids = {device_id: int(ordinal) for device_id, ordinal in kept.hashes.get("ordinals", {}).items()}
        module_ids = _module_ids(recalled, targets)
        return Ahead(
            {device_id: ordinal for device_id, ordinal in ids.items() if ordinal < checkpoint.ordinals},
            bool(devices),
            tuple(decoded_sets(kept.hashes.get("index", {}).items())),
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
                    document = msgspec.json.decode(data, type=TwinText)
                    generations[device_id] = document.generation
                    yield device_id, "", document
            for module_id in some:
                subjects = [module_subject(device_id, module_id) for device_id in devices]
                for device_id, data in zip(devices, self._log.snapshots(number, subjects), strict=True):
                    if data is not None:
                        document = msgspec.json.decode(data, type=TwinText)
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
