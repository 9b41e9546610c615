"""Fills new paths of a partition's index from the documents beside the log, which may be ahead of what is applied."""

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
    """Devices change all the time, so that their documents stay ahead of what is applied."""


class LiveDocuments:
    """The documents of a log's devices and of their modules."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def fill(self, driver: Driver, paths: frozenset[Path]) -> None:
        """Bring newly named paths into the index, exactly as of the partition's vector, which may advance to the head for that.

        Applying keeps the new paths from here on, so that only devices that change all the time are asked for again.

        Raises:
            DocumentsAhead: there are such devices.
            LogLostItsTail, UnreadableEvent, CannotApply: events up to the head cannot be applied.
        """
        partition = driver.partition
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
        """Fill from the documents of some devices; answers those whose document is ahead."""
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
        """Bring in twins of modules. A document may be ahead; applying what it has already once more changes nothing.

        For that, all of it must be applied before anything is made of it: to where the log was after the last document.
        """
        for module_id in new.by_module:
            for modules in _chunks(self._modules(driver.partition, module_id)):
                for device_id, name, twin in self._in_force(modules):
                    new.fill(device_id, name, twin)
        if new.by_module:
            driver.apply(self._log.head(driver.partition.number))

    def _modules(self, partition: Partition, module_id: str) -> Iterator[tuple[str, str]]:
        """The devices that can have a document of a module, with its name; of every module, those that have one of any."""
        if module_id != EVERY_MODULE:
            yield from ((device_id, module_id) for device_id in sorted(partition.directory.ordinal_of))
            return
        for subject in self._log.subjects(partition.number):
            device_id, slash, name = subject.partition("/")
            if slash and can_be_for(name):
                yield device_id, name

    def _in_force(self, modules: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str, TwinText]]:
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
