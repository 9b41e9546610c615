"""What somebody wants to be told of."""

from collections.abc import Iterable

import msgspec
from pyroaring import BitMap

from events.fleet.packed import PAGE_ITEMS
from events.log.keys import partition_of
from events.notification.cloud_event import Notification
from events.projection_store.device_pages import device_ids
from events.projection_store.port import ProjectionSelection, ProjectionStore

_KNOWN_MAX = 10_000


class Ordinals:
    """The ordinals that device ids have had in their partitions, one for each registration; read as far as they are needed."""

    def __init__(self, projections: ProjectionStore, *, partitions: int) -> None:
        self._projections, self._partitions = projections, partitions
        self._known: dict[str, tuple[int, BitMap]] = {}

    def among(self, device_id: str, partition: int, ordinals: BitMap) -> bool:
        """Whether one of some ordinals of a partition is, or was, this device.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        if not ordinals or partition_of(device_id, self._partitions) != partition:
            return False
        seen, own = self._known.get(device_id, (0, BitMap()))
        if seen <= ordinals.max():
            pages = range(seen // PAGE_ITEMS, ordinals.max() // PAGE_ITEMS + 1)
            fields = tuple(map(str, pages))
            kept = self._projections.read(partition, ProjectionSelection(fields=(("ids", fields),))).hashes["ids"]
            for page, field in zip(pages, fields, strict=True):
                names = msgspec.json.decode(kept[field], type=list[str])
                own |= BitMap(page * PAGE_ITEMS + location for location, name in enumerate(names) if name == device_id)
                seen = page * PAGE_ITEMS + len(names)
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[device_id] = (seen, own)
        return bool(own & ordinals)

    def names(self, partition: int, ordinals: BitMap) -> frozenset[str]:
        """The devices that some ordinals of a partition are, or were.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        if not ordinals:
            return frozenset()
        return frozenset(device_ids(self._projections, partition, ordinals))


class EventFilter:
    """What is of one of the kinds, and about one of the deployments or devices; where none are named, about anything."""

    def __init__(
        self, ordinals: Ordinals, *, kinds: Iterable[str], deployments: Iterable[str], devices: Iterable[str]
    ) -> None:
        self._ordinals = ordinals
        self._kinds = frozenset(kinds)
        self._deployments, self._devices = frozenset(deployments), frozenset(devices)

    def includes(self, one: Notification) -> bool:
        """Whether a notification is wanted.

        Raises:
            LogUnavailable: it is an assignment change, and Redis did not say whom it is about.
        """
        if self._kinds and one.kind not in self._kinds:
            return False
        if not self._deployments and not self._devices:
            return True
        if one.device in self._devices or not self._deployments.isdisjoint(one.deployments):
            return True
        number, moved = one.location.number, one.moved
        return moved is not None and any(self._ordinals.among(name, number, moved) for name in self._devices)
