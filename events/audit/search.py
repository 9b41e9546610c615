"""Search in history: entries of all streams that somebody asks for, in the order of their times, some at a time."""

import enum
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
from pyroaring import BitMap

from events.audit.errors import LocationInvalid, SearchInvalid
from events.fleet.assignment_change import AssignmentChange
from events.log.entries import RawEntry, number_of
from events.log.keys import FLEET, device_of, partition_of
from events.log.kinds import ASSIGNMENT_CHANGE
from events.log.raw import RawStreams
from events.log.scan import EntryFilter, scan

SCANNED_MAX = 200_000
"""A page looks at so many entries at most; then it is answered with what was found so far, and can be gone on from."""

_BLOCK_FIRST, _BLOCK_MAX = 64, 4096
_ROLLOUT = "rollout:"
_POSITION_MAX = 2**53 - 1
_DIGITS_MAX = 32
_ASSIGNMENT_CHANGE = ASSIGNMENT_CHANGE.encode()

Among = Callable[[str, int, BitMap], bool]
"""Whether a device of a partition has, or had, one of some ordinals. Raises LogUnavailable."""

DeviceIds = Callable[[int, BitMap], frozenset[str]]
"""The devices of a partition that have, or had, some ordinals. Raises LogUnavailable."""


class SearchOrder(enum.Enum):
    """By the times of entries; of one stream always by their positions."""

    OLDEST = "oldest"
    NEWEST = "newest"


class Search(msgspec.Struct, frozen=True):
    """What is looked for; all that is given must hold.

    `device` with its modules; `deployment` with its rollout and the assignment changes that gave or took it; `by` a principal such as
    `user:ada`, or its id alone; `kinds` types of events, and `AssignmentChange`; `cause` as it stands, or a place that a cause such as
    `p03:5-9 fleet:2-3` has in it; times in milliseconds, both included; `streams` by their names.
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
    """What is left of a stream: positions after + 1 to `upto`."""

    after: int
    upto: int


class SearchPage(msgspec.Struct, frozen=True):
    """What was found, how many entries were looked at, and what is left of each stream; nothing where all was seen."""

    found: tuple[FoundEntry, ...]
    scanned: int
    rest: dict[str, Range]


class Searching:
    """Looks through one log."""

    def __init__(
        self, streams: RawStreams, *, names: Sequence[str], partitions: int, among: Among, device_ids: DeviceIds
    ) -> None:
        self.streams, self._names, self.partitions = streams, names, partitions
        self.among, self.device_ids = among, device_ids

    def begin(self, search: Search) -> dict[str, Range]:
        """What there is to look through.

        Raises:
            SearchInvalid: there is no such stream.
            LogUnavailable: Redis did not answer.
        """
        for stream in search.streams:
            if stream not in self._names:
                known = (
                    f"{self._names[0]}, {self._names[1]} to {self._names[self.partitions]}, and p00:assignments and on"
                )
                raise SearchInvalid("stream", f"there is no {stream[:40]!r}; there are {known}")
        found = {}
        for stream in self._concerned(search):
            head = self.streams.head(stream)
            after = 0 if search.since is None else self._before(stream, search.since, head)
            upto = head if search.until is None else self._before(stream, search.until + 1, head)
            if after < upto:
                found[stream] = Range(after, upto)
        return found

    def page(
        self,
        search: Search,
        rest: Mapping[str, Range],
        *,
        order: SearchOrder,
        limit: int,
        scanned_max: int = SCANNED_MAX,
    ) -> SearchPage:
        """The next entries of what is left, at most `limit`.

        Raises:
            LogUnavailable, LogLostItsTail: history cannot be read.
        """
        matches = _Matches(search, self.among)
        is_newest = order is SearchOrder.NEWEST
        ways = [
            (self._back if is_newest else self._forth)(stream, number, left, matches)
            for number, (stream, left) in enumerate(rest.items())
        ]
        left, found, scanned = dict(rest), list[FoundEntry](), 0
        for step in heapq.merge(*ways, key=lambda step: (step.at, step.number), reverse=is_newest):
            after, upto = left[step.stream].after, left[step.stream].upto
            left[step.stream] = Range(after, step.location) if is_newest else Range(step.location, upto)
            scanned += step.scanned
            if step.entry is not None:
                found.append(FoundEntry(step.stream, step.entry))
            if len(found) == limit or scanned >= scanned_max:
                break
        return SearchPage(tuple(found), scanned, {stream: one for stream, one in left.items() if one.after < one.upto})

    # -- which streams

    def _concerned(self, search: Search) -> Iterator[str]:
        for stream in self._names:
            if search.streams and stream not in search.streams:
                continue
            number = number_of(stream)
            if search.device and number not in (FLEET, partition_of(search.device, self.partitions)):
                continue
            is_assignment_changes = ":" in stream
            if search.kinds and is_assignment_changes and ASSIGNMENT_CHANGE not in search.kinds:
                continue
            if search.kinds == {ASSIGNMENT_CHANGE} and not is_assignment_changes:
                continue
            # A device's events name no deployment.
            if search.deployment and not is_assignment_changes and number != FLEET:
                continue
            yield stream

    def _before(self, stream: str, at: int, head: int) -> int:
        """The last position whose time is before `at`; times of a stream never fall, so halving finds it."""
        low, high = 0, head
        while low < high:
            middle = (low + high + 1) // 2
            (entry,) = self.streams.read(stream, after=middle - 1, limit=1)
            if entry.at < at:
                low = middle
            else:
                high = middle - 1
        return low

    # -- steps

    def _forth(self, stream: str, number: int, left: Range, matches: "_Matches") -> Iterator["_Step"]:
        after, block = left.after, _BLOCK_FIRST
        while after < left.upto:
            upto = min(left.upto, after + block)
            at = 0
            for entry in self._entries(stream, matches, after=after, upto=upto):
                if matches.exactly(stream, entry):
                    at = entry.at
                    yield _Step(at, number, stream, entry.position, 0, entry)
            yield _Step(self._time(stream, upto), number, stream, upto, upto - after, None)
            after, block = upto, min(_BLOCK_MAX, 2 * block)

    def _back(self, stream: str, number: int, left: Range, matches: "_Matches") -> Iterator["_Step"]:
        upto, block = left.upto, _BLOCK_FIRST
        while upto > left.after:
            after = max(left.after, upto - block)
            for entry in reversed(list(self._entries(stream, matches, after=after, upto=upto))):
                if matches.exactly(stream, entry):
                    yield _Step(entry.at, number, stream, entry.position - 1, 0, entry)
            yield _Step(self._time(stream, after + 1), number, stream, after, upto - after, None)
            upto, block = after, min(_BLOCK_MAX, 2 * block)

    def _entries(self, stream: str, matches: "_Matches", *, after: int, upto: int) -> Iterator[RawEntry]:
        """Those that may match: by columns where they are archived, entry by entry elsewhere."""
        entries = scan(self.streams, stream, matches.columns(stream), after=after, upto=upto)
        return filter(matches.raw, entries)

    def _time(self, stream: str, position: int) -> int:
        (entry,) = self.streams.read(stream, after=position - 1, limit=1)
        return entry.at


class _Step(msgspec.Struct, frozen=True):
    """How far a stream was looked through, and what was found there, if anything."""

    at: int
    number: int
    stream: str
    location: int
    scanned: int
    entry: RawEntry | None


class _Matches:
    """Holds entries against a search: by their bytes first, and decoded only where these leave it open."""

    def __init__(self, search: Search, among: Among) -> None:
        self._search, self._among = search, among
        self._kinds = frozenset(kind.encode() for kind in search.kinds)
        self._by, self._device = search.by.encode(), search.device.encode()
        self._subjects = {search.deployment.encode(), f"{_ROLLOUT}{search.deployment}".encode()}
        self._quoted = msgspec.json.encode(search.deployment) if search.deployment else b""
        self._location = _location(search.cause)

    def columns(self, stream: str) -> EntryFilter:
        """What the archive can tell by its columns alone; nothing that may be wanted is left out by it."""
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

    def raw(self, entry: RawEntry) -> bool:
        """Whether an entry may be wanted, by its fields as they are stored."""
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
        if self._quoted and subject not in self._subjects and not self._names_it(fields):
            return False
        return not self._device or subject.partition(b"/")[0] == self._device or self._reads_it(fields)

    def exactly(self, stream: str, entry: RawEntry) -> bool:
        """Whether an entry that may be wanted is."""
        search = self._search
        if entry.fields.get(b"type") != _ASSIGNMENT_CHANGE or not (search.device or search.deployment):
            # In the fleet's stream a deployment, and in others a device, may have any name.
            subject = entry.fields.get(b"subject", b"").partition(b"/")[0]
            return not (search.device and number_of(stream) == FLEET and subject == self._device) or self._reads_it(
                entry.fields
            )
        try:
            assignment_change = msgspec.json.decode(entry.fields.get(b"data", b""), type=AssignmentChange)
        except msgspec.DecodeError:
            return False
        if search.deployment and search.deployment not in deployments_of(assignment_change):
            return False
        return not search.device or self._among(search.device, number_of(stream), assignment_change.ordinals())

    def _names_it(self, fields: Mapping[bytes, bytes]) -> bool:
        """Of the events that are not about a deployment itself: those that give its name as theirs."""
        return b'"deployment":' + self._quoted in fields.get(b"data", b"")

    def _reads_it(self, fields: Mapping[bytes, bytes]) -> bool:
        """Whether secrets of the device were read."""
        if fields.get(b"type") != b"SecretsRead":
            return False
        try:
            found = msgspec.json.decode(fields.get(b"data", b""), type=_Read)
        except msgspec.DecodeError:
            # It says of nobody that they were read; verification says that it is not as it was.
            return False
        return any(device_of(subject) == self._search.device for subject in found.subjects)

    def _is_because(self, cause: str) -> bool:
        if cause == self._search.cause:
            return True
        return self._location is not None and any(one.includes(*self._location) for one in locations_of(cause))


class _Read(msgspec.Struct):
    subjects: tuple[str, ...] = ()


class CausePositions(msgspec.Struct, frozen=True):
    """Positions of a stream that a cause names, first to last."""

    stream: str
    first: int
    last: int

    def includes(self, stream: str, position: int) -> bool:
        """Whether a position is one of them."""
        return stream == self.stream and self.first <= position <= self.last


def locations_of(cause: str) -> Iterator[CausePositions]:
    """The places in a cause: `p03:5-9 fleet:2-3`, `fleet:17`; what is no place is left out."""
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
    # No stream comes so far, and Redis takes no number that is much longer.
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX and int(text) <= _POSITION_MAX


def location_of(text: str) -> tuple[str, int]:
    """`p03:17`, `p03:assignments:2`, `fleet:5` as a stream and a position.

    Raises:
        LocationInvalid: it is none.
    """
    # Notifications write p03/assignments:2.
    found = _location(text.replace("/", ":"))
    if found is None:
        raise LocationInvalid(text, "is no place in the log, such as p03:17, fleet:5 or p03:assignments:2")
    return found


def _location(text: str) -> tuple[str, int] | None:
    some = list(locations_of(text))
    if len(some) != 1 or some[0].first != some[0].last or " " in text:
        return None
    return some[0].stream, some[0].first


def deployments_of(assignment_change: AssignmentChange) -> frozenset[str]:
    """The deployments that devices had before an assignment change, or have after it, among those that it moved."""
    return frozenset(
        layer.id
        for move in assignment_change.moves
        for row in (move.before, move.after)
        for layer in (*row.layers, *row.wanted)
    )
