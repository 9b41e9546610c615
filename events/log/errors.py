"""Errors of the log and of its archive.

LogError
├── LogUnavailable          temporary: Redis does not answer; retry
├── LogNotInitialised       the database is empty, or another program's
├── LogRestoring            temporary: a restore is running, or was interrupted
├── UnsafeRedis             the server's settings would lose events
├── LogMismatch             rejected: another number of partitions
├── LogOfAnotherVersion     rejected: stored by an older or newer version of twinfold
├── EventTooLarge           rejected
├── Fenced                  rejected: another process took over
├── ObjectStoreUnavailable  temporary: the object store does not answer, or its URL is wrong
├── ArchiveElsewhere        rejected: the archive is at another location
├── SegmentMissing          stop: a file of the archive is missing
├── SegmentDamaged          stop: a file of the archive was changed
├── ManifestDamaged         stop: a manifest of the archive was changed
├── LogLostItsTail          stop: positions are missing
│   └── TailReplaced        stop: other events are at these positions
└── UnreadableEvent         stop: an entry does not decode
"""

from events.settings import hide_password


class LogError(Exception):
    """An error of the log; the base of all others."""


class LogUnavailable(LogError):
    """Redis did not answer. A batch that was sent may or may not be in the log; sending it again is safe."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the log is unavailable: {why}; retrying is safe")
        self.why = why


class ObjectStoreUnavailable(LogError):
    """The object store of the archive, of a backup or of snapshots cannot be used."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"object store {hide_password(url)}: {why}")
        self.url, self.why = url, why


class ArchiveElsewhere(LogError):
    """The settings name another location for the archive than the log does.

    `missing` is an archived file that the new location does not have; empty if no move was requested.
    """

    def __init__(self, *, recorded: str, configured: str, missing: str = "") -> None:
        old, new = hide_password(recorded), hide_password(configured)
        super().__init__(
            f"the archive is at {old}, and {new} does not have its file {missing}: copy all files there first, or use {old}"
            if missing
            else f"the archive is at {old}, and the settings say {new}: set TWINFOLD_ARCHIVE_URL to {old}, or move"
            " the archive with `twinfold archive --archive-url`"
        )
        self.recorded, self.configured, self.missing = recorded, configured, missing


class SegmentMissing(LogError):
    """A file of the archive does not exist."""

    def __init__(self, url: str, name: str, stream: str, first: int, last: int) -> None:
        super().__init__(
            f"{stream}:{first} to {last}, archived as {name} at {hide_password(url)}: the file is missing;"
            " restore it from a backup"
        )
        self.url, self.name, self.stream, self.first, self.last = url, name, stream, first, last


class SegmentDamaged(LogError):
    """A file of the archive was changed or truncated, or belongs to another log."""

    def __init__(self, url: str, name: str, stream: str, first: int, last: int, *, why: str) -> None:
        super().__init__(
            f"{stream}:{first} to {last}, archived as {name} at {hide_password(url)}: {why}; restore it from a backup"
        )
        self.url, self.name, self.stream, self.first, self.last, self.why = url, name, stream, first, last, why


class ManifestDamaged(LogError):
    """A manifest of the archive was changed or is missing."""

    def __init__(self, url: str, name: str, why: str) -> None:
        super().__init__(f"{name} at {hide_password(url)}: {why}; `twinfold archive` writes it again")
        self.url, self.name, self.why = url, name, why


class LogNotInitialised(LogError):
    """The database has no twinfold log."""

    def __init__(self, url: str) -> None:
        super().__init__(f"no twinfold log at {url}; initialise one with `twinfold up` or `twinfold init`")
        self.url = url


class LogRestoring(LogError):
    """A restore into this database is running or was interrupted: the database has a part of a log."""

    def __init__(self) -> None:
        super().__init__(
            "a restore into this database has not finished; if none is running, repeat the same `twinfold restore`"
        )


class UnsafeRedis(LogError):
    """A setting of the Redis server would lose acknowledged events."""

    def __init__(self, setting: str, actual: str, required: str) -> None:
        super().__init__(
            f"Redis has {setting} {actual}; twinfold requires {required}, or events can be lost"
            " (set it in redis.conf, or accept the loss with --allow-volatile-redis)"
        )
        self.setting, self.actual, self.required = setting, actual, required


class EventTooLarge(LogError):
    """An event, with the documents after it, is larger than a chunk may be."""

    def __init__(self, subject: str, size: int, limit: int) -> None:
        super().__init__(f"{subject}: the event has {size} bytes with its documents; at most {limit} are allowed")
        self.subject, self.size, self.limit = subject, size, limit


class LogLostItsTail(LogError):
    """Positions that were acknowledged are missing: a failover, a restart or a restore lost them."""

    def __init__(self, stream: str, *, expected: int, actual: int) -> None:
        super().__init__(f"{stream}: expected position {expected}, the log has {actual}; restore the missing events")
        self.stream, self.expected, self.actual = stream, expected, actual
        self.position = expected


class TailReplaced(LogLostItsTail):
    """Events were appended at positions that the log had lost: the projections have others."""

    def __init__(self, stream: str, position: int) -> None:
        super().__init__(stream, expected=position, actual=position - 1)
        why = f"{stream}:{position} is not the event that was applied, as the log lost its tail and went on"
        self.args = (f"{why}; restore a backup",)


class UnreadableEvent(LogError):
    """An entry of the log does not decode as an event of this version."""

    def __init__(self, stream: str, position: int, why: str) -> None:
        super().__init__(f"{stream}:{position} cannot be read: {why}")
        self.stream, self.position, self.why = stream, position, why


class Fenced(LogError):
    """Another process took over; nothing that this process decides under its older fence is written to the stream any more.

    `streams_to_wake` are those of the chunks of the same batch that were written; their workers are not woken yet.
    """

    def __init__(self, stream: str, newest: int, *, streams_to_wake: frozenset[int] = frozenset()) -> None:
        super().__init__(f"{stream}: another process (fence {newest}) has taken over; stop this one")
        self.stream, self.newest, self.streams_to_wake = stream, newest, streams_to_wake


class LogMismatch(LogError):
    """The database has a log with another number of partitions than requested."""

    def __init__(self, *, partitions: int, requested: int) -> None:
        super().__init__(
            f"this log has {partitions} partitions, not {requested}, and the number cannot change;"
            f" request {partitions} partitions, or use another database"
        )
        self.partitions, self.requested = partitions, requested


class LogOfAnotherVersion(LogError):
    """The database has a log in another storage format than this version of twinfold reads and writes."""

    def __init__(self, *, stored: int, supported: int) -> None:
        super().__init__(
            f"this log has storage format {stored}, and this version of twinfold has format {supported}; "
            + (
                "back it up with the version that wrote it (`twinfold backup`), and restore the backup with this one into an"
                " empty database or data directory (`twinfold restore`)"
                if stored < supported
                else "use the version that wrote it, or a newer one"
            )
        )
        self.stored, self.supported = stored, supported
