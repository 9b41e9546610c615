"""What is asked of a log, whoever keeps it: Redis, or memory for tests."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from events.access.events import AccessEvent
from events.deployment.events import DeploymentEvent
from events.device.events import DeviceEvent
from events.envelope import Envelope, Principal
from events.log.events import LogEvent
from events.log.keys import FLEET, device_of, partition_of
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


def stream_of(subject: str, event: Event, *, partitions: int) -> int:
    """The fleet's stream for all that is not of a device, else the partition of the subject's device."""
    return partition_of(device_of(subject), partitions) if isinstance(event, DeviceEvent) else FLEET


CHUNK_EVENTS_MAX = 256
CHUNK_BYTES_MAX = 1 << 20

AT_APPEND = 2**53 + 1
"""Stands in a snapshot's `…_at` members for the time that the append gives its events.

That time is known in the append alone, which may raise it. No data holds this number: integers end at ±2^52
(contract/hub.md §6), and it is no float.
"""


class Head(msgspec.Struct, frozen=True):
    """Where a subject stands.

    `version` counts its events; `generation` is its registration, 0 when it is retired or not a device.
    """

    version: int = 0
    generation: int = 0


class Stored(msgspec.Struct, frozen=True):
    """What the log knows of a subject without applying: its head and its snapshot document, if it has one."""

    head: Head = Head()
    snapshot: bytes | None = None


class Proposed(msgspec.Struct, frozen=True):
    """One event that a decision wants in the log.

    `expected_version` is the subject's version that the decision saw; with several events of one subject in a batch, each
    counts the ones before it. `snapshots` are the documents that follow (subject in the same partition, canonical bytes;
    `None` deletes); in them, `"…_at":AT_APPEND` becomes the time of the event. `generation` becomes the subject's new
    generation where it is not `None`. `guard` is another subject whose generation must still be the one named. One that `follows`
    stands in the log together with the one before it, or neither does. The events of a command with an id of its own carry that
    as `command_id`, and are in one chunk: then the log can tell for 24 hours that it has them (`Log.remembered`).
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
    """A chunk is in the log. Positions are `first_position` and on, in order; `repeated` says it already was."""

    stream: int
    indices: tuple[int, ...]
    first_position: int
    versions: tuple[int, ...]
    repeated: bool
    woke: bool


class Conflicted(msgspec.Struct, frozen=True):
    """Nothing of a chunk is in the log: these subjects (all of them) moved on since they were decided upon."""

    stream: int
    indices: tuple[int, ...]
    current: dict[str, Head]


Chunk = Written | Conflicted


class Log(Protocol):
    """Append-only streams: one per partition and one for the fleet."""

    @property
    def partitions(self) -> int:
        """How many partitions there are; fixed when the log was initialised."""
        ...

    @property
    def epoch(self) -> str:
        """The id this log was given when it was initialised."""
        ...

    def stream_of(self, subject: str, event: Event) -> int:
        """The stream an event belongs to: the fleet's, or the partition of the subject's device."""
        ...

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

        Each chunk is atomic and stands in the log at most once per `command_id`, so that sending the same batch again
        completes it. `indices` of a chunk point into `batch`; order within a stream is kept. `at` (milliseconds) is raised
        to the predecessor's where it is smaller. A partition's wake flag is set by the same script: `woke` is true for
        the chunk that set it, whose caller then owes the partition a wake-up.

        Raises:
            LogUnavailable: Redis did not answer; the batch may or may not be in the log: send it again.
            EventTooLarge: one event alone is over 1 MiB.
            Fenced: `fence` is older than one that was used on this stream; a newer holder has taken over.
        """
        ...

    def load(self, subjects: Sequence[str], *, fleet: bool = False) -> list[Stored]:
        """Heads and snapshots of device-side subjects, or of deployments with `fleet`; unknown ones are `Stored()`."""
        ...

    def remembered(self, stream: int, command_ids: Sequence[str]) -> list[int]:
        """How many events each of some commands has in a stream; 0 for one that is not there, or not remembered any more.

        Ids are remembered for 24 hours, and the last 100,000 of each stream (COMMANDS_REMEMBERED_MAX) at most.
        """
        ...

    def snapshots(self, partition: int, subjects: Sequence[str]) -> list[bytes | None]:
        """Snapshots of subjects of one partition, in their order: for who looks at many, and decides nothing on them."""
        ...

    def subjects(self, stream: int, *, prefix: str = "") -> Iterable[str]:
        """Every subject of a stream that has a snapshot and begins so, in no particular order."""
        ...

    def known(self, stream: int) -> Iterable[str]:
        """Every subject of a stream that has a head, in no particular order."""
        ...

    def head(self, stream: int) -> int:
        """Position of the newest event of a stream; 0 when it is empty."""
        ...

    def heads(self) -> Mapping[int, int]:
        """`head` of every stream, by stream number."""
        ...

    def read(self, stream: int, *, after: int, limit: int) -> list[Envelope[Event]]:
        """Events at positions after + 1 and on, at most `limit`.

        Raises:
            LogLostItsTail: a position is missing, or `after` lies beyond the head.
            UnreadableEvent: an entry does not decode; the ones before it are read by a smaller `limit`.
        """
        ...

    def position_at(self, stream: int, at: int) -> int:
        """The last position whose time is <= `at` (milliseconds); 0 when there is none."""
        ...

    def clear_wake(self, stream: int) -> None:
        """Take the wake flag down: whoever reads on from here sees every event appended before."""
        ...
