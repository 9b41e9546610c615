"""Why a read of the past fails.

HistoryError
├── PointInTimeInvalid   refused: the text is no point in time
├── PointInTimeAhead     refused: the point in time is in the future
├── PointInTimeTooEarly  refused: the log did not exist yet
├── PastIsFixed          refused: the past cannot be changed
├── SnapshotDamaged      logged: the snapshot is skipped, an older one is used
│   └── SnapshotGone     the same for a snapshot that was deleted
└── HistoryDiffers       stop: the events do not give the recorded assignment changes
"""

from events.device.times import time_text


class HistoryError(Exception):
    """A read of the past fails."""


class PointInTimeInvalid(HistoryError):
    """The text is no point in time: a time, positions of streams, or both."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(
            f"{text[:120]!r} is no point in time: {why}; give a time (2026-11-21T10:00:00Z, or milliseconds since 1970),"
            " or positions as in fleet:17,p03:120"
        )
        self.text = text


class PointInTimeAhead(HistoryError):
    """The point in time is in the future."""

    def __init__(self, text: str, newest: str) -> None:
        super().__init__(f"{text[:120]!r} is in the future: the newest point in time is {newest}")
        self.text = text


class PointInTimeTooEarly(HistoryError):
    """The point in time is before the first event of the log."""

    def __init__(self, text: str, first: int) -> None:
        super().__init__(f"{text[:120]!r} is before the first event of the log, fleet:1 at {time_text(first)}")
        self.text, self.first = text, first


class PastIsFixed(HistoryError):
    """A write names a point in the past."""

    def __init__(self) -> None:
        super().__init__("the past cannot be changed; omit `at` to write now")


class SnapshotDamaged(HistoryError):
    """The file of a snapshot is damaged, or has events that the log lost since."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"snapshot {name} is damaged and is not used: {why}; an older snapshot is used instead")
        self.name, self.why = name, why


class SnapshotGone(SnapshotDamaged):
    """A snapshot was deleted since it was listed."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "the file was deleted")


class HistoryDiffers(HistoryError):
    """A replay does not give a recorded assignment change."""

    def __init__(self, partition: str, position: int) -> None:
        super().__init__(
            f"{partition}: the events do not give the recorded assignment change {position};"
            " run `twinfold replay` for the first event that differs"
        )
        self.partition, self.position = partition, position
