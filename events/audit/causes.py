"""The tree of causes: what led to an entry, and what followed from it."""

from collections.abc import Iterator

import msgspec

from events.audit.search import Found, Order, Places, Range, Search, Searching, deployments_of, places_of
from events.envelope import Vector
from events.fleet.outcome import Outcome
from events.log.entries import RawEntry, number_of
from events.log.keys import FLEET, device_of, name
from events.log.raw import RawStreams

BRANCHES_MAX = 20
"""So many branches of one place are shown; the last one says how many more there are."""

DEPTH_MAX = 6
_LOOKED_AT_MAX = 20_000
_ROLLOUT = "rollout:"


class Tree(msgspec.Struct, frozen=True):
    """An entry and what is behind it; without an entry, what is `said` in its place."""

    found: Found | None
    said: str = ""
    branches: tuple["Tree", ...] = ()


def causes_of(searching: Searching, one: Found, *, depth: int = DEPTH_MAX) -> tuple[Tree, ...]:
    """What led to an entry, as its cause names it, and what led to that in turn.

    Of the facts between two outcomes those are shown that are about what the outcome changed; a cause that is a name is said.

    Raises:
        LogUnavailable, LogLostItsTail: history cannot be read.
    """
    cause = one.entry.fields.get(b"cause", b"").decode(errors="replace")
    if not cause or not depth:
        return ()
    named = list(places_of(cause))
    if named:
        about = _about(one)
        found = [each for places in named for each in _at_places(searching, places, about)]
    else:
        found = list(_last_of(searching, one, cause))
        if not found:
            return (Tree(None, f"because of {cause}"),)
    shown = [Tree(each, "", causes_of(searching, each, depth=depth - 1)) for each in found[:BRANCHES_MAX]]
    return (*shown, *_more(len(found)))


def led_to(searching: Searching, one: Found, *, depth: int = DEPTH_MAX) -> tuple[Tree, ...]:
    """What followed from an entry: the outcomes that it is in, and the facts that name it, or its deployment, as their cause.

    Raises:
        LogUnavailable, LogLostItsTail: history cannot be read.
    """
    if not depth or ":" in one.stream:
        return ()
    found = [*_outcomes(searching, one), *_because(searching, one)]
    shown = [Tree(each, "", led_to(searching, each, depth=depth - 1)) for each in found[:BRANCHES_MAX]]
    return (*shown, *_more(len(found)))


def _more(count: int) -> tuple[Tree, ...]:
    return (Tree(None, f"and {count - BRANCHES_MAX} more"),) if count > BRANCHES_MAX else ()


# -- up


def _about(one: Found) -> Outcome | None:
    return _outcome(one.entry) if ":" in one.stream else None


def _outcome(entry: RawEntry) -> Outcome | None:
    try:
        return msgspec.json.decode(entry.fields.get(b"data", b""), type=Outcome)
    except msgspec.DecodeError:
        return None


def _at_places(searching: Searching, places: Places, outcome: Outcome | None) -> Iterator[Found]:
    """The entries at some places; behind an outcome, those about a deployment it is about, or about a device that it moved."""
    first = max(places.first, places.last - _LOOKED_AT_MAX)
    in_fleet = places.stream == name(FLEET)
    about = frozenset[str]()
    if outcome is not None:
        about = (
            deployments_of(outcome) if in_fleet else searching.device_ids(number_of(places.stream), outcome.ordinals())
        )
    for entry in searching.streams.entries(places.stream, after=first - 1, upto=places.last):
        subject = entry.fields.get(b"subject", b"").decode(errors="replace")
        if outcome is None or (subject.removeprefix(_ROLLOUT) if in_fleet else device_of(subject)) in about:
            yield Found(places.stream, entry)


def _last_of(searching: Searching, one: Found, cause: str) -> Iterator[Found]:
    """The last fact of a deployment, or of its rollout, before one that was done because of it."""
    if one.stream != name(FLEET):
        return
    search = Search(deployment=cause, streams=(one.stream,))
    before = {one.stream: Range(0, one.entry.position - 1)}
    page = searching.page(search, before, order=Order.NEWEST, limit=1, scanned_max=_LOOKED_AT_MAX)
    yield from page.found


# -- down


def _outcomes(searching: Searching, one: Found) -> Iterator[Found]:
    """In each partition that an entry concerns, the outcome whose vectors it lies between, if it is about the same."""
    number = number_of(one.stream)
    subject = one.entry.fields.get(b"subject", b"").decode(errors="replace")
    numbers = range(searching.partitions) if number == FLEET else [number]
    for partition in numbers:
        found = _outcome_with(
            searching.streams, f"{name(partition)}:outcomes", one.entry.position, in_fleet=number == FLEET
        )
        if found is None:
            continue
        entry, outcome = found
        if number == FLEET:
            is_about = subject.removeprefix(_ROLLOUT) in deployments_of(outcome)
        else:
            is_about = searching.among(device_of(subject), partition, outcome.ordinals())
        if is_about:
            yield Found(f"{name(partition)}:outcomes", entry)


def _outcome_with(
    streams: RawStreams, stream: str, position: int, *, in_fleet: bool
) -> tuple[RawEntry, Outcome] | None:
    """The first outcome that was computed with a position, where the one before was not; vectors never fall."""
    low, high = 0, streams.head(stream)
    found: tuple[RawEntry, Outcome] | None = None
    while low < high:
        middle = (low + high) // 2
        (entry,) = streams.read(stream, after=middle, limit=1)
        outcome = _outcome(entry)
        if outcome is None:
            return None
        if _reached(outcome.after, in_fleet=in_fleet) >= position:
            found, high = (entry, outcome), middle
        else:
            low = middle + 1
    return found


def _reached(vector: Vector, *, in_fleet: bool) -> int:
    return vector.fleet if in_fleet else vector.partition


def _because(searching: Searching, one: Found) -> Iterator[Found]:
    """Later facts of the fleet whose cause is this one; or, of a deployment's fact, what was done because of the deployment."""
    fleet = name(FLEET)
    place = f"{one.stream}:{one.entry.position}"
    subject = one.entry.fields.get(b"subject", b"").decode(errors="replace").removeprefix(_ROLLOUT)
    head = searching.streams.head(fleet)
    after = one.entry.position if one.stream == fleet else 0
    for cause in (place, *((subject,) if one.stream == fleet else ())):
        rest = {fleet: Range(after, head)}
        page = searching.page(
            Search(cause=cause, streams=(fleet,)),
            rest,
            order=Order.OLDEST,
            limit=1 if cause == subject else BRANCHES_MAX + 1,
            scanned_max=_LOOKED_AT_MAX,
        )
        yield from page.found
