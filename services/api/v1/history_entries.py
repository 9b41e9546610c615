"""The entries of the log and of assignment changes as the audit shows them: each as a CloudEvent and as a line."""

import itertools
from collections.abc import Iterator, Mapping

import msgspec

from events import canonical
from events.audit.errors import SearchInvalid
from events.audit.search import FoundEntry, LogSearcher, Range, Search, SearchOrder, SearchPage
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
from services.api.context.api_context import ApiContext
from services.api.http.errors import NotFound
from services.api.http.json_answer import AnswerBody


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
        ordinals = DeviceOrdinals(context.projections, partitions=context.log.partitions)
        self.searching = LogSearcher(
            context.streams,
            names=self.names,
            partitions=context.log.partitions,
            among=ordinals.among,
            device_ids=ordinals.names,
        )

    def page(
        self, search: Search, *, order: SearchOrder, limit: int, continuation: str | None
    ) -> tuple[SearchPage, str | None]:
        """A page of a search, and the continuation of the next page; `None` after the last page.

        Raises:
            SearchInvalid, ContinuationInvalid: the search or the continuation is invalid.
            LogUnavailable, LogLostItsTail: the log cannot be read.
        """
        check(search)
        of = canonical.digest((msgspec.to_builtins(search), order.value))
        text = self._context.continuations.open(continuation)
        ranges = self.searching.begin(search) if text is None else self._ranges(text, of)
        page = self.searching.page(search, ranges, order=order, limit=limit)
        if not page.unread:
            return page, None
        return page, self._context.continuations.seal(canonical.encode(_SearchProgress(of, page.unread)).decode())

    def _ranges(self, text: str, of: str) -> Mapping[str, Range]:
        try:
            progress = msgspec.json.decode(text, type=_SearchProgress)
        except msgspec.DecodeError:
            raise ContinuationInvalid from None
        if progress.of != of:
            raise SearchInvalid("continuation", "is of another search; send the parameters of the first page with it")
        return progress.ranges

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
        location = self._feed.location(index, number, entry.position)
        try:
            if index > self._context.log.partitions:
                return self._feed.assignment_change(index, assignment_change_of(entry))
            return self._feed.event(index, number, decode_entry(found_entry.stream, entry.position, entry.fields))
        except (UnreadableEvent, msgspec.DecodeError, KeyError, ValueError):
            # An audit shows that the entry exists: an entry that was tampered with must not end the search.
            return of_unreadable(location)

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
            SearchInvalid: the search is invalid.
            LogUnavailable, LogLostItsTail: the log cannot be read.
        """
        check(search)
        ranges = self.searching.begin(search)
        if after is not None:
            done = self.names.index(after[0])
            ranges = {stream: left for stream, left in ranges.items() if self.names.index(stream) >= done}
            if after[0] in ranges:
                left = ranges[after[0]]
                ranges[after[0]] = Range(max(left.after, after[1]), left.upto)
        return itertools.chain.from_iterable(
            self._one_stream(search, stream, ranges[stream]) for stream in self.names if stream in ranges
        )

    def _one_stream(self, search: Search, stream: str, left: Range) -> Iterator[FoundEntry]:
        ranges: Mapping[str, Range] = {stream: left} if left.after < left.upto else {}
        while ranges:
            page = self.searching.page(search, ranges, order=SearchOrder.OLDEST, limit=_EXPORTED)
            yield from page.entries
            ranges = page.unread


_EXPORTED = 1000


def check(search: Search) -> None:
    """Refuse a search that no entry can match.

    Raises:
        SearchInvalid: a kind is unknown, or `since` is after `until`.
    """
    unknown = sorted(search.kinds - KINDS)
    if unknown:
        raise SearchInvalid("kind", f"there is no {unknown[0][:80]!r}; there are {', '.join(sorted(KINDS))}")
    if search.since is not None and search.until is not None and search.since > search.until:
        raise SearchInvalid("since", "must not be after until")
