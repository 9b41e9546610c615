"""New property paths of a partition's index, filled from the documents of twins."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec

from events.fleet.index import MODULES
from events.fleet.partition import Partition
from events.query.module_condition import EVERY_MODULE, can_be_for
from events.query.tree import Path


class TwinText(msgspec.Struct, frozen=True):
    """The part of a twin's document, a device's or a module's, that fills the index.

    `version` tells which events a device's document contains. A module's document is valid if its `generation` is that of its
    device; otherwise it belongs to an earlier device with the same id.
    """

    version: int = 0
    tags: dict[str, Any] = {}
    reported: dict[str, Any] = {}
    generation: int = 0


read_twin = msgspec.json.Decoder(TwinText).decode
"""A `TwinText` from the bytes of a document."""


class NewPaths:
    """Paths of a partition's index that are filled from twins."""

    def __init__(self, partition: Partition, paths: Iterable[Path]) -> None:
        self._index, self._ordinal_of = partition.index, partition.directory.ordinal_of
        self.of_devices: list[Path] = []
        self.by_module: dict[str, list[Path]] = defaultdict(list)
        """By the name of a module, or EVERY_MODULE."""
        for path in sorted(paths):
            (self.by_module[path[1]] if path[0] == MODULES[0] else self.of_devices).append(path)

    def fill(self, device_id: str, module_id: str, twin: TwinText) -> None:
        """Fill in the values of a device's twin, or with a `module_id` of its module's."""
        ordinal = self._ordinal_of.get(device_id)
        if ordinal is None:
            # The document can be newer than the partition, and its device not registered yet at the partition's position.
            return
        if not module_id:
            for path in self.of_devices:
                self._index.fill(ordinal, path, twin.tags if path[0] == "tags" else twin.reported)
            return
        of_every = self.by_module.get(EVERY_MODULE, []) if can_be_for(module_id) else []
        for path in (*self.by_module.get(module_id, []), *of_every):
            self._index.fill_module(ordinal, path, module_id, twin.tags if path[2] == "tags" else twin.reported)
