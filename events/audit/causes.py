"""The trees of causes and effects of a log entry."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

import msgspec

from events.audit.search import (
    CausePositions,
    FoundEntry,
    LogSearcher,
    Range,
    Search,
    assignment_change_in,
    deployments_of,
    locations_of,
)
from events.fleet.assignments import AssignmentChange
from events.log.entries import RawEntry, number_of
from events.log.keys import FLEET, device_of, name
from events.log.raw import RawStreams

BRANCHES_MAX = 20
"""The most branches of one entry that are shown; a further branch has the number of hidden ones."""

DEPTH_MAX = 6
_ENTRIES_READ_MAX = 20_000


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
    named, entries = list(locations_of(cause)), list[FoundEntry]()
    if named:
        assignment_change = assignment_change_in(effect.entry) if ":" in effect.stream else None
        entries = [each for positions in named for each in _at_positions(searcher, positions, assignment_change)]
    elif not (entries := list(_last_of(searcher, effect, cause))):
        return (CauseTree(None, f"because of {cause}"),)
    return _trees(entries, lambda each: causes_of(searcher, each, depth=depth - 1))


def effects(searcher: LogSearcher, cause: FoundEntry, *, depth: int = DEPTH_MAX) -> tuple[CauseTree, ...]:
    """Returns the effects of an entry: the assignment changes that include it, and the events that name it or its deployment as cause.

    Raises:
        LogUnavailable, LogLostItsTail: history cannot be read.
    """
    if not depth or ":" in cause.stream:
        return ()
    entries = [*_assignment_changes(searcher, cause), *_because(searcher, cause)]
    return _trees(entries, lambda each: effects(searcher, each, depth=depth - 1))


def _trees(
    entries: Sequence[FoundEntry], branches_of: Callable[[FoundEntry], tuple[CauseTree, ...]]
) -> tuple[CauseTree, ...]:
    trees = [CauseTree(each, "", branches_of(each)) for each in entries[:BRANCHES_MAX]]
    if len(entries) > BRANCHES_MAX:
        trees.append(CauseTree(None, f"and {len(entries) - BRANCHES_MAX} more"))
    return tuple(trees)


def _about(stream: str, entry: RawEntry) -> str:
    """The deployment of an event of the fleet or of its rollout, the device of another event."""
    subject = entry.fields.get(b"subject", b"").decode(errors="replace")
    return subject.removeprefix("rollout:") if stream == name(FLEET) else device_of(subject)


def _at_positions(
    searcher: LogSearcher, positions: CausePositions, assignment_change: AssignmentChange | None
) -> Iterator[FoundEntry]:
    """The entries at these positions; for an assignment change, only the entries on its deployments or the devices that it moved."""
    first = max(positions.first, positions.last - _ENTRIES_READ_MAX)
    about = frozenset[str]()
    if assignment_change is not None and positions.stream == name(FLEET):
        about = deployments_of(assignment_change)
    elif assignment_change is not None:
        about = searcher.device_ids(number_of(positions.stream), assignment_change.ordinals())
    for entry in searcher.streams.entries(positions.stream, after=first - 1, upto=positions.last):
        if assignment_change is None or _about(positions.stream, entry) in about:
            yield FoundEntry(positions.stream, entry)


def _last_of(searcher: LogSearcher, effect: FoundEntry, cause: str) -> Sequence[FoundEntry]:
    """The last event on a deployment, or its rollout, before an event that names the deployment as its cause."""
    if effect.stream != name(FLEET):
        return ()
    search = Search(deployment=cause, streams=(effect.stream,))
    before = {effect.stream: Range(0, effect.entry.position - 1)}
    return searcher.page(search, before, order="newest", limit=1, scanned_max=_ENTRIES_READ_MAX).entries


def _assignment_changes(searcher: LogSearcher, cause: FoundEntry) -> Iterator[FoundEntry]:
    """The assignment change of each partition that processed an entry, if it is about the entry's deployment or device."""
    number, about = number_of(cause.stream), _about(cause.stream, cause.entry)
    for partition in range(searcher.partitions) if number == FLEET else [number]:
        stream = f"{name(partition)}:assignments"
        match = _assignment_change_with(searcher.streams, stream, cause.entry.position, in_fleet=number == FLEET)
        if match is None:
            continue
        entry, assignment_change = match
        if number == FLEET:
            is_about = about in deployments_of(assignment_change)
        else:
            is_about = searcher.among(about, partition, assignment_change.ordinals())
        if is_about:
            yield FoundEntry(stream, entry)


def _assignment_change_with(
    streams: RawStreams, stream: str, position: int, *, in_fleet: bool
) -> tuple[RawEntry, AssignmentChange] | None:
    """The first assignment change that includes a position."""

    def at(number: int) -> tuple[RawEntry, AssignmentChange]:
        (entry,) = streams.read(stream, after=number - 1, limit=1)
        return entry, msgspec.json.decode(entry.fields.get(b"data", b""), type=AssignmentChange)

    def reached(number: int) -> int:
        after = at(number)[1].after
        return after.fleet if in_fleet else after.partition

    numbers = range(1, streams.head(stream) + 1)
    try:
        # Vectors never fall, so bisection finds it with about 20 reads of a million changes.
        index = bisect_left(numbers, position, key=reached)
        return at(numbers[index]) if index < len(numbers) else None
    except msgspec.DecodeError:
        return None


def _because(searcher: LogSearcher, event: FoundEntry) -> Iterator[FoundEntry]:
    """Events of the fleet that name an event as their cause, and the next event that names its deployment."""
    fleet = name(FLEET)
    in_fleet, position = event.stream == fleet, event.entry.position
    ranges = {fleet: Range(position if in_fleet else 0, searcher.streams.head(fleet))}
    causes = [(f"{event.stream}:{position}", BRANCHES_MAX + 1)]
    if in_fleet:
        causes.append((_about(fleet, event.entry), 1))
    for cause, limit in causes:
        search = Search(cause=cause, streams=(fleet,))
        page = searcher.page(search, ranges, order="oldest", limit=limit, scanned_max=_ENTRIES_READ_MAX)
        yield from page.entries
