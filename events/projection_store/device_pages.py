"""Devices of sets, by partition and ordinal, as pages of ids."""

import itertools
from collections.abc import Callable, Iterator, Sequence

from pyroaring import BitMap

from events.projection_store.port import ProjectionStore
from events.stored_projection.partition_reader import ids_of, pages_of

DevicePosition = tuple[int, int]
"""Partition and ordinal of a device."""

FIRST: DevicePosition = (0, -1)
"""Before all devices."""


def device_ids(projections: ProjectionStore, number: int, ordinals: BitMap) -> Iterator[str]:
    """The ids of devices of a partition, in the order of their ordinals.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    return ids_of(ordinals, projections.read(number, fields=(("ids", pages_of(ordinals)),)))


def positions_after(
    members: Callable[[int], BitMap], *, partitions: int, after: DevicePosition = FIRST, limit: int
) -> tuple[Sequence[DevicePosition], DevicePosition | None]:
    """The next `limit` positions of a set that each partition has, and the position to continue from; `None` at the end."""
    # Ordinals only grow, so a device that stays in the set is on exactly one page.
    positions: list[DevicePosition] = []
    for number in range(after[0], partitions):
        ahead = members(number).iter_equal_or_larger(after[1] + 1 if number == after[0] else 0)
        positions += ((number, ordinal) for ordinal in itertools.islice(ahead, limit + 1 - len(positions)))
        if len(positions) > limit:
            return positions[:limit], positions[limit - 1]
    return positions, None


def device_ids_at(projections: ProjectionStore, positions: Sequence[DevicePosition]) -> list[str]:
    """The ids of the devices at ascending positions.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    names: list[str] = []
    for number, group in itertools.groupby(positions, key=lambda position: position[0]):
        names += device_ids(projections, number, BitMap([ordinal for _, ordinal in group]))
    return names
