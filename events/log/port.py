"""The interface of a log, which Redis implements, and memory for tests and backtests."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, get_args

import msgspec

from events.access.events import AccessEvent
from events.deployment.events import DeploymentEvent
from events.device.events import DeviceEvent
from events.envelope import Envelope, Principal
from events.log.events import LogEvent
from events.log.keys import FLEET, device_of, partition_of
from events.log.ranked_deployments import RankedDeployments
from events.readiness.events import WaiverEvent
from events.rollout.events import RolloutEvent
from events.update.events import GroupEvent, UpdateEvent
from events.webhook.events import WebhookEvent

Event = (
    DeviceEvent
    | DeploymentEvent
    | RolloutEvent
    | UpdateEvent
    | GroupEvent
    | AccessEvent
    | WaiverEvent
    | WebhookEvent
    | LogEvent
)


ASSIGNMENT_CHANGE = "AssignmentChange"
UNREADABLE = "Unreadable"
"""The kind that replaces an entry that does not decode, so that a receiver learns of the gap."""

KINDS = frozenset({*(kind.__name__ for kind in get_args(Event)), ASSIGNMENT_CHANGE, UNREADABLE})
"""The kinds of entries that webhooks and event streams deliver: event types, assignment changes, unreadable entries."""

RESTRICTED_KINDS = frozenset(kind.__name__ for union in (AccessEvent, WebhookEvent) for kind in get_args(union))
"""Kinds that show who has access and which webhooks exist; only callers who may manage both receive them."""


# A test of an event's type against the union would compare it with each of its 11 types.
DEVICE_EVENTS: frozenset[type[Event]] = frozenset(get_args(DeviceEvent))
"""The types of events in the streams of partitions."""


def stream_of(subject: str, event: Event, *, partitions: int) -> int:
    """The stream of an event: the partition of its device, or the fleet's stream for all other concepts."""
    return partition_of(device_of(subject), partitions) if type(event) in DEVICE_EVENTS else FLEET


# A script blocks every other client of the server: one with 20,000 events stalled Redis for 0.24 to 0.31 s. From 100 events
# a call on, larger chunks gain little (246,000 events/s with 100, 297,000 with 500; contract/redis-rq.md).
CHUNK_EVENTS_MAX = 256
CHUNK_BYTES_MAX = 1 << 20

# Integers of twins end at ±2^52 (contract/hub.md §6) and this is no float, so no data holds it (docs/decisions/0010).
AT_APPEND = 2**53 + 1
"""The placeholder in a snapshot's `…_at` members for the time of the event, which only the append knows: it may raise it."""


_AT_APPEND = b'_at":%d' % AT_APPEND


def with_time(document: bytes, at: int) -> bytes:
    """A snapshot of a `Proposed` as the append stores it: with the time of its event, in milliseconds."""
    # A quote before the colon cannot stand so inside a JSON string.
    return document.replace(_AT_APPEND, b'_at":%d' % at)


class Head(msgspec.Struct, frozen=True):
    """The current state of a subject: `version` counts its events, `generation` is its registration.

    The generation is 0 for a retired device and for everything that is not a device.
    """

    version: int = 0
    generation: int = 0


class Stored(msgspec.Struct, frozen=True):
    """What the log has of a subject without replaying events: its head, and its snapshot document if it has one."""

    head: Head = Head()
    snapshot: bytes | None = None


class Proposed(msgspec.Struct, frozen=True):
    """One event to append, with the conditions under which it may be written.

    - `expected_version`: the version of the subject that the decision read. Of several events of one subject in a batch,
      each counts the events before it.
    - `snapshots`: the documents after the event, as canonical bytes, of subjects in the same partition; `None` deletes the
      document. `"…_at":AT_APPEND` in them becomes the time of the event.
    - `generation`: the subject's new generation; `None` leaves it as it is.
    - `guard`: another subject and the generation that it must still have.
    - `follows`: the event is written together with the one before it, or neither is.
    - `command_id`: the id of the command, if it has one. All events of a command are in one chunk, so that the log can
      recognise the command for 24 hours (`Log.remembered`).
    """

    subject: str
    expected_version: int
    event: Event
    snapshots: tuple[tuple[str, bytes | None], ...] = ()
    generation: int | None = None
    guard: tuple[str, int] | None = None
    follows: bool = False
    command_id: str = ""


class Written(msgspec.Struct, frozen=True):
    """A chunk is in the log, at `first_position` and the positions after it; `repeated`: it was there before this call.

    `at` is the time of its events, in milliseconds.
    """

    stream: int
    indices: tuple[int, ...]
    first_position: int
    at: int
    repeated: bool
    woke: bool


class Conflicted(msgspec.Struct, frozen=True):
    """Nothing of a chunk is in the log: `current` has every subject that changed after the decision read it."""

    stream: int
    indices: tuple[int, ...]
    current: dict[str, Head]


Chunk = Written | Conflicted


def streams_to_wake(chunks: Iterable[Chunk]) -> frozenset[int]:
    """The streams of an append whose workers its caller must wake."""
    # A repeated chunk also wakes: the process that got no answer to the first attempt enqueued nothing.
    return frozenset(chunk.stream for chunk in chunks if isinstance(chunk, Written) and (chunk.woke or chunk.repeated))


PreparedAppend = Callable[[], Callable[[], tuple[Chunk, ...]]]
"""Sends a batch, the same each time; the function that it returns waits for the answers, and must be called once."""


class Log(Protocol):
    """Append-only streams: one per partition and one for the fleet."""

    partitions: int
    """The number of partitions; fixed when the log was initialised."""
    epoch: str
    """The id that the log got when it was initialised."""

    def append(
        self,
        batch: Sequence[Proposed],
        *,
        command_id: str,
        by: Principal,
        at: int,
        cause: str = "",
        fence: int | None = None,
    ) -> tuple[Chunk, ...]:
        """Append a batch, split by stream and then into chunks of at most 256 events or 1 MiB.

        Each chunk is atomic, and is written at most once per `command_id`: sending the same batch again completes it.
        `indices` of a chunk point into `batch`; the order within a stream is kept. `at` (milliseconds) is raised to the
        time of the previous event where it is smaller. `woke` is true for a chunk whose stream no worker
        follows and for which none was woken lately; its caller must wake the workers.

        Raises:
            LogUnavailable: Redis did not answer. The batch may or may not be in the log; send the same batch again.
            EventTooLarge: an event is over 1 MiB with its snapshots.
            Fenced: another process with a higher fence has written to a stream; chunks of other streams, or before it, may be
                in the log.
        """
        ...

    def prepare_append(
        self,
        batch: Sequence[Proposed],
        *,
        command_id: str,
        by: Principal,
        at: int,
        cause: str = "",
        fence: int | None = None,
    ) -> PreparedAppend:
        """As `append`, in three steps: encode the batch, send it, wait for the answers.

        Raises:
            EventTooLarge: as `append`; the other errors come from the later steps.
        """

        def send() -> Callable[[], tuple[Chunk, ...]]:
            chunks = self.append(batch, command_id=command_id, by=by, at=at, cause=cause, fence=fence)
            return lambda: chunks

        return send

    def load(self, subjects: Sequence[str], *, fleet: bool = False) -> list[Stored]:
        """Heads and snapshots of devices and modules, or of subjects of the fleet's stream; `Stored()` for an unknown one."""
        ...

    def remembered(self, stream: int, command_ids: Sequence[str]) -> list[int]:
        """The number of events that each command has in a stream; 0 for a command that the log does not remember.

        Ids are remembered for 24 hours, at most the last 100,000 of each stream (COMMANDS_REMEMBERED_MAX).
        """
        ...

    def snapshots(self, partition: int, subjects: Sequence[str]) -> list[bytes | None]:
        """Snapshots of many subjects of one partition, in their order. Without heads, so no decision can use them."""
        ...

    def subjects(self, stream: int, *, prefix: str = "") -> Iterable[str]:
        """Every subject of a stream that has a snapshot and starts with `prefix`, in no particular order."""
        ...

    def all_stored(self, stream: int) -> Iterable[tuple[str, Stored]]:
        """Every subject of a stream with its head and snapshot, in no particular order; a subject can come more than once."""
        ...

    def ranked_deployments(self) -> RankedDeployments:
        """The ranks of the deployments, the caller's own writes included. The cost follows what was written since the last call."""
        ...

    def head(self, stream: int) -> int:
        """Position of the newest event of a stream; 0 for an empty stream."""
        ...

    def heads(self) -> Mapping[int, int]:
        """`head` of every stream, by stream number."""
        ...

    def read(self, stream: int, *, after: int, limit: int) -> list[Envelope[Event]]:
        """At most `limit` events from position after + 1 on.

        Raises:
            LogLostItsTail: a position is missing, or `after` is greater than the head.
            UnreadableEvent: an entry does not decode; a smaller `limit` reads the events before it.
        """
        ...

    def position_at(self, stream: int, at: int) -> int:
        """The last position whose time is <= `at` (milliseconds); 0 if there is none."""
        ...


def read_all(
    log: Log, stream: int, *, after: int = 0, upto: int | None = None, batch: int = 1000
) -> Iterator[Envelope[Event]]:
    """Events from position after + 1 to `upto` (default: the head when it is reached), read in batches.

    Raises:
        LogLostItsTail, UnreadableEvent: as `Log.read`.
    """
    while upto is None or after < upto:
        events = log.read(stream, after=after, limit=batch if upto is None else min(batch, upto - after))
        if not events:
            return
        yield from events
        after = events[-1].position
