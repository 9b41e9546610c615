"""Why a moment cannot be answered for.

HistoryError
├── PointInTimeInvalid       refused: it is not written as a moment
├── PointInTimeAhead         refused: it has not come yet
├── PointInTimeTooEarly      refused: there was no log yet
├── PastIsFixed         refused: nothing is written in the past
├── SnapshotDamaged     noticed: a snapshot is left out, an older one takes its place
│   └── SnapshotGone    the same, of one that was not needed any more, or was deleted
└── HistoryDiffers      stop: the events do not give the assignment changes that are recorded
"""

from events.device.times import time_text


class HistoryError(Exception):
    """Any trouble with the past."""


class PointInTimeInvalid(HistoryError):
    """A moment is a time, positions of streams, or both."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(
            f"no moment is written {text[:120]!r}: {why}; write a time (2026-11-21T10:00:00Z, or milliseconds since"
            " 1970), or positions as fleet:17 or p03:120, with commas between several"
        )
        self.text = text


class PointInTimeAhead(HistoryError):
    """What has not happened cannot be looked at."""

    def __init__(self, text: str, newest: str) -> None:
        super().__init__(f"{text[:120]!r} has not come yet: the newest is {newest}")
        self.text = text


class PointInTimeTooEarly(HistoryError):
    """The log begins with its first event."""

    def __init__(self, text: str, first: int) -> None:
        super().__init__(
            f"{text[:120]!r} lies before the beginning of the log, which is fleet:1, of {time_text(first)}"
        )
        self.text, self.first = text, first


class PastIsFixed(HistoryError):
    """Somebody tried to write in the past."""

    def __init__(self) -> None:
        super().__init__("the past is looked at, and not changed; leave `at` away to write now")


class SnapshotDamaged(HistoryError):
    """A snapshot's file is not what was written, or is of events that the log lost since."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"snapshot {name} is damaged and is not used: {why}; an older one takes its place")
        self.name, self.why = name, why


class SnapshotGone(SnapshotDamaged):
    """A snapshot was removed since it was listed."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "it is not there any more")


class HistoryDiffers(HistoryError):
    """Replaying does not come to the assignment changes that are recorded; `twinfold replay` names the first event that is at fault."""

    def __init__(self, partition: str, position: int) -> None:
        super().__init__(f"{partition}: the events do not give assignment change {position} as it is recorded")
        self.partition, self.position = partition, position
