"""`/v1/audit`: what happened, by whom, why, and what it led to."""

import datetime as dt
from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import Depends, Path, Query, Request
from fastapi.responses import StreamingResponse

from events.audit.causes import CauseTree, causes_of, effects
from events.audit.errors import SearchInvalid
from events.audit.search import Search, SearchOrder, location_of
from events.canonical import JsonObject
from services.api.auth.secret_reads import fetches_of
from services.api.context.pages import PAGE_MAX
from services.api.context.request import context_of
from services.api.http.access import AUDIT_READ, Access
from services.api.http.json_answer import AnswerBody
from services.api.http.path_names import DeviceId
from services.api.http.request_costs import LONG
from services.api.v1.audit_export import MEDIA_TYPES, rows
from services.api.v1.history_entries import Auditing, AuditLine
from services.api.v1.router import v1_router

_READ = Access(AUDIT_READ, at="it is the log itself, and takes positions and times of its own", cost=LONG)
router = v1_router("/audit", read=_READ)

Name = Annotated[str, Query(max_length=256)]
Kinds = Annotated[list[str] | None, Query(max_length=100, description="Types of events, and Assignment change.")]
Names = Annotated[list[str] | None, Query(max_length=100, description="Streams: fleet, p00, p00:assignments.")]
PointInTime = Annotated[
    str | None, Query(max_length=40, description="RFC 3339, or milliseconds.", examples=["2026-01-01T00:00:00Z"])
]
StreamName = Annotated[str, Path(description="fleet, p03 or p03:assignments", examples=["fleet"])]
Position = Annotated[int, Path(ge=1, le=2**53 - 1, examples=[1])]
_EXPORT: JsonObject = {
    "description": "One line or record per entry.",
    "content": {media: {"schema": {"type": "string"}} for media in MEDIA_TYPES.values()},
}


class AuditPage(AnswerBody):
    """Entries in their order; `scanned` were looked at for this page, and the continuation leads to the rest."""

    events: list[AuditLine]
    scanned: int
    continuation: str | None


class CauseBranch(AnswerBody):
    """An entry of a tree, with what is behind it; without a place, only a sentence."""

    location: str | None
    sentence: str
    by: str | None = None
    time: str | None = None
    more: tuple["CauseBranch", ...] = ()


class CausesAnswer(AnswerBody):
    """An entry, what led to it, and what it led to."""

    event: AuditLine
    causes: list[CauseBranch]
    effects: list[CauseBranch]


class SecretFetches(AnswerBody):
    """How often a device fetched its own secrets, by day."""

    device_id: str
    days: dict[str, int]


def search_of(
    *,
    device: Name = "",
    deployment: Name = "",
    by: Annotated[str, Query(max_length=256, description="A principal, as in user:ada, or its id alone.")] = "",
    kind: Kinds = None,
    cause: Name = "",
    since: PointInTime = None,
    until: Annotated[str | None, Query(max_length=40, description="As `since`; included.")] = None,
    stream: Names = None,
) -> Search:
    """A search as it is asked for.

    Raises:
        SearchInvalid: a time is none.
    """
    return Search(
        device,
        deployment,
        by,
        frozenset(kind or ()),
        cause,
        _point_in_time("since", since),
        _point_in_time("until", until),
        tuple(stream or ()),
    )


def _point_in_time(element: str, text: str | None) -> int | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        found = dt.datetime.fromisoformat(text)
        return int((found if found.tzinfo else found.replace(tzinfo=dt.UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise SearchInvalid(element, f"{text[:40]!r} is no time such as 2026-05-01T12:30:00Z") from None


Asked = Annotated[Search, Depends(search_of)]


def auditing_of(request: Request) -> Auditing:
    """The process's reader of history."""
    auditing: Auditing = request.app.state.auditing
    return auditing


@router.get("/events")
def events(
    request: Request,
    search: Asked,
    *,
    order: Literal["oldest", "newest"] = "newest",
    top: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
    continuation: Annotated[str | None, Query()] = None,
) -> AuditPage:
    """Events and assignment changes by device, deployment, author, kind, cause, time and stream, page by page; secrets show as `***`.

    A page may have few entries, or none, and a continuation: much was looked at, and there may be more.
    """
    auditing = auditing_of(request)
    page, more = auditing.page(search, order=SearchOrder(order), limit=top, continuation=continuation)
    return AuditPage([auditing.line(found_entry) for found_entry in page.entries], page.scanned, more)


@router.get("/events/{stream}/{position}")
def event(request: Request, stream: StreamName, position: Position) -> AuditLine:
    """One entry."""
    auditing = auditing_of(request)
    return auditing.line(auditing.entry(stream, position))


@router.get("/events/{stream}/{position}/causes")
def causes(request: Request, stream: StreamName, position: Position) -> CausesAnswer:
    """What led to an entry, and what it led to, as trees."""
    auditing = auditing_of(request)
    entry = auditing.entry(stream, position)
    return CausesAnswer(
        event=auditing.line(entry),
        causes=[_branch(auditing, tree) for tree in causes_of(auditing.searching, entry)],
        effects=[_branch(auditing, tree) for tree in effects(auditing.searching, entry)],
    )


def _branch(auditing: Auditing, tree: CauseTree) -> CauseBranch:
    if tree.found_entry is None:
        return CauseBranch(None, tree.text)
    line = auditing.line(tree.found_entry)
    more = tuple(_branch(auditing, branch) for branch in tree.branches)
    return CauseBranch(f"{line.stream}:{line.position}", line.sentence, line.by, line.time, more)


@router.get("/fetches/{device_id}")
def fetches(request: Request, device_id: DeviceId) -> SecretFetches:
    """How often a device fetched the secrets of its own modules and keys, by day (UTC), newest first."""
    context = context_of(request)
    days = fetches_of(context.client, device_id, partitions=context.log.partitions, at=context.clock())
    return SecretFetches(device_id, days)


@router.get("/export", response_class=StreamingResponse, responses={200: _EXPORT})
def export(
    request: Request,
    search: Asked,
    *,
    format_: Annotated[Literal["ndjson", "csv", "cloudevents"], Query(alias="format")] = "ndjson",
    after: Annotated[str | None, Query(max_length=40, description="Go on behind this place, as in p03:17.")] = None,
) -> StreamingResponse:
    """Everything that is found, stream by stream, as JSON lines, CSV, or CloudEvents one a line."""
    auditing = auditing_of(request)
    location = None if after is None else location_of(after)
    if location is not None:
        auditing.entry(*location)
    found = auditing.all(search, location)
    parts: Iterator[bytes] = rows(auditing, found, format_, with_header=after is None)
    return StreamingResponse(parts, media_type=MEDIA_TYPES[format_], headers={"cache-control": "no-store"})
