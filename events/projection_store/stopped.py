"""The events at which partitions are blocked: the stored entry, the devices behind it, and the possible decisions."""

import hashlib
from collections.abc import Iterator
from typing import Any, Literal, cast

import msgspec

from events.log.codec import decode_entry
from events.log.connect import Client, answering, entries_of
from events.log.errors import UnreadableEvent
from events.log.keys import FLEET, device_of, key, name
from events.log.port import RESTRICTED_KINDS, Log
from events.projection_store.port import Blocked, ProjectionStore
from events.secrets.references import MASK, mask

SUBJECTS_MAX = 20
_TEXT_CHARACTERS_MAX = 4000
_HIDDEN = ("authentication", "digest")
_BATCH = 1000


class StopChoice(msgspec.Struct, frozen=True):
    """What an operator can do about a stop, and what follows. `decision` is `None` if the choice is not recorded as an event."""

    decision: Literal["skip", "retry"] | None
    what: str
    follows: str


class StoppedEntry(msgspec.Struct, frozen=True):
    """A stored entry as text, without secrets. `why` is the reason if it cannot be read as an event, else empty.

    `data` is the decoded JSON, or if it is no JSON, a text with its length and SHA-256.
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
    """A position at which partitions are blocked. `since` is in milliseconds; `waiting` is the number of events by partition."""

    location: str
    stream: int
    position: int
    error: str
    since: int
    decidable: bool
    waiting: dict[str, int]


class StopDetails(msgspec.Struct, frozen=True, rename="camel"):
    """A stop with its entry; `None` if the entry is missing.

    `subjects` are the first `SUBJECTS_MAX` devices with events behind it in the partition's stream, `subjects_total` is the
    number of all of them, and `devices` is the number of devices of the blocked partitions.
    """

    stop: Stop
    entry: StoppedEntry | None
    subjects: tuple[str, ...]
    subjects_total: int
    devices: int
    choices: tuple[StopChoice, ...]


def stops(log: Log, projections: ProjectionStore) -> tuple[Stop, ...]:
    """Every position at which a partition is blocked, the fleet's first."""
    blocked_by_location: dict[tuple[int, int], list[tuple[int, Blocked]]] = {}
    states = projections.states(range(log.partitions))
    for number, (_, blocked) in states.items():
        if blocked is not None:
            blocked_by_location.setdefault((blocked.stream, blocked.position), []).append((number, blocked))
    heads = log.heads() if blocked_by_location else {}
    result = []
    for (stream, position), partitions in sorted(blocked_by_location.items()):
        first = min((blocked for _, blocked in partitions), key=lambda blocked: blocked.at)
        waiting = {}
        for number, _ in partitions:
            vector = states[number][0].vector
            behind = (heads[number] - vector.partition, heads[FLEET] - vector.fleet)
            waiting[name(number)] = sum(max(0, events) for events in behind)
        decidable = all(blocked.decidable for _, blocked in partitions)
        location = f"{name(stream)}:{position}"
        result.append(Stop(location, stream, position, first.error, first.at, decidable, waiting))
    return tuple(result)


def details(client: Client, projections: ProjectionStore, stop: Stop) -> StopDetails:
    """The details that an operator needs to decide."""
    entry = _entry(client, stop.stream, stop.position)
    behind = [] if stop.stream == FLEET else list(dict.fromkeys(_behind(client, stop.stream, stop.position)))
    states = projections.states([int(partition[1:]) for partition in stop.waiting])
    devices = sum(checkpoint.ordinals for checkpoint, _ in states.values())
    return StopDetails(stop, entry, tuple(behind[:SUBJECTS_MAX]), len(behind), devices, _choices(stop, entry))


def _behind(client: Client, stream: int, position: int) -> Iterator[str]:
    after = position - 1
    while True:
        with answering():
            entries = entries_of(client.xrange(key(stream, "log"), min=f"{after + 1}-0", count=_BATCH))
        if not entries:
            return
        yield from (device_of(_text(fields.get(b"subject", b""))) for _, fields in entries)
        after = int(entries[-1][0].partition(b"-")[0])


def _entry(client: Client, stream: int, position: int) -> StoppedEntry | None:
    with answering():
        stored_key, at_position = key(stream, "log"), f"{position}-0"
        entries = entries_of(client.xrange(stored_key, min=at_position, max=at_position))
    if not entries:
        return None
    fields = entries[0][1]
    why = ""
    try:
        decode_entry(name(stream), position, fields)
    except UnreadableEvent as error:
        why = error.why
    at, data = fields.get(b"at", b""), fields.get(b"data", b"")
    names = (b"type", b"subject", b"version", b"by", b"cause")
    kind, subject, version, by, cause = (_text(fields.get(field, b"")) for field in names)
    at_ms = int(at) if at.isdigit() and len(at) < 20 else 0  # noqa: PLR2004 - a number of 64 bits
    return StoppedEntry(kind, subject, version, at_ms, by, cause, _data(kind, data), why)


def _data(kind: str, data: bytes) -> Any:
    """The data as JSON without secrets."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        # Data that cannot be parsed can hold secrets anywhere, so none of it is shown.
        return f"{len(data)} bytes that are no JSON, with SHA-256 {hashlib.sha256(data).hexdigest()}"
    if kind in RESTRICTED_KINDS:
        return MASK
    if isinstance(value, dict):
        value = {member: MASK if member in _HIDDEN and part else part for member, part in value.items()}
    return cast("Any", mask(value))


def _text(data: bytes) -> str:
    return data[:_TEXT_CHARACTERS_MAX].decode(errors="backslashreplace")


def _choices(stop: Stop, entry: StoppedEntry | None) -> tuple[StopChoice, ...]:
    restore = StopChoice(
        None,
        "restore the missing events: from a replica, or with `twinfold restore` from a backup into an empty system",
        "a restore returns to the time of the backup: everything acknowledged after it is lost",
    )
    if not stop.position:
        return (StopChoice(None, "rebuild the projections from the events", "the partition goes on; nothing is lost"),)
    if not stop.decidable:
        goes_on = StopChoice(
            None,
            f"restore the events from {stop.location} on, at their original positions",
            "the partition is retried every second and goes on by itself; nothing is lost",
        )
        return (goes_on, restore)
    partitions = "every partition goes on" if stop.stream == FLEET else f"{name(stop.stream)} goes on"
    if stop.stream == FLEET:
        lost = "its change of the fleet is ignored"
    elif entry is None:
        lost = "the event at this position is lost, but the twins that devices read already include it"
    else:
        event = f"this event of {entry.subject or 'its subject'}"
        lost = f"deployments are decided without {event}, but the twin that the device reads includes it"
    skip = StopChoice(
        "skip",
        "go on without the event, for good",
        f"{partitions}; {lost}; the entry and the decision stay in the log, and every replay skips the event too",
    )
    retry = StopChoice(
        "retry",
        "retry the event: after an upgrade to a version of twinfold that can apply it",
        "if it can be applied now, nothing is lost; if not, the partition stops here again at once",
    )
    # A missing entry cannot be retried; only a restore brings it back.
    return (retry, skip) if entry is not None else (skip, restore)
