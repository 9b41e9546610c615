"""Why the log refuses, or stops.

LogError
├── LogUnavailable        not now: Redis does not answer; send again
├── LogNotInitialised     nothing here yet, or another program's database
├── LogRestoring          not now: a restore is under way, or broke off
├── UnsafeRedis           the server's settings would lose events
├── LogMismatch           refused: another number of partitions
├── EventTooLarge          refused
├── Fenced                refused: another process took over
├── ObjectStoreUnavailable      not now: the place of archived events, or no such place
├── ArchiveElsewhere      refused: the archive is at another place
├── SegmentMissing        stop: a file of the archive is gone
├── SegmentDamaged        stop: a file of the archive is not what was written
├── ManifestDamaged       stop: a list of the archive's files is not what was written
├── LogLostItsTail        stop: positions are missing
└── UnreadableEvent        stop: an entry does not decode
"""

from events.settings import hide_password


class LogError(Exception):
    """Any trouble with the log."""


class LogUnavailable(LogError):
    """Redis did not answer. What was sent may or may not be in the log; sending it again is safe."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the log is unavailable: {why}; trying again is safe")
        self.why = why


class ObjectStoreUnavailable(LogError):
    """The place where history is kept outside Redis does not work."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"history at {hide_password(url)}: {why}")
        self.url, self.why = url, why


class ArchiveElsewhere(LogError):
    """A place is named for the archive that is another than where it is.

    `missing` is a file that was archived so far and is not there; empty where nobody looked, as nobody said that it is to move.
    """

    def __init__(self, *, known: str, asked: str, missing: str = "") -> None:
        super().__init__(
            f"the archive is at {hide_password(known)}, and {hide_password(asked)} does not have its {missing}:"
            " copy all of it there first, or name the former place"
            if missing
            else f"the archive is at {hide_password(known)}, and the settings say {hide_password(asked)}: set"
            " TWINFOLD_ARCHIVE_URL to where it is, or move it with `twinfold archive --archive-url`"
        )
        self.known, self.asked, self.missing = known, asked, missing


class SegmentMissing(LogError):
    """A file of the archive is not there."""

    def __init__(self, url: str, name: str, stream: str, first: int, last: int) -> None:
        super().__init__(
            f"{stream}:{first} to {last} were archived as {name} at {hide_password(url)}, and there is no such file;"
            " restore it from a backup"
        )
        self.url, self.name, self.stream, self.first, self.last = url, name, stream, first, last


class SegmentDamaged(LogError):
    """A file of the archive is not what was written: changed, cut short, or another log's."""

    def __init__(self, url: str, name: str, stream: str, first: int, last: int, *, why: str) -> None:
        super().__init__(
            f"{stream}:{first} to {last}, archived as {name} at {hide_password(url)}: {why}; restore it from a backup"
        )
        self.url, self.name, self.stream, self.first, self.last, self.why = url, name, stream, first, last, why


class ManifestDamaged(LogError):
    """A manifest of the archive is not what was written, or not there."""

    def __init__(self, url: str, name: str, why: str) -> None:
        super().__init__(f"{name} at {hide_password(url)}: {why}; the next run of `twinfold archive` writes it again")
        self.url, self.name, self.why = url, name, why


class LogNotInitialised(LogError):
    """There is no twinfold log in this database."""

    def __init__(self, url: str) -> None:
        super().__init__(f"no twinfold log at {url}; `twinfold up` or `twinfold init` makes one")
        self.url = url


class LogRestoring(LogError):
    """A restore writes into this database, or broke off there: it holds a part of a log."""

    def __init__(self) -> None:
        super().__init__("a restore into this database has not ended; if none is running, `twinfold restore` again")


class UnsafeRedis(LogError):
    """A setting of the Redis server would lose acknowledged events."""

    def __init__(self, setting: str, actual: str, wanted: str) -> None:
        super().__init__(
            f"Redis has {setting} {actual}; twinfold needs {wanted}, or events are lost"
            " (set it in redis.conf; --allow-volatile-redis accepts the loss)"
        )
        self.setting, self.actual, self.wanted = setting, actual, wanted


class EventTooLarge(LogError):
    """One event is bigger than a whole chunk may be."""

    def __init__(self, subject: str, size: int, limit: int) -> None:
        super().__init__(f"{subject}: an event of {size} bytes is over the limit of {limit}")
        self.subject, self.size, self.limit = subject, size, limit


class LogLostItsTail(LogError):
    """Positions that were acknowledged are not there: a failover or a restore lost them."""

    def __init__(self, stream: str, *, expected: int, found: int) -> None:
        super().__init__(f"{stream}: position {expected} was expected, the log has {found}; restore the missing events")
        self.stream, self.expected, self.found = stream, expected, found


class UnreadableEvent(LogError):
    """An entry of the log does not decode as any event this version knows."""

    def __init__(self, stream: str, position: int, why: str) -> None:
        super().__init__(f"{stream}:{position} cannot be read: {why}")
        self.stream, self.position, self.why = stream, position, why


class Fenced(LogError):
    """Another process took over; what this one decided with its older fence is not written."""

    def __init__(self, stream: str, newest: int) -> None:
        super().__init__(f"{stream}: a newer holder (fence {newest}) has taken over; stop and let it work")
        self.stream, self.newest = stream, newest


class LogMismatch(LogError):
    """There is a log already, and it is not the one that is asked for."""

    def __init__(self, *, partitions: int, wanted: int) -> None:
        super().__init__(
            f"this log has {partitions} partitions, fixed when it was made; {wanted} are asked for:"
            " leave the number away, or use another database"
        )
        self.partitions, self.wanted = partitions, wanted
