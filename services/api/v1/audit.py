"""`/v1/audit`: search and export of events and assignment changes, with their authors, causes and effects."""

import datetime as dt
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
from services.api.v1.audit_export import MEDIA_TYPES, export_of
from services.api.v1.devices import POSITION_MAX
from services.api.v1.history_entries import AuditLine, AuditReader
from services.api.v1.router import v1_router

_READ = Access(AUDIT_READ, at="it is the log itself, and has parameters of its own for positions and times", cost=LONG)
router = v1_router("/audit", read=_READ)

Name = Annotated[str, Query(max_length=256)]
Kinds = Annotated[list[str] | None, Query(max_length=100, description="Types of events, and AssignmentChange.")]
Names = Annotated[list[str] | None, Query(max_length=100, description="Streams: fleet, p00, p00:assignments.")]
Time = Annotated[
    str | None, Query(max_length=40, description="RFC 3339, or milliseconds.", examples=["2026-01-01T00:00:00Z"])
]
StreamName = Annotated[str, Path(description="fleet, p03 or p03:assignments", examples=["fleet"])]
Position = Annotated[int, Path(ge=1, le=POSITION_MAX, examples=[1])]
_EXPORT: JsonObject = {
    "description": "One line or record per entry.",
    "content": {media: {"schema": {"type": "string"}} for media in MEDIA_TYPES.values()},
}


class AuditPage(AnswerBody):
    """Entries in their order, the number of entries that were read for the page, and the continuation of the next page."""

    events: list[AuditLine]
    scanned: int
    continuation: str | None


class CauseBranch(AnswerBody):
    """An entry of a tree with its branches. A branch without a location has only a sentence."""

    location: str | None
    sentence: str
    by: str | None = None
    time: str | None = None
    more: tuple["CauseBranch", ...] = ()


class CausesAnswer(AnswerBody):
    """An entry, its causes and its effects."""

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
    since: Time = None,
    until: Annotated[str | None, Query(max_length=40, description="As `since`; included.")] = None,
    stream: Names = None,
) -> Search:
    """The search of the query parameters.

    Raises:
        SearchInvalid: a time cannot be read.
    """
    return Search(
        device,
        deployment,
        by,
        frozenset(kind or ()),
        cause,
        _milliseconds("since", since),
        _milliseconds("until", until),
        tuple(stream or ()),
    )


def _milliseconds(element: str, text: str | None) -> int | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        parsed = dt.datetime.fromisoformat(text)
        # A time without an offset is UTC: the time zone of this machine says nothing to the caller.
        return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=dt.UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise SearchInvalid(element, f"must be a time such as 2026-05-01T12:30:00Z, not {text[:40]!r}") from None


SearchQuery = Annotated[Search, Depends(search_of)]


def reader_of(request: Request) -> AuditReader:
    """The audit reader of the process."""
    reader: AuditReader = request.app.state.audit_reader
    return reader


@router.get("/events")
def events(
    request: Request,
    search: SearchQuery,
    *,
    order: SearchOrder = "newest",
    top: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
    continuation: Annotated[str | None, Query()] = None,
) -> AuditPage:
    """Events and assignment changes by device, deployment, author, kind, cause, time and stream, page by page.

    Secrets appear as `***`. A page with a continuation can have few entries or none: the number of entries that are read
    for a page is limited.
    """
    reader = reader_of(request)
    page, more = reader.page(search, order=order, limit=top, continuation=continuation)
    return AuditPage([reader.line(entry) for entry in page.entries], page.scanned, more)


@router.get("/events/{stream}/{position}")
def event(request: Request, stream: StreamName, position: Position) -> AuditLine:
    """An entry by its position."""
    reader = reader_of(request)
    return reader.line(reader.entry(stream, position))


@router.get("/events/{stream}/{position}/causes")
def causes(request: Request, stream: StreamName, position: Position) -> CausesAnswer:
    """The causes and the effects of an entry, as trees."""
    reader = reader_of(request)
    entry = reader.entry(stream, position)
    return CausesAnswer(
        event=reader.line(entry),
        causes=[_branch(reader, tree) for tree in causes_of(reader.searching, entry)],
        effects=[_branch(reader, tree) for tree in effects(reader.searching, entry)],
    )


def _branch(reader: AuditReader, tree: CauseTree) -> CauseBranch:
    if tree.found_entry is None:
        return CauseBranch(None, tree.text)
    line = reader.line(tree.found_entry)
    more = tuple(_branch(reader, branch) for branch in tree.branches)
    return CauseBranch(f"{line.stream}:{line.position}", line.sentence, line.by, line.time, more)


@router.get("/fetches/{device_id}")
def fetches(request: Request, device_id: DeviceId) -> SecretFetches:
    """How often a device fetched the secrets of its modules and its own keys, by day (UTC), newest first."""
    context = context_of(request)
    days = fetches_of(context.client, device_id, partitions=context.log.partitions, at=context.clock())
    return SecretFetches(device_id, days)


@router.get("/export", response_class=StreamingResponse, responses={200: _EXPORT})
def export(
    request: Request,
    search: SearchQuery,
    *,
    format_: Annotated[Literal["ndjson", "csv", "cloudevents"], Query(alias="format")] = "ndjson",
    after: Annotated[str | None, Query(max_length=40, description="Continue after this entry, as in p03:17.")] = None,
) -> StreamingResponse:
    """All entries of a search, stream by stream, as JSON lines, CSV, or CloudEvents with one event per line."""
    reader = reader_of(request)
    location = None if after is None else location_of(after)
    if location is not None:  # An unknown position is a 404 here; the body of a stream could not say so any more.
        reader.entry(*location)
    entries = reader.all(search, location)
    parts = export_of(reader, entries, format_, with_header=after is None)
    return StreamingResponse(parts, media_type=MEDIA_TYPES[format_], headers={"cache-control": "no-store"})
