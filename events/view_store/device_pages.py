"""Devices of sets, by partition and ordinal, as pages of ids."""

import itertools
from collections.abc import Callable, Iterator, Sequence

from pyroaring import BitMap

from events.view_store.port import Selection, ViewStore
from events.views.reading import ids_of, pages_of

Place = tuple[int, int]
"""A partition, and the ordinal of a device in it."""

FIRST: Place = (0, -1)
"""Before all devices."""


def device_ids(views: ViewStore, number: int, ordinals: BitMap) -> Iterator[str]:
    """The ids of some devices of a partition, in the order of their ordinals.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    return ids_of(ordinals, views.read(number, Selection(fields=(("ids", pages_of(ordinals)),))))


def places_after(
    members: Callable[[int], BitMap], *, partitions: int, after: Place = FIRST, limit: int
) -> tuple[Sequence[Place], Place | None]:
    """The next `limit` places of a set that each partition has, and the place to go on from; `None` at the end.

    No partition is asked twice. Ordinals only grow, so that a device which is in the set throughout is on one page exactly.
    """
    places: list[Place] = []
    for number in range(after[0], partitions):
        behind = after[1] if number == after[0] else -1
        ahead = (ordinal for ordinal in members(number) if ordinal > behind)
        places += ((number, ordinal) for ordinal in itertools.islice(ahead, limit + 1 - len(places)))
        if len(places) > limit:
            return places[:limit], places[limit - 1]
    return places, None


def device_ids_at(views: ViewStore, places: Sequence[Place]) -> list[str]:
    """The ids of the devices at some ascending places.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    names: list[str] = []
    for number, group in itertools.groupby(places, key=lambda place: place[0]):
        names += device_ids(views, number, BitMap([ordinal for _, ordinal in group]))
    return names
