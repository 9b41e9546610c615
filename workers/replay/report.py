"""The request for a replay and its results: plain data between the processes of a replay, and for its caller."""

from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from events.envelope import Vector
from events.log.keys import name

NAMED_MAX = 20
"""How many differences of each kind in one stream are named; further differences are only counted."""

ReportProgress = Callable[[int], None]
"""Takes the number of events of the stream that are replayed."""


class ReplayRequest(msgspec.Struct, frozen=True):
    """What to replay: whole streams, or each up to a position, or up to a time (milliseconds).

    `archive` is the URL of an archive to read instead of the log. With `rebuild`, the result replaces what is stored;
    without, it is compared with what is stored.
    """

    streams: tuple[int, ...] = ()
    upto: dict[str, int] = {}
    until: int | None = None
    archive: str = ""
    rebuild: bool = False
    workers: int = 0
    json: bool = False


class ReplayDifference(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One thing that is stored differently from what the events give.

    `kind` is `assignment_change`, `checkpoint`, `projection`, `twin`, `document`, `head`, `snapshot` or `event`.
    `location` is `stream:position`, or a key and its field. `path` leads to the first difference inside of JSON, and
    `stored` and `replayed` are the values at that path, shortened. `events` are the positions that can have caused it,
    as in `p03:101-117`, and `first_event` is the first of them whose subject is affected.
    """

    kind: str
    location: str
    path: str = ""
    stored: str = ""
    replayed: str = ""
    events: str = ""
    first_event: str = ""
    devices: tuple[str, ...] = ()


class Compared(msgspec.Struct, rename="camel"):
    """The result of one stream: how many things were compared, and the differences; `more` counts those not named.

    `apart` counts the subjects that are not compared, because an event of theirs is skipped.
    """

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
    differences: list[ReplayDifference] = []
    more: int = 0
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`p03`, or `fleet`."""
        return name(self.stream)

    def add(self, differences: Iterable[ReplayDifference]) -> None:
        """Add differences after those of their kind; of more than `NAMED_MAX` of a kind, only the number."""
        counts = Counter(named.kind for named in self.differences)
        for difference in differences:
            counts[difference.kind] += 1
            if counts[difference.kind] <= NAMED_MAX:
                self.differences.append(difference)
            else:
                self.more += 1
        kinds = list(dict.fromkeys(difference.kind for difference in self.differences))
        self.differences.sort(key=lambda difference: kinds.index(difference.kind))


class Advanced(msgspec.Struct, frozen=True, tag=True):
    """A process has reached a position of its stream; 0 when it begins."""

    stream: int
    position: int


class Done(msgspec.Struct, frozen=True, tag=True):
    """A stream is done."""

    compared: Compared


class Failed(msgspec.Struct, frozen=True, tag=True):
    """A stream cannot be replayed, for a reason that a second attempt does not remove."""

    stream: int
    error: str


StreamProgress = Advanced | Done | Failed


class Unavailable(msgspec.Struct, frozen=True, tag=True):
    """A process ends because Redis, or the object store at a `url`, does not answer; `why` is that of the error."""

    why: str
    url: str | None = None


ChildMessage = StreamProgress | Unavailable
"""What a process of a replay writes to the process that started it."""
