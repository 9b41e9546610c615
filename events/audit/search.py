"""Search in the log: matching entries of all streams, in the order of their times, page by page."""

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec
from pyroaring import BitMap

from events.audit.errors import LocationInvalid, SearchInvalid
from events.fleet.assignments import AssignmentChange
from events.log.entries import RawEntry, number_of
from events.log.keys import FLEET, device_of, partition_of
from events.log.port import ASSIGNMENT_CHANGE
from events.log.raw import RawStreams
from events.log.scan import EntryFilter, scan

SCANNED_MAX = 200_000
"""The most entries that a page reads; a page that reaches it has fewer entries, and the search can continue."""

_BLOCK_FIRST, _BLOCK_MAX = 64, 4096
_ROLLOUT = "rollout:"
_POSITION_MAX = 2**53 - 1
_DIGITS_MAX = 32
_ASSIGNMENT_CHANGE = ASSIGNMENT_CHANGE.encode()

Among = Callable[[str, int, BitMap], bool]
"""Returns whether a device of a partition has, or had, one of these ordinals. Raises LogUnavailable."""

DeviceIds = Callable[[int, BitMap], frozenset[str]]
"""Returns the devices of a partition that have, or had, these ordinals. Raises LogUnavailable."""


SearchOrder = Literal["oldest", "newest"]
"""Which entries come first: by time, and within a stream by position."""


class Search(msgspec.Struct, frozen=True):
    """The criteria of a search; an entry must match all of them.

    `device` includes its modules; `deployment` includes its rollout and the assignment changes that added or removed it; `by` is a
    principal such as `user:ada`, or its id alone; `kinds` are types of events, and `AssignmentChange`; `cause` is the exact text, or
    a position within a cause such as `p03:5-9 fleet:2-3`; times are in milliseconds, inclusive; `streams` are names.
    """

    device: str = ""
    deployment: str = ""
    by: str = ""
    kinds: frozenset[str] = frozenset()
    cause: str = ""
    since: int | None = None
    until: int | None = None
    streams: tuple[str, ...] = ()


class FoundEntry(msgspec.Struct, frozen=True):
    """An entry and its stream."""

    stream: str
    entry: RawEntry


class Range(msgspec.Struct, frozen=True, array_like=True):
    """The unread part of a stream: positions after + 1 to `upto`."""

    after: int
    upto: int


Ranges = Mapping[str, Range]
"""The unread parts of streams, by name."""


class SearchPage(msgspec.Struct, frozen=True):
    """Matching entries, how many entries were read, and the unread part of each stream; empty at the end."""

    entries: tuple[FoundEntry, ...]
    scanned: int
    unread: dict[str, Range]


class LogSearcher:
    """Searches one log."""

    def __init__(
        self, streams: RawStreams, *, names: Sequence[str], partitions: int, among: Among, device_ids: DeviceIds
    ) -> None:
        self.streams, self._names, self.partitions = streams, names, partitions
        self.among, self.device_ids = among, device_ids

    def begin(self, search: Search) -> dict[str, Range]:
        """Returns the part of each stream to search.

        Raises:
            SearchInvalid: a stream is unknown.
            LogUnavailable: Redis did not answer.
        """
        for stream in search.streams:
            if stream not in self._names:
                last = self._names[self.partitions]
                allowed = f"{self._names[0]}, {self._names[1]} to {last}, p00:assignments to {last}:assignments"
                raise SearchInvalid("stream", f"{stream[:40]!r} is unknown; allowed are {allowed}")
        ranges = {}
        for stream in self._names:
            if not self._concerns(search, stream):
                continue
            head = self.streams.head(stream)
            after = 0 if search.since is None else self._before(stream, search.since, head)
            upto = head if search.until is None else self._before(stream, search.until + 1, head)
            if after < upto:
                ranges[stream] = Range(after, upto)
        return ranges

    def page(
        self, search: Search, ranges: Ranges, *, order: SearchOrder, limit: int, scanned_max: int = SCANNED_MAX
    ) -> SearchPage:
        """Returns the next matching entries of `ranges`, at most `limit`.

        Raises:
            LogUnavailable, LogLostItsTail: history cannot be read.
        """
        matches = _Matches(search, self.among)
        steps = [
            self._steps(stream, number, left, matches, order) for number, (stream, left) in enumerate(ranges.items())
        ]
        unread, entries, scanned = dict(ranges), list[FoundEntry](), 0
        for step in heapq.merge(*steps, key=lambda step: (step.at, step.number), reverse=order == "newest"):
            unread[step.stream] = step.unread
            scanned += step.scanned
            if step.entry is not None:
                entries.append(FoundEntry(step.stream, step.entry))
            if len(entries) == limit or scanned >= scanned_max:
                break
        left_of = {stream: left for stream, left in unread.items() if left.after < left.upto}
        return SearchPage(tuple(entries), scanned, left_of)

    def _concerns(self, search: Search, stream: str) -> bool:
        """Whether an entry of a stream can match."""
        number, is_changes = number_of(stream), ":" in stream
        return (
            (not search.streams or stream in search.streams)
            and (not search.device or number in {FLEET, partition_of(search.device, self.partitions)})
            and (not search.kinds or not is_changes or ASSIGNMENT_CHANGE in search.kinds)
            and (search.kinds != {ASSIGNMENT_CHANGE} or is_changes)
            # Events of devices name no deployment: only the fleet's stream and the assignment changes can match.
            and (not search.deployment or is_changes or number == FLEET)
        )

    def _before(self, stream: str, at: int, head: int) -> int:
        """The last position whose time is before `at`."""
        # Times of a stream never go back, so bisection finds it.
        return bisect_left(range(1, head + 1), at, key=lambda position: self._time(stream, position))

    def _time(self, stream: str, position: int) -> int:
        return self.streams.read(stream, after=position - 1, limit=1)[0].at

    def _steps(
        self, stream: str, number: int, left: Range, matches: "_Matches", order: SearchOrder
    ) -> Iterator["_Step"]:
        """Read a range block by block: a step for each matching entry, and one at the end of each block."""
        block = _BLOCK_FIRST
        while left.after < left.upto:
            if order == "newest":
                after, upto = max(left.after, left.upto - block), left.upto
                for entry in reversed(list(self._candidates(stream, matches, after, upto))):
                    if matches.includes(stream, entry):
                        yield _Step(entry.at, number, stream, Range(left.after, entry.position - 1), 0, entry)
                edge, left = after + 1, Range(left.after, after)
            else:
                after, upto = left.after, min(left.upto, left.after + block)
                for entry in self._candidates(stream, matches, after, upto):
                    if matches.includes(stream, entry):
                        yield _Step(entry.at, number, stream, Range(entry.position, left.upto), 0, entry)
                edge, left = upto, Range(upto, left.upto)
            yield _Step(self._time(stream, edge), number, stream, left, upto - after, None)
            block = min(_BLOCK_MAX, 2 * block)

    def _candidates(self, stream: str, matches: "_Matches", after: int, upto: int) -> Iterator[RawEntry]:
        """Entries that may match, filtered by columns in the archive and by their fields in Redis."""
        for entry in scan(self.streams, stream, matches.columns(stream), after=after, upto=upto):
            if matches.may_include(stream, entry):
                yield entry


class _Step(msgspec.Struct, frozen=True):
    """How far a stream was read, with a matching entry, if any."""

    at: int
    number: int
    stream: str
    unread: Range
    scanned: int
    entry: RawEntry | None


class _Matches:
    """Matches entries against a search: by their bytes first, and decodes only the entries that the bytes do not decide."""

    def __init__(self, search: Search, among: Among) -> None:
        self._search, self._among = search, among
        self._kinds = frozenset(kind.encode() for kind in search.kinds)
        self._by, self._device = search.by.encode(), search.device.encode()
        self._subjects = {search.deployment.encode(), f"{_ROLLOUT}{search.deployment}".encode()}
        self._quoted = msgspec.json.encode(search.deployment) if search.deployment else b""
        self._location = _location(search.cause)

    def columns(self, stream: str) -> EntryFilter:
        """Returns a filter of the archive's columns; it passes every entry that may match."""
        search = self._search
        if ":" in stream:
            return EntryFilter(since=search.since, until=search.until)
        in_fleet = number_of(stream) == FLEET
        return EntryFilter(
            devices=frozenset({search.device}) if search.device and not in_fleet else None,
            types=frozenset(search.kinds) or None,
            authors=frozenset({search.by}) if ":" in search.by else None,
            causes=frozenset({search.cause}) if search.cause and self._location is None else None,
            since=search.since,
            until=search.until,
        )

    def may_include(self, stream: str, entry: RawEntry) -> bool:
        """Returns whether an entry may match, by its stored fields; only an assignment change is left to `includes`."""
        fields, search = entry.fields, self._search
        kind = fields.get(b"type", b"")
        if self._kinds and kind not in self._kinds:
            return False
        if self._by:
            by = fields.get(b"by", b"")
            if by != self._by and by.partition(b":")[2] != self._by:
                return False
        if search.cause and not self._is_because(fields.get(b"cause", b"").decode(errors="replace")):
            return False
        at = entry.at
        if (search.since is not None and at < search.since) or (search.until is not None and at > search.until):
            return False
        if kind == _ASSIGNMENT_CHANGE:
            return self._quoted in fields.get(b"data", b"")
        subject = fields.get(b"subject", b"")
        if self._quoted and subject not in self._subjects and not self._names_deployment(fields):
            return False
        if not self._device:
            return True
        # A deployment can have the same name as a device: a subject in the fleet's stream is no device.
        is_device = subject.partition(b"/")[0] == self._device and number_of(stream) != FLEET
        return is_device or self._reads_secrets(fields)

    def includes(self, stream: str, entry: RawEntry) -> bool:
        """Returns whether an entry that may match does: an assignment change has to be about the deployment and the device."""
        search = self._search
        if entry.fields.get(b"type") != _ASSIGNMENT_CHANGE or not (search.device or search.deployment):
            return True
        change = assignment_change_in(entry)
        if change is None or (search.deployment and search.deployment not in deployments_of(change)):
            return False
        return not search.device or self._among(search.device, number_of(stream), change.ordinals())

    def _names_deployment(self, fields: Mapping[bytes, bytes]) -> bool:
        """Whether an event on something else has the deployment as a member, as a waiver does."""
        return b'"deployment":' + self._quoted in fields.get(b"data", b"")

    def _reads_secrets(self, fields: Mapping[bytes, bytes]) -> bool:
        """Whether it is a read of the device's secrets."""
        if fields.get(b"type") != b"SecretsRead":
            return False
        try:
            secrets_read = msgspec.json.decode(fields.get(b"data", b""), type=_Read)
        except msgspec.DecodeError:
            # A damaged event names no device; verification reports the damage.
            return False
        return any(device_of(subject) == self._search.device for subject in secrets_read.subjects)

    def _is_because(self, cause: str) -> bool:
        if cause == self._search.cause:
            return True
        if self._location is None:
            return False
        stream, position = self._location
        return any(named.stream == stream and named.first <= position <= named.last for named in locations_of(cause))


class _Read(msgspec.Struct):
    subjects: tuple[str, ...] = ()


class CausePositions(msgspec.Struct, frozen=True):
    """A range of positions in a cause, first to last."""

    stream: str
    first: int
    last: int


def locations_of(cause: str) -> Iterator[CausePositions]:
    """Yields the positions in a cause such as `p03:5-9 fleet:2-3` or `fleet:17`; skips other words."""
    for word in cause.split():
        stream, _, positions = word.rpartition(":")
        first, _, last = positions.partition("-")
        if _is_position(first) and _is_position(last or first):
            try:
                number_of(stream)
            except ValueError:
                continue
            yield CausePositions(stream, int(first), int(last or first))


def _is_position(text: str) -> bool:
    # No stream gets that long, and Redis rejects ids over 64 bits.
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX and int(text) <= _POSITION_MAX


def location_of(text: str) -> tuple[str, int]:
    """Returns the stream and the position of a text such as `p03:17`, `p03:assignments:2` or `fleet:5`.

    Raises:
        LocationInvalid: the text is not a position.
    """
    # Notifications write p03/assignments:2.
    location = _location(text.replace("/", ":"))
    if location is None:
        raise LocationInvalid(text, "is not a position in the log, such as p03:17, fleet:5 or p03:assignments:2")
    return location


def _location(text: str) -> tuple[str, int] | None:
    positions = list(locations_of(text))
    if len(positions) != 1 or positions[0].first != positions[0].last or " " in text:
        return None
    return positions[0].stream, positions[0].first


def assignment_change_in(entry: RawEntry) -> AssignmentChange | None:
    """Returns the assignment change of an entry; `None` if its data is damaged."""
    try:
        return msgspec.json.decode(entry.fields.get(b"data", b""), type=AssignmentChange)
    except msgspec.DecodeError:
        return None


def deployments_of(assignment_change: AssignmentChange) -> frozenset[str]:
    """Returns the deployments that the moved devices had before an assignment change, or have after it."""
    return frozenset(
        layer.id
        for move in assignment_change.moves
        for assignment in (move.before, move.after)
        for layer in (*assignment.layers, *assignment.wanted)
    )
