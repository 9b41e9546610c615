"""The groups of updates, for one request, and pages of their devices."""

import re
from typing import Annotated

from fastapi import Depends, Request

from events.canonical import Json
from events.view_store.groups import DeviceState, GroupView
from events.view_store.querying import ContinuationInvalid
from services.api.context.request import room_of
from services.api.http.errors import BodyInvalid

_PLACE = re.compile(r"([0-9]{1,3}):(-1|[0-9]{1,9})", re.ASCII)


def view_of(request: Request) -> GroupView:
    """The groups as they stand for one request."""
    room = room_of(request)
    return GroupView(room.log, room.views)


View = Annotated[GroupView, Depends(view_of)]


def place_in(opened: str | None) -> tuple[int, int]:
    """The (partition, ordinal) that a page goes on from; before everybody where there is none.

    Raises:
        ContinuationInvalid: it was made for something else.
    """
    if opened is None:
        return (0, -1)
    found = _PLACE.fullmatch(opened)
    if found is None:
        raise ContinuationInvalid
    return int(found[1]), int(found[2])


def state_of(value: Json) -> DeviceState:
    """A device's state by its name.

    Raises:
        BodyInvalid: there is none of that name.
    """
    try:
        return DeviceState(value)
    except ValueError:
        raise BodyInvalid(f"a state is one of {', '.join(one.value for one in DeviceState)}") from None
