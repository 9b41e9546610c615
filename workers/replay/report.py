"""What a replay is asked, and what it says: plain data between its processes, and to who asked."""

import msgspec

from events.envelope import Vector
from events.log.keys import name

NAMED_MAX = 20
"""Differences that are told one by one, of each kind in one stream; the others are counted."""


class ReplayRequest(msgspec.Struct, frozen=True):
    """What is to be replayed again: whole streams, or each up to a position, or up to a time (milliseconds).

    `archive` is the URL of an archive, in place of the log.
    What comes of it is compared with what is stored, or, to `rebuild`, put in its place.
    """

    streams: tuple[int, ...] = ()
    upto: dict[str, int] = {}
    until: int | None = None
    archive: str = ""
    rebuild: bool = False
    workers: int = 0
    json: bool = False


class ReplayDifference(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One thing that is stored otherwise than the events give it.

    `kind` is `assignment_change`, `checkpoint`, `projection`, `twin`, `document`, `head`, `snapshot` or `event`.
    `location` is `stream:position`, or a key and its field.
    `path` leads to the first difference inside of JSON. `events` are the positions it can come from, as in `p03:101-117`,
    `first_event` the first of them that is of a subject concerned. `stored` and `applied` are what stands there, shortened.
    """

    kind: str
    location: str
    path: str = ""
    stored: str = ""
    replayed: str = ""
    events: str = ""
    first_event: str = ""
    devices: tuple[str, ...] = ()


class Compared(msgspec.Struct, frozen=True, rename="camel"):
    """What came of one stream. Numbers of things compared, and what differs; `more` counts differences not named."""

    stream: int
    events: int = 0
    assignment_changes: int = 0
    projections: int = 0
    documents: int = 0
    snapshots: int = 0
    skipped: int = 0
    apart: int = 0
    vector: Vector | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_bytes_max: int = 0
    differences: tuple[ReplayDifference, ...] = ()
    more: int = 0
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`p03`, or `fleet`."""
        return name(self.stream)


class Begun(msgspec.Struct, frozen=True, tag=True):
    """A process works on a stream of so many events."""

    stream: int
    events: int


class Came(msgspec.Struct, frozen=True, tag=True):
    """A process has come to a position of its stream."""

    stream: int
    position: int


class Done(msgspec.Struct, frozen=True, tag=True):
    """A stream is done."""

    compared: Compared


class Failed(msgspec.Struct, frozen=True, tag=True):
    """A stream cannot be replayed, for a reason that another try does not mend."""

    stream: int
    error: str


StreamProgress = Begun | Came | Done | Failed


class Away(msgspec.Struct, frozen=True, tag=True):
    """A process ends because Redis does not answer; why, as `LogUnavailable` has it."""

    why: str


ChildMessage = StreamProgress | Away
"""What a process of a replay says to the one that started it."""
