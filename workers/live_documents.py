"""Fills new paths of a partition's index from stored documents, which may be ahead of the applied events."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from events.device.identifiers import module_subject
from events.fleet.partition import Partition
from events.log.port import Log
from events.projection.driver import Driver
from events.projection.new_paths import NewPaths, read_twin
from events.query.module_condition import EVERY_MODULE, can_be_for
from events.query.tree import Path

_DOCUMENTS = 1000
_ROUNDS_MAX = 50

T = TypeVar("T")


class DocumentsAhead(Exception):
    """Some devices change so often that their documents stay ahead of the applied events."""


def fill_from_documents(log: Log, driver: Driver, paths: frozenset[Path]) -> None:
    """Fill newly named paths of the index, exactly as of the partition's vector. The vector may advance to the head.

    Raises:
        DocumentsAhead: documents are still ahead after 50 rounds.
        LogLostItsTail, UnreadableEvent, CannotApply: events up to the head cannot be applied.
    """
    partition = driver.partition
    # From here on events keep the new paths, so a later round only reads the devices that changed in between.
    partition.open_paths(paths)
    new = NewPaths(partition, paths)
    for module_id in new.by_module:
        for modules in _chunks(_modules(log, partition, module_id)):
            _fill_modules(log, new, modules)
    # A module's document may be ahead. Applying its events once more changes nothing, as they are merge patches, but all
    # of them must be applied before the index is read (decisions/0020).
    if new.by_module:
        driver.apply(log.head(partition.number))
    waiting: Iterable[str] = sorted(partition.directory.ordinal_of) if new.of_devices else ()
    for _ in range(_ROUNDS_MAX):
        waiting = [device_id for chunk in _chunks(waiting) for device_id in _fill_devices(log, partition, new, chunk)]
        if not waiting:
            return
        driver.apply(log.head(partition.number))
    raise DocumentsAhead


def _fill_devices(log: Log, partition: Partition, new: NewPaths, device_ids: Sequence[str]) -> Iterator[str]:
    """Fill from the documents of devices; yields the devices whose document is ahead."""
    for device_id, stored in zip(device_ids, log.load(device_ids), strict=True):
        ordinal = partition.directory.ordinal_of.get(device_id)
        if stored.snapshot is None or ordinal is None:
            continue
        twin = read_twin(stored.snapshot)
        if twin.version == partition.twin_versions[ordinal]:
            new.fill(device_id, "", twin)
        else:
            yield device_id


def _modules(log: Log, partition: Partition, module_id: str) -> Iterator[tuple[str, str]]:
    """(device, module) of every document of a module that can exist; for `EVERY_MODULE`, of every module's document."""
    if module_id != EVERY_MODULE:
        yield from ((device_id, module_id) for device_id in sorted(partition.directory.ordinal_of))
        return
    for subject in log.subjects(partition.number):
        device_id, slash, name = subject.partition("/")
        if slash and can_be_for(name):
            yield device_id, name


def _fill_modules(log: Log, new: NewPaths, modules: Sequence[tuple[str, str]]) -> None:
    # The document of a module stays when its device is registered again, but belongs to the former registration.
    devices = log.load([device_id for device_id, _ in modules])
    stored = log.load([module_subject(device_id, module_id) for device_id, module_id in modules])
    for (device_id, module_id), device, module in zip(modules, devices, stored, strict=True):
        if device.snapshot is not None and module.snapshot is not None:
            twin = read_twin(module.snapshot)
            if twin.generation == read_twin(device.snapshot).generation:
                new.fill(device_id, module_id, twin)


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    waiting = iter(items)
    while chunk := list(islice(waiting, _DOCUMENTS)):
        yield chunk
