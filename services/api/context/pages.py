"""Pages of device ids: where one begins, and what is said of the next."""

import re

from events.canonical import JsonObject
from events.view_store.querying import ContinuationInvalid
from services.api.context.api_context import Room

PAGE_MAX = 1000
_PLACE = re.compile(r"([0-9]{1,3}):(-1|[0-9]{1,9})", re.ASCII)


def page(room: Room, found: tuple[list[str], tuple[int, int] | None]) -> JsonObject:
    """A page as an answer: ids, and a sealed continuation where there are more."""
    names, place = found
    return {
        "devices": names,
        "continuation": None if place is None else room.continuations.seal(f"{place[0]}:{place[1]}"),
    }


def place_of(text: str | None) -> tuple[int, int]:
    """The (partition, ordinal) behind which a page begins.

    Raises:
        ContinuationInvalid: it is none.
    """
    if text is None:
        return (0, -1)
    found = _PLACE.fullmatch(text)
    if found is None:
        raise ContinuationInvalid
    return int(found[1]), int(found[2])
