"""Pages of devices: a place is (partition, ordinal), and clients carry it sealed."""

import re

from events.canonical import JsonObject
from events.view_store.querying import ContinuationInvalid
from services.api.room import Room

PAGE_MAX = 1000
_PLACE = re.compile(r"([0-9]{1,3}):(-1|[0-9]{1,9})", re.ASCII)

Place = tuple[int, int]


def opened(room: Room, continuation: str | None) -> Place:
    """Where a page begins; without a continuation at the first device.

    Raises:
        ContinuationInvalid: it is none of ours.
    """
    place = room.continuations.open(continuation)
    if place is None:
        return (0, -1)
    found = _PLACE.fullmatch(place)
    if found is None:
        raise ContinuationInvalid
    return int(found[1]), int(found[2])


def page(room: Room, found: tuple[list[str], Place | None]) -> JsonObject:
    """The answer: devices, and where to go on; `null` after the last."""
    devices, place = found
    return {
        "devices": devices,
        "continuation": None if place is None else room.continuations.seal(f"{place[0]}:{place[1]}"),
    }
