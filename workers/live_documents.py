"""Fills new paths of a partition's index from stored documents, which may be ahead of the applied events."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from events.device.identifiers import module_subject
from events.fleet.partition import Partition
from events.log.port import Log
from events.projection.driver import Driver
from events.projection.new_paths import NewPaths, TwinText, read_twin
from events.query.module_condition import EVERY_MODULE, can_be_for
from events.query.tree import Path

_DOCUMENTS = 1000
_ROUNDS_MAX = 50

T = TypeVar("T")


class DocumentsAhead(Exception):
    """Some devices change so often that their documents stay ahead of the applied events."""


class LiveDocuments:
    """The documents of a log's devices and of their modules."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def fill(self, driver: Driver, paths: frozenset[Path]) -> None:
        """Fill newly named paths of the index, exactly as of the partition's vector. The vector may advance to the head.

        Raises:
            DocumentsAhead: documents are still ahead after 50 rounds.
            LogLostItsTail, UnreadableEvent, CannotApply: events up to the head cannot be applied.
        """
        partition = driver.partition
        # From here on events keep the new paths, so a later round only reads the devices that changed in between.
        partition.open_paths(paths)
        new = NewPaths(partition, paths)
        self._fill_modules(driver, new)
        waiting: Iterable[str] = sorted(partition.directory.ordinal_of) if new.of_devices else ()
        for _ in range(_ROUNDS_MAX):
            waiting = [
                device_id for chunk in _chunks(waiting) for device_id in self._fill_devices(partition, new, chunk)
            ]
            if not waiting:
                return
            driver.apply(self._log.head(partition.number))
        raise DocumentsAhead

    def _fill_devices(self, partition: Partition, new: NewPaths, device_ids: Sequence[str]) -> list[str]:
        """Fill from the documents of devices; returns the devices whose document is ahead."""
        ahead = []
        ordinal_of, versions = partition.directory.ordinal_of, partition.twin_versions
        for device_id, stored in zip(device_ids, self._log.load(device_ids), strict=True):
            ordinal = ordinal_of.get(device_id)
            if stored.snapshot is None or ordinal is None:
                continue
            twin = read_twin(stored.snapshot)
            if twin.version == versions[ordinal]:
                new.fill(device_id, "", twin)
            else:
                ahead.append(device_id)
        return ahead

    def _fill_modules(self, driver: Driver, new: NewPaths) -> None:
        """Fill from the documents of modules, and apply events up to the head."""
        for module_id in new.by_module:
            for modules in _chunks(self._modules(driver.partition, module_id)):
                for device_id, name, twin in self._in_force(modules):
                    new.fill(device_id, name, twin)
        # A module's document may be ahead. Applying its events once more changes nothing, as they are merge patches, but all
        # of them must be applied before the index is read (decisions/0020).
        if new.by_module:
            driver.apply(self._log.head(driver.partition.number))

    def _modules(self, partition: Partition, module_id: str) -> Iterator[tuple[str, str]]:
        """(device, module) of every document of a module that can exist; for `EVERY_MODULE`, of every module's document."""
        if module_id != EVERY_MODULE:
            yield from ((device_id, module_id) for device_id in sorted(partition.directory.ordinal_of))
            return
        for subject in self._log.subjects(partition.number):
            device_id, slash, name = subject.partition("/")
            if slash and can_be_for(name):
                yield device_id, name

    def _in_force(self, modules: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str, TwinText]]:
        # The document of a module stays when its device is registered again, but belongs to the former registration.
        devices = self._log.load([device_id for device_id, _ in modules])
        stored = self._log.load([module_subject(device_id, module_id) for device_id, module_id in modules])
        for (device_id, module_id), device, module in zip(modules, devices, stored, strict=True):
            if device.snapshot is not None and module.snapshot is not None:
                twin = read_twin(module.snapshot)
                if twin.generation == read_twin(device.snapshot).generation:
                    yield device_id, module_id, twin


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    waiting = iter(items)
    while chunk := list(islice(waiting, _DOCUMENTS)):
        yield chunk
