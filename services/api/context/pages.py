"""Pages of device ids: where a page begins, and the continuation of the next."""

import re
from typing import Annotated

import msgspec
from fastapi import Depends, Query

from events.projection_store.query_engine import ContinuationInvalid
from services.api.context.api_context import ApiContext
from services.api.http.json_answer import AnswerBody

PAGE_MAX = 1000
_LOCATION = re.compile(r"([0-9]{1,3}):(-1|[0-9]{1,9})", re.ASCII)


class DevicePage(AnswerBody):
    """Device ids, and where the next page begins; `null` after the last."""

    devices: list[str]
    continuation: str | None


class PageQuery(msgspec.Struct, frozen=True):
    """The page of devices in a request's query, of at most `limit`."""

    limit: int
    continuation: str | None

    def after(self, context: ApiContext) -> tuple[int, int]:
        """The (partition, ordinal) before the page; raises ContinuationInvalid for a continuation of another list."""
        return location_of(context.continuations.open(self.continuation))


# A coroutine: FastAPI runs a plain function, and the constructor of a class, in a thread.
async def page_in_query(
    top: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100, continuation: Annotated[str | None, Query()] = None
) -> PageQuery:
    """The page that a query asks for."""
    return PageQuery(top, continuation)


PageInQuery = Annotated[PageQuery, Depends(page_in_query)]


def page(context: ApiContext, devices: tuple[list[str], tuple[int, int] | None]) -> DevicePage:
    """A page as an answer."""
    return DevicePage(devices[0], continuation_at(context, devices[1]))


def continuation_at(context: ApiContext, location: tuple[int, int] | None) -> str | None:
    """The sealed continuation for the page after a (partition, ordinal); `None` after the last page."""
    return None if location is None else context.continuations.seal(f"{location[0]}:{location[1]}")


def location_of(opened: str | None) -> tuple[int, int]:
    """The (partition, ordinal) in a continuation, before all devices without one; ContinuationInvalid for any other."""
    if opened is None:
        return (0, -1)
    # A continuation of a preview's list is sealed with the same key, and is no such location.
    match = _LOCATION.fullmatch(opened)
    if match is None:
        raise ContinuationInvalid
    return int(match[1]), int(match[2])
