"""`/v1/audit`: search and export of events and assignment changes, with their authors, causes and effects."""

import csv
import datetime as dt
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Depends, Path, Query, Request
from fastapi.responses import StreamingResponse

from events import canonical
from events.audit.causes import CauseTree, causes_of, effects
from events.audit.errors import SearchInvalid
from events.audit.search import FoundEntry, LogSearcher, Range, Search, SearchOrder, SearchPage, location_of
from events.canonical import JsonObject
from events.device.times import time_text
from events.event_text import event_text
from events.log.codec import decode_entry
from events.log.entries import number_of, stream_names
from events.log.errors import UnreadableEvent
from events.log.port import KINDS
from events.notification.cloud_event import Notification, of_unreadable
from events.notification.event_filter import DeviceOrdinals
from events.notification.feed import Feed
from events.projection_store.query_engine import ContinuationInvalid
from events.projection_store.redis import assignment_change_of
from events.terminal import visible, visible_json
from services.api.auth.secret_reads import fetches_of
from services.api.context.api_context import ApiContext
from services.api.context.pages import PAGE_MAX
from services.api.context.request import context_of
from services.api.http.access import AUDIT_READ, Access
from services.api.http.errors import NotFound
from services.api.http.json_answer import AnswerBody
from services.api.http.path_names import DeviceId
from services.api.http.request_costs import LONG
from services.api.v1.devices import POSITION_MAX
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
Format = Literal["ndjson", "csv", "cloudevents"]
MEDIA_TYPES: dict[Format, str] = {
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
    # One event per line: the batch format of CloudEvents is a single JSON array, which cannot be continued after a break.
    "cloudevents": "application/x-ndjson",
}
COLUMNS = ("stream", "position", "time", "kind", "subject", "by", "version", "cause", "sentence", "data")
BATCH_LINES = 200
_EXPORTED = 1000
_FORMULAS = ("=", "+", "-", "@", "\\t", "\\r")
_EXPORT: JsonObject = {
    "description": "One line or record per entry.",
    "content": {media: {"schema": {"type": "string"}} for media in MEDIA_TYPES.values()},
}


class AuditLine(AnswerBody):
    """An event or an assignment change: its position, time, author, kind, subject and cause, with a sentence.

    `at` is in milliseconds. `data` has the members of the event, with `***` in place of secrets.
    """

    stream: str
    position: int
    at: int
    time: str | None
    kind: str
    subject: str
    by: str | None
    version: int | None
    cause: str | None
    sentence: str
    data: JsonObject


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


class _SearchProgress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a continuation: the digest of the search, and the ranges that it has not read."""

    of: str
    ranges: dict[str, Range]


class AuditReader:
    """Reads and searches the entries of a log."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self.names = stream_names(context.log.partitions)
        self._feed = Feed(context.log, context.projections)
        partitions = context.log.partitions
        ordinals = DeviceOrdinals(context.projections, partitions=partitions)
        among, device_ids = ordinals.among, ordinals.names
        self.searching = LogSearcher(
            context.streams, names=self.names, partitions=partitions, among=among, device_ids=device_ids
        )

    def page(
        self, search: Search, *, order: SearchOrder, limit: int, continuation: str | None
    ) -> tuple[SearchPage, str | None]:
        """A page of a search, and the continuation of the next page; `None` after the last page.

        Raises:
            SearchInvalid, ContinuationInvalid: a stream is unknown, or the continuation is invalid.
            LogUnavailable, LogLostItsTail: the log cannot be read.
        """
        of = canonical.digest((msgspec.to_builtins(search), order))
        text = self._context.continuations.open(continuation)
        try:
            progress = None if text is None else msgspec.json.decode(text, type=_SearchProgress)
        except msgspec.DecodeError:
            raise ContinuationInvalid from None
        if progress is not None and progress.of != of:
            raise SearchInvalid("continuation", "is of another search; send the parameters of the first page with it")
        ranges = self.searching.begin(search) if progress is None else progress.ranges
        page = self.searching.page(search, ranges, order=order, limit=limit)
        if not page.unread:
            return page, None
        return page, self._context.continuations.seal(canonical.encode(_SearchProgress(of, page.unread)).decode())

    def entry(self, stream: str, position: int) -> FoundEntry:
        """The entry at a position.

        Raises:
            NotFound: the stream or the position does not exist.
            LogUnavailable, LogLostItsTail: the log cannot be read.
        """
        if stream not in self.names:
            last = self.names[self._context.log.partitions]
            raise NotFound(
                f"there is no stream {stream[:40]!r}; there are {self.names[0]}, {self.names[1]} to {last},"
                f" and {self.names[1]}:assignments to {last}:assignments"
            )
        entries = self.searching.streams.read(stream, after=position - 1, limit=1) if position > 0 else []
        if not entries:
            raise NotFound(f"{stream} has no position {position}")
        return FoundEntry(stream, entries[0])

    def notification(self, found_entry: FoundEntry) -> Notification:
        """An entry as a CloudEvent without secrets.

        Raises:
            LogUnavailable: the device ids of an assignment change could not be read from Redis.
        """
        index, number, entry = self.names.index(found_entry.stream), number_of(found_entry.stream), found_entry.entry
        try:
            if index > self._context.log.partitions:
                return self._feed.assignment_change(index, assignment_change_of(entry))
            return self._feed.event(index, number, decode_entry(found_entry.stream, entry.position, entry.fields))
        except (UnreadableEvent, msgspec.DecodeError, KeyError, ValueError):
            # An audit shows that the entry exists: an entry that was tampered with must not end the search.
            return of_unreadable(self._feed.location(index, number, entry.position))

    def line(self, found_entry: FoundEntry) -> AuditLine:
        """An entry as a line of an answer."""
        notification = self.notification(found_entry)
        event: JsonObject = msgspec.json.decode(notification.body)
        by, subject, data = event.get("by", ""), event.get("subject", ""), event.get("data", {})
        return AuditLine(
            stream=found_entry.stream,
            position=found_entry.entry.position,
            at=notification.at,
            time=time_text(notification.at) if notification.at else None,
            kind=notification.kind,
            subject=subject,
            by=by or None,
            version=event.get("version"),
            cause=event.get("cause"),
            sentence=event_text(notification.kind, subject=subject, by=by, data=data),
            data=data,
        )

    def all(self, search: Search, after: tuple[str, int] | None) -> Iterator[FoundEntry]:
        """All entries of a search, stream by stream, oldest first; `after` is the last entry that the caller has.

        Raises:
            SearchInvalid: a stream is unknown.
            LogUnavailable, LogLostItsTail: the log cannot be read.
        """
        ranges = self.searching.begin(search)
        if after is not None:
            done = self.names.index(after[0])
            ranges = {stream: left for stream, left in ranges.items() if self.names.index(stream) >= done}
            if after[0] in ranges:
                left = ranges[after[0]]
                ranges[after[0]] = Range(max(left.after, after[1]), left.upto)

        def entries_of(stream: str) -> Iterator[FoundEntry]:
            left = ranges[stream]
            unread: Mapping[str, Range] = {stream: left} if left.after < left.upto else {}
            while unread:
                page = self.searching.page(search, unread, order="oldest", limit=_EXPORTED)
                yield from page.entries
                unread = page.unread

        return itertools.chain.from_iterable(entries_of(stream) for stream in self.names if stream in ranges)


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
        SearchInvalid: a kind is unknown, a time cannot be read, or `since` is after `until`.
    """
    first, last = _milliseconds("since", since), _milliseconds("until", until)
    search = Search(device, deployment, by, frozenset(kind or ()), cause, first, last, tuple(stream or ()))
    if unknown := sorted(search.kinds - KINDS):
        raise SearchInvalid("kind", f"there is no {unknown[0][:80]!r}; there are {', '.join(sorted(KINDS))}")
    if first is not None and last is not None and first > last:
        raise SearchInvalid("since", "must not be after until")
    return search


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
    format_: Annotated[Format, Query(alias="format")] = "ndjson",
    after: Annotated[str | None, Query(max_length=40, description="Continue after this entry, as in p03:17.")] = None,
) -> StreamingResponse:
    """All entries of a search, stream by stream, as JSON lines, CSV, or CloudEvents with one event per line."""
    reader = reader_of(request)
    location = None if after is None else location_of(after)
    if location is not None:  # An unknown position is a 404 here; the body of a stream could not say so any more.
        reader.entry(*location)
    parts = export_of(reader, reader.all(search, location), format_, with_header=after is None)
    return StreamingResponse(parts, media_type=MEDIA_TYPES[format_], headers={"cache-control": "no-store"})


def export_of(
    reader: AuditReader, entries: Iterable[FoundEntry], format_: Format, *, with_header: bool
) -> Iterator[bytes]:
    """An export in parts of at most 200 lines. CSV can begin with the names of its columns."""
    if format_ == "csv" and with_header:
        yield _csv([COLUMNS])
    remaining = iter(entries)
    while batch := list(itertools.islice(remaining, BATCH_LINES)):
        if format_ == "csv":
            lines = map(reader.line, batch)
            yield _csv([_cell(getattr(line, column)) for column in COLUMNS] for line in lines)
        elif format_ == "ndjson":
            yield b"".join(_line(msgspec.json.encode(reader.line(entry), order="sorted")) for entry in batch)
        else:
            yield b"".join(_line(reader.notification(entry).body) for entry in batch)


def _line(json: bytes) -> bytes:
    return visible_json(json.decode()).encode() + b"\n"


def _csv(lines: Iterable[Iterable[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    """A value as a cell on one line, with characters that control a terminal escaped as in JSON or by `visible`."""
    if value is None:
        return ""
    text = visible(value) if isinstance(value, str) else visible_json(canonical.encode(value).decode())
    # An apostrophe keeps a spreadsheet from running the cell as a formula: device ids and reasons are the callers' text.
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULAS) else text
