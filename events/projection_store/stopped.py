"""Where partitions are stopped, what stands there, who waits behind it, and what each decision would lead to."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, cast

import msgspec

from events.log.codec import decode_entry
from events.log.connect import Client, answering, entries_of
from events.log.errors import UnreadableEvent
from events.log.keys import FLEET, device_of, key, name
from events.log.kinds import RESTRICTED_KINDS
from events.log.port import Log
from events.projection_store.port import Blocked, ProjectionStore
from events.secrets.references import MASK, mask

SUBJECTS_MAX = 20
_TEXT_CHARACTERS_MAX = 4000
_HIDDEN = ("authentication", "digest")
_BATCH = 1000


class Choice(msgspec.Struct, frozen=True):
    """What can be done about a stop, and what follows from it. `decision` is `None` where it is not one that is recorded."""

    decision: Literal["skip", "retry"] | None
    what: str
    follows: str


class Entry(msgspec.Struct, frozen=True):
    """A stored entry, readable: its fields as text, the data without secrets. `why` says why it is no event, empty where it is one.

    `data` is JSON where it can be read as such; else a text that says how long it is, with its SHA-256.
    """

    type: str
    subject: str
    version: str
    at: int
    by: str
    cause: str
    data: Any
    why: str


class Stop(msgspec.Struct, frozen=True):
    """A place that partitions are stopped at. `since` is in milliseconds; `waiting` is how many events each has behind it."""

    location: str
    stream: int
    position: int
    error: str
    since: int
    decidable: bool
    waiting: dict[str, int]


class Details(msgspec.Struct, frozen=True, rename="camel"):
    """A stop with what stands there.

    `subjects` are the first of those that have events behind it in the partition's stream, `devices` how many devices the
    stopped partitions have. `entry` is `None` where nothing is there.
    """

    stop: Stop
    entry: Entry | None
    subjects: tuple[str, ...]
    subjects_total: int
    devices: int
    choices: tuple[Choice, ...]


def stops(log: Log, projections: ProjectionStore) -> tuple[Stop, ...]:
    """Every place that some partition is stopped at, the fleet's first."""
    found: dict[tuple[int, int], list[tuple[int, Blocked]]] = {}
    for number in range(log.partitions):
        blocked = projections.blocked(number)
        if blocked is not None:
            found.setdefault((blocked.stream, blocked.position), []).append((number, blocked))
    heads = log.heads() if found else {}
    return tuple(_stop(location, some, heads, projections) for location, some in sorted(found.items()))


def _stop(
    location: tuple[int, int],
    some: Sequence[tuple[int, Blocked]],
    heads: Mapping[int, int],
    projections: ProjectionStore,
) -> Stop:
    stream, position = location
    first = min((blocked for _, blocked in some), key=lambda one: one.at)
    waiting = {}
    for number, _ in some:
        vector = projections.checkpoint(number).vector
        behind = (heads[number] - vector.partition, heads[FLEET] - vector.fleet)
        waiting[name(number)] = sum(max(0, one) for one in behind)
    decidable = all(blocked.decidable for _, blocked in some)
    return Stop(f"{name(stream)}:{position}", stream, position, first.error, first.at, decidable, waiting)


def details(client: Client, projections: ProjectionStore, stop: Stop) -> Details:
    """What an operator needs to decide."""
    entry = _entry(client, stop.stream, stop.position)
    behind = [] if stop.stream == FLEET else list(dict.fromkeys(_behind(client, stop.stream, stop.position)))
    devices = sum(projections.checkpoint(int(one[1:])).ordinals for one in stop.waiting)
    return Details(stop, entry, tuple(behind[:SUBJECTS_MAX]), len(behind), devices, _choices(stop, entry))


def _behind(client: Client, stream: int, position: int) -> Iterator[str]:
    after = position - 1
    while True:
        with answering():
            some = entries_of(client.xrange(key(stream, "log"), min=f"{after + 1}-0", count=_BATCH))
        if not some:
            return
        yield from (device_of(_text(fields.get(b"subject", b""))) for _, fields in some)
        after = int(some[-1][0].partition(b"-")[0])


def _entry(client: Client, stream: int, position: int) -> Entry | None:
    with answering():
        stored_key, at_position = key(stream, "log"), f"{position}-0"
        some = entries_of(client.xrange(stored_key, min=at_position, max=at_position))
    if not some:
        return None
    fields = some[0][1]
    why = ""
    try:
        decode_entry(name(stream), position, fields)
    except UnreadableEvent as error:
        why = error.why
    at = fields.get(b"at", b"")
    kind = _text(fields.get(b"type", b""))
    return Entry(
        kind,
        _text(fields.get(b"subject", b"")),
        _text(fields.get(b"version", b"")),
        int(at) if at.isdigit() and len(at) < 20 else 0,  # noqa: PLR2004 - a number of 64 bits
        _text(fields.get(b"by", b"")),
        _text(fields.get(b"cause", b"")),
        _data(kind, fields.get(b"data", b"")),
        why,
    )


def _data(kind: str, data: bytes) -> Any:
    """The data as JSON without secrets; where it cannot be read, nobody knows what is in it, and none of it is shown."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return f"{len(data)} bytes that are no JSON, with SHA-256 {hashlib.sha256(data).hexdigest()}"
    if kind in RESTRICTED_KINDS:
        return MASK
    if isinstance(value, dict):
        value = {member: MASK if member in _HIDDEN and part else part for member, part in value.items()}
    return cast("Any", mask(value))


def _text(data: bytes) -> str:
    return data[:_TEXT_CHARACTERS_MAX].decode(errors="backslashreplace")


def _choices(stop: Stop, entry: Entry | None) -> tuple[Choice, ...]:
    restore = Choice(
        None,
        "bring back what is missing: from a replica, or with `twinfold restore` from a backup into an empty system",
        "a restore goes back to the backup: what was acknowledged after it is gone",
    )
    if not stop.decidable:
        goes_on = Choice(
            None,
            f"give back the events from {stop.location} on, under the positions they had",
            "it is tried again every second and goes on by itself, with nothing lost",
        )
        return (goes_on, restore)
    everyone = "every partition goes on" if stop.stream == FLEET else f"{name(stop.stream)} goes on"
    lost = "what it said of the whole fleet is not heeded" if stop.stream == FLEET else _without(entry)
    skip = Choice(
        "skip",
        "go on without it, for good",
        f"{everyone}; {lost}; the entry and the decision stay in the log, and every replay leaves it out, too",
    )
    retry = Choice(
        "retry",
        "try it again: after an upgrade of twinfold to a version that knows it",
        "if it can be applied now, nothing is lost; if not, it stops here again at once",
    )
    return (retry, skip) if entry is not None else (skip, restore)


def _without(entry: Entry | None) -> str:
    if entry is None:
        return "what stood there is lost; documents that devices are read by already hold it"
    whom = entry.subject or "its subject"
    return f"deployments are decided as if it had not happened to {whom}, whose own twin as read holds it all the same"
