"""History as people and programs are told of it: each entry as a notification, with a sentence."""

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
from events.log.kinds import KINDS
from events.log.raw import RawStreams
from events.notification.cloud_event import Notification, of_unreadable
from events.notification.event_filter import DeviceOrdinals
from events.notification.feed import Feed
from events.projection_store.query_engine import ContinuationInvalid
from events.projection_store.redis import assignment_change_of
from services.api.context.api_context import ApiContext
from services.api.http.errors import NotFound
from services.api.http.json_answer import AnswerBody


class AuditLine(AnswerBody):
    """An event or an assignment change: where it stands, when, who, what, why; `data` is its own, `***` stands for secrets.

    `at` is in milliseconds.
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


class _Location(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a continuation of a search stands for."""

    of: str
    rest: dict[str, Range]


class Auditing:
    """Reads one log's history."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self.names = stream_names(context.log.partitions)
        self._feed = Feed(context.log, context.projections)
        ordinals = DeviceOrdinals(context.projections, partitions=context.log.partitions)
        self.searching = LogSearcher(
            RawStreams(context.client),
            names=self.names,
            partitions=context.log.partitions,
            among=ordinals.among,
            device_ids=ordinals.names,
        )

    def page(
        self, search: Search, *, order: SearchOrder, limit: int, continuation: str | None
    ) -> tuple[SearchPage, str | None]:
        """A page of a search, and the continuation that leads on.

        Raises:
            SearchInvalid, ContinuationInvalid: it cannot be made, or gone on with.
            LogUnavailable, LogLostItsTail: history cannot be read.
        """
        check(search)
        of = canonical.digest((msgspec.to_builtins(search), order.value))
        location = self._context.continuations.open(continuation)
        rest = self.searching.begin(search) if location is None else self._rest(location, of)
        page = self.searching.page(search, rest, order=order, limit=limit)
        if not page.unread:
            return page, None
        return page, self._context.continuations.seal(canonical.encode(_Location(of, page.unread)).decode())

    def _rest(self, location: str, of: str) -> Mapping[str, Range]:
        try:
            found = msgspec.json.decode(location, type=_Location)
        except msgspec.DecodeError:
            raise ContinuationInvalid from None
        if found.of != of:
            raise SearchInvalid(
                "continuation", "is of another search; what is looked for stays the same from page to page"
            )
        return found.rest

    def entry(self, stream: str, position: int) -> FoundEntry:
        """One entry.

        Raises:
            NotFound: there is none.
            LogUnavailable, LogLostItsTail: it cannot be read.
        """
        if stream not in self.names:
            raise NotFound(f"no stream {stream[:40]!r}; there are {self.names[0]}, {self.names[1]} and on")
        some = self.searching.streams.read(stream, after=position - 1, limit=1) if position > 0 else []
        if not some:
            raise NotFound(f"{stream} has no position {position}")
        return FoundEntry(stream, some[0])

    def told(self, one: FoundEntry) -> Notification:
        """An entry as a notification: a CloudEvent without secrets.

        Raises:
            LogUnavailable: Redis did not say which devices an assignment change is about.
        """
        index, number, entry = self.names.index(one.stream), number_of(one.stream), one.entry
        location = self._feed.location(index, number, entry.position)
        try:
            if index > self._context.log.partitions:
                return self._feed.assignment_change(index, assignment_change_of(entry))
            return self._feed.event(index, number, decode_entry(one.stream, entry.position, entry.fields))
        except (UnreadableEvent, msgspec.DecodeError, KeyError, ValueError):
            return of_unreadable(location)

    def line(self, one: FoundEntry) -> AuditLine:
        """An entry as a line of an answer."""
        told = self.told(one)
        event: JsonObject = msgspec.json.decode(told.body)
        by, subject, data = event.get("by", ""), event.get("subject", ""), event.get("data", {})
        return AuditLine(
            stream=one.stream,
            position=one.entry.position,
            at=told.at,
            time=time_text(told.at) if told.at else None,
            kind=told.kind,
            subject=subject,
            by=by or None,
            version=event.get("version"),
            cause=event.get("cause"),
            sentence=event_text(told.kind, subject=subject, by=by, data=data),
            data=data,
        )

    def all(self, search: Search, after: tuple[str, int] | None) -> Iterator[FoundEntry]:
        """Everything that is found, stream by stream, each from its beginning; from behind a place of one stream on.

        Raises:
            SearchInvalid: it cannot be made.
            LogUnavailable, LogLostItsTail: history cannot be read.
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
        rest: Mapping[str, Range] = {stream: left} if left.after < left.upto else {}
        while rest:
            page = self.searching.page(search, rest, order=SearchOrder.OLDEST, limit=_EXPORTED)
            yield from page.entries
            rest = page.unread


_EXPORTED = 1000


def check(search: Search) -> None:
    """Refuse what nothing could be found by.

    Raises:
        SearchInvalid: names what is at fault.
    """
    unknown = sorted(search.kinds - KINDS)
    if unknown:
        raise SearchInvalid("kind", f"there is no {unknown[0][:80]!r}; there are {', '.join(sorted(KINDS))}")
    if search.since is not None and search.until is not None and search.since > search.until:
        raise SearchInvalid("since", "is after until")
