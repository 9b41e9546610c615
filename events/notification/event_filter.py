"""The filter of notifications: by kind, deployment and device."""

from collections.abc import Iterable

import msgspec
from pyroaring import BitMap

from events.fleet.packed import PAGE_ITEMS
from events.log.keys import partition_of
from events.notification.cloud_event import Notification
from events.projection_store.device_pages import device_ids
from events.projection_store.port import ProjectionStore

_CACHED_MAX = 10_000


class DeviceOrdinals:
    """The ordinals of device ids in their partitions, one for each registration; read on demand and cached.

    Every method raises LogUnavailable if Redis does not answer.
    """

    def __init__(self, projections: ProjectionStore, *, partitions: int) -> None:
        self._projections, self._partitions = projections, partitions
        self._cached: dict[str, tuple[int, BitMap]] = {}

    def among(self, device_id: str, partition: int, ordinals: BitMap) -> bool:
        """Returns whether one of these ordinals of a partition is, or was, this device."""
        if not ordinals or partition_of(device_id, self._partitions) != partition:
            return False
        # Ordinals are only ever appended, so a cached device needs only the pages after the last one read.
        seen, own = self._cached.get(device_id, (0, BitMap()))
        if seen <= ordinals.max():
            pages = range(seen // PAGE_ITEMS, ordinals.max() // PAGE_ITEMS + 1)
            fields = tuple(map(str, pages))
            ids = self._projections.read(partition, fields=(("ids", fields),)).hashes["ids"]
            for page, field in zip(pages, fields, strict=True):
                names = msgspec.json.decode(ids[field], type=list[str])
                own |= BitMap(page * PAGE_ITEMS + index for index, name in enumerate(names) if name == device_id)
                seen = page * PAGE_ITEMS + len(names)
            if len(self._cached) >= _CACHED_MAX:
                self._cached.clear()
            self._cached[device_id] = (seen, own)
        return bool(own & ordinals)

    def names(self, partition: int, ordinals: BitMap) -> frozenset[str]:
        """Returns the devices that have, or had, these ordinals of a partition."""
        return frozenset(device_ids(self._projections, partition, ordinals) if ordinals else ())


class EventFilter:
    """Matches notifications of one of the kinds, about one of the deployments or devices; an empty list matches everything."""

    def __init__(
        self, ordinals: DeviceOrdinals, *, kinds: Iterable[str], deployments: Iterable[str], devices: Iterable[str]
    ) -> None:
        self._ordinals, self._kinds = ordinals, frozenset(kinds)
        self._deployments, self._devices = frozenset(deployments), frozenset(devices)

    def includes(self, notification: Notification) -> bool:
        """Returns whether a notification matches.

        Raises:
            LogUnavailable: as `DeviceOrdinals`.
        """
        if self._kinds and notification.kind not in self._kinds:
            return False
        if not self._deployments and not self._devices:
            return True
        if notification.device in self._devices or not self._deployments.isdisjoint(notification.deployments):
            return True
        number, moved = notification.location.number, notification.moved
        return moved is not None and any(self._ordinals.among(name, number, moved) for name in self._devices)
