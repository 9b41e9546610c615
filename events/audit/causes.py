"""The trees of causes and effects of a log entry."""

from collections.abc import Iterator

import msgspec

from events.audit.search import (
    CausePositions,
    FoundEntry,
    LogSearcher,
    Range,
    Search,
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
"""The most branches of one entry that are shown; a further branch has the number of hidden ones."""

DEPTH_MAX = 6
_ENTRIES_READ_MAX = 20_000
_ROLLOUT = "rollout:"


class CauseTree(msgspec.Struct, frozen=True):
    """An entry with its causes, or its effects, as branches; a tree without an entry has a `text` instead."""

    found_entry: FoundEntry | None
    text: str = ""
    branches: tuple["CauseTree", ...] = ()


def causes_of(searcher: LogSearcher, effect: FoundEntry, *, depth: int = DEPTH_MAX) -> tuple[CauseTree, ...]:
    """Returns the causes of an entry, by the positions or the deployment that its `cause` names, and their causes in turn.

    A cause without an event becomes a text. An assignment change names all events since the one before; only events on its
    devices and deployments are shown.

    Raises:
        LogUnavailable, LogLostItsTail: history cannot be read.
    """
    cause = effect.entry.fields.get(b"cause", b"").decode(errors="replace")
    if not cause or not depth:
        return ()
    named = list(locations_of(cause))
    if named:
        assignment_change = _assignment_change(effect.entry) if ":" in effect.stream else None
        entries = [each for positions in named for each in _at_positions(searcher, positions, assignment_change)]
    else:
        entries = list(_last_of(searcher, effect, cause))
        if not entries:
            return (CauseTree(None, f"because of {cause}"),)
    trees = [CauseTree(each, "", causes_of(searcher, each, depth=depth - 1)) for each in entries[:BRANCHES_MAX]]
    return (*trees, *_more(len(entries)))


def effects(searcher: LogSearcher, cause: FoundEntry, *, depth: int = DEPTH_MAX) -> tuple[CauseTree, ...]:
    """Returns the effects of an entry: the assignment changes that include it, and the events that name it or its deployment as cause.

    Raises:
        LogUnavailable, LogLostItsTail: history cannot be read.
    """
    if not depth or ":" in cause.stream:
        return ()
    entries = [*_assignment_changes(searcher, cause), *_because(searcher, cause)]
    trees = [CauseTree(each, "", effects(searcher, each, depth=depth - 1)) for each in entries[:BRANCHES_MAX]]
    return (*trees, *_more(len(entries)))


def _more(count: int) -> tuple[CauseTree, ...]:
    return (CauseTree(None, f"and {count - BRANCHES_MAX} more"),) if count > BRANCHES_MAX else ()


# -- causes


def _assignment_change(entry: RawEntry) -> AssignmentChange | None:
    try:
        return msgspec.json.decode(entry.fields.get(b"data", b""), type=AssignmentChange)
    except msgspec.DecodeError:
        return None


def _at_positions(
    searcher: LogSearcher, positions: CausePositions, assignment_change: AssignmentChange | None
) -> Iterator[FoundEntry]:
    """The entries at these positions; for an assignment change, only the entries on its deployments or the devices that it moved."""
    first = max(positions.first, positions.last - _ENTRIES_READ_MAX)
    in_fleet = positions.stream == name(FLEET)
    about = frozenset[str]()
    if assignment_change is not None:
        about = (
            deployments_of(assignment_change)
            if in_fleet
            else searcher.device_ids(number_of(positions.stream), assignment_change.ordinals())
        )
    for entry in searcher.streams.entries(positions.stream, after=first - 1, upto=positions.last):
        subject = entry.fields.get(b"subject", b"").decode(errors="replace")
        if assignment_change is None or (subject.removeprefix(_ROLLOUT) if in_fleet else device_of(subject)) in about:
            yield FoundEntry(positions.stream, entry)


def _last_of(searcher: LogSearcher, effect: FoundEntry, cause: str) -> Iterator[FoundEntry]:
    """The last event on a deployment, or its rollout, before an event that names the deployment as its cause."""
    if effect.stream != name(FLEET):
        return
    search = Search(deployment=cause, streams=(effect.stream,))
    before = {effect.stream: Range(0, effect.entry.position - 1)}
    page = searcher.page(search, before, order=SearchOrder.NEWEST, limit=1, scanned_max=_ENTRIES_READ_MAX)
    yield from page.entries


# -- effects


def _assignment_changes(searcher: LogSearcher, cause: FoundEntry) -> Iterator[FoundEntry]:
    """The assignment change of each partition that processed an entry, if it is about the entry's deployment or device."""
    number = number_of(cause.stream)
    subject = cause.entry.fields.get(b"subject", b"").decode(errors="replace")
    numbers = range(searcher.partitions) if number == FLEET else [number]
    for partition in numbers:
        match = _assignment_change_with(
            searcher.streams, f"{name(partition)}:assignments", cause.entry.position, in_fleet=number == FLEET
        )
        if match is None:
            continue
        entry, assignment_change = match
        if number == FLEET:
            is_about = subject.removeprefix(_ROLLOUT) in deployments_of(assignment_change)
        else:
            is_about = searcher.among(device_of(subject), partition, assignment_change.ordinals())
        if is_about:
            yield FoundEntry(f"{name(partition)}:assignments", entry)


def _assignment_change_with(
    streams: RawStreams, stream: str, position: int, *, in_fleet: bool
) -> tuple[RawEntry, AssignmentChange] | None:
    """The first assignment change that includes a position."""
    # Vectors never fall, so bisection finds it with about 20 reads of a million changes.
    low, high = 0, streams.head(stream)
    match: tuple[RawEntry, AssignmentChange] | None = None
    while low < high:
        middle = (low + high) // 2
        (entry,) = streams.read(stream, after=middle, limit=1)
        assignment_change = _assignment_change(entry)
        if assignment_change is None:
            return None
        if _reached(assignment_change.after, in_fleet=in_fleet) >= position:
            match, high = (entry, assignment_change), middle
        else:
            low = middle + 1
    return match


def _reached(vector: Vector, *, in_fleet: bool) -> int:
    return vector.fleet if in_fleet else vector.partition


def _because(searcher: LogSearcher, event: FoundEntry) -> Iterator[FoundEntry]:
    """Events of the fleet that name an event as their cause, and the next event that names its deployment."""
    fleet = name(FLEET)
    location = f"{event.stream}:{event.entry.position}"
    subject = event.entry.fields.get(b"subject", b"").decode(errors="replace").removeprefix(_ROLLOUT)
    head = searcher.streams.head(fleet)
    after = event.entry.position if event.stream == fleet else 0
    for cause in (location, *((subject,) if event.stream == fleet else ())):
        ranges = {fleet: Range(after, head)}
        page = searcher.page(
            Search(cause=cause, streams=(fleet,)),
            ranges,
            order=SearchOrder.OLDEST,
            limit=1 if cause == subject else BRANCHES_MAX + 1,
            scanned_max=_ENTRIES_READ_MAX,
        )
        yield from page.entries
