"""The tree of causes: what led to an entry, and what followed from it."""

from collections.abc import Iterator

import msgspec

from events.audit.search import (
    CausePositions,
    FoundEntry,
    Range,
    Search,
    Searching,
    SearchOrder,
    deployments_of,
    locations_of,
)
from events.envelope import Vector
from events.fleet.assignment_change import AssignmentChange
from events.log.entries import RawEntry, number_of
from events.log.keys import FLEET, device_of, name
from events.log.raw import RawStreams

BRANCHES_MAX = 20
"""So many branches of one place are shown; the last one says how many more there are."""

DEPTH_MAX = 6
_ENTRIES_READ_MAX = 20_000
_ROLLOUT = "rollout:"


class Tree(msgspec.Struct, frozen=True):
    """An entry and what is behind it; without an entry, what is `said` in its place."""

    found: FoundEntry | None
    said: str = ""
    branches: tuple["Tree", ...] = ()


def causes_of(searching: Searching, one: FoundEntry, *, depth: int = DEPTH_MAX) -> tuple[Tree, ...]:
    """What led to an entry, as its cause names it, and what led to that in turn.

    Of the events between two assignment changes those are shown that are about what the change changed; a cause that is a name is said.

    Raises:
        LogUnavailable, LogLostItsTail: history cannot be read.
    """
    cause = one.entry.fields.get(b"cause", b"").decode(errors="replace")
    if not cause or not depth:
        return ()
    named = list(locations_of(cause))
    if named:
        about = _about(one)
        found = [each for locations in named for each in _at_locations(searching, locations, about)]
    else:
        found = list(_last_of(searching, one, cause))
        if not found:
            return (Tree(None, f"because of {cause}"),)
    shown = [Tree(each, "", causes_of(searching, each, depth=depth - 1)) for each in found[:BRANCHES_MAX]]
    return (*shown, *_more(len(found)))


def effects(searching: Searching, one: FoundEntry, *, depth: int = DEPTH_MAX) -> tuple[Tree, ...]:
    """What followed from an entry: the assignment changes that it is in, and the events that name it, or its deployment, as their cause.

    Raises:
        LogUnavailable, LogLostItsTail: history cannot be read.
    """
    if not depth or ":" in one.stream:
        return ()
    found = [*_assignment_changes(searching, one), *_because(searching, one)]
    shown = [Tree(each, "", effects(searching, each, depth=depth - 1)) for each in found[:BRANCHES_MAX]]
    return (*shown, *_more(len(found)))


def _more(count: int) -> tuple[Tree, ...]:
    return (Tree(None, f"and {count - BRANCHES_MAX} more"),) if count > BRANCHES_MAX else ()


# -- up


def _about(one: FoundEntry) -> AssignmentChange | None:
    return _assignment_change(one.entry) if ":" in one.stream else None


def _assignment_change(entry: RawEntry) -> AssignmentChange | None:
    try:
        return msgspec.json.decode(entry.fields.get(b"data", b""), type=AssignmentChange)
    except msgspec.DecodeError:
        return None


def _at_locations(
    searching: Searching, locations: CausePositions, assignment_change: AssignmentChange | None
) -> Iterator[FoundEntry]:
    """The entries at some places; behind an assignment change, those about a deployment it is about, or about a device that it moved."""
    first = max(locations.first, locations.last - _ENTRIES_READ_MAX)
    in_fleet = locations.stream == name(FLEET)
    about = frozenset[str]()
    if assignment_change is not None:
        about = (
            deployments_of(assignment_change)
            if in_fleet
            else searching.device_ids(number_of(locations.stream), assignment_change.ordinals())
        )
    for entry in searching.streams.entries(locations.stream, after=first - 1, upto=locations.last):
        subject = entry.fields.get(b"subject", b"").decode(errors="replace")
        if assignment_change is None or (subject.removeprefix(_ROLLOUT) if in_fleet else device_of(subject)) in about:
            yield FoundEntry(locations.stream, entry)


def _last_of(searching: Searching, one: FoundEntry, cause: str) -> Iterator[FoundEntry]:
    """The last event of a deployment, or of its rollout, before one that was done because of it."""
    if one.stream != name(FLEET):
        return
    search = Search(deployment=cause, streams=(one.stream,))
    before = {one.stream: Range(0, one.entry.position - 1)}
    page = searching.page(search, before, order=SearchOrder.NEWEST, limit=1, scanned_max=_ENTRIES_READ_MAX)
    yield from page.found


# -- down


def _assignment_changes(searching: Searching, one: FoundEntry) -> Iterator[FoundEntry]:
    """In each partition that an entry concerns, the assignment change whose vectors it lies between, if it is about the same."""
    number = number_of(one.stream)
    subject = one.entry.fields.get(b"subject", b"").decode(errors="replace")
    numbers = range(searching.partitions) if number == FLEET else [number]
    for partition in numbers:
        found = _assignment_change_with(
            searching.streams, f"{name(partition)}:assignments", one.entry.position, in_fleet=number == FLEET
        )
        if found is None:
            continue
        entry, assignment_change = found
        if number == FLEET:
            is_about = subject.removeprefix(_ROLLOUT) in deployments_of(assignment_change)
        else:
            is_about = searching.among(device_of(subject), partition, assignment_change.ordinals())
        if is_about:
            yield FoundEntry(f"{name(partition)}:assignments", entry)


def _assignment_change_with(
    streams: RawStreams, stream: str, position: int, *, in_fleet: bool
) -> tuple[RawEntry, AssignmentChange] | None:
    """The first assignment change that was computed with a position, where the one before was not; vectors never fall."""
    low, high = 0, streams.head(stream)
    found: tuple[RawEntry, AssignmentChange] | None = None
    while low < high:
        middle = (low + high) // 2
        (entry,) = streams.read(stream, after=middle, limit=1)
        assignment_change = _assignment_change(entry)
        if assignment_change is None:
            return None
        if _reached(assignment_change.after, in_fleet=in_fleet) >= position:
            found, high = (entry, assignment_change), middle
        else:
            low = middle + 1
    return found


def _reached(vector: Vector, *, in_fleet: bool) -> int:
    return vector.fleet if in_fleet else vector.partition


def _because(searching: Searching, one: FoundEntry) -> Iterator[FoundEntry]:
    """Later events of the fleet whose cause is this one; or, of a deployment's event, what was done because of the deployment."""
    fleet = name(FLEET)
    location = f"{one.stream}:{one.entry.position}"
    subject = one.entry.fields.get(b"subject", b"").decode(errors="replace").removeprefix(_ROLLOUT)
    head = searching.streams.head(fleet)
    after = one.entry.position if one.stream == fleet else 0
    for cause in (location, *((subject,) if one.stream == fleet else ())):
        rest = {fleet: Range(after, head)}
        page = searching.page(
            Search(cause=cause, streams=(fleet,)),
            rest,
            order=SearchOrder.OLDEST,
            limit=1 if cause == subject else BRANCHES_MAX + 1,
            scanned_max=_ENTRIES_READ_MAX,
        )
        yield from page.found
