"""The notes on the archive in Redis: where it is, the segments of each stream, how far Redis is trimmed, and retention holds.

Every function raises `LogUnavailable` if Redis does not answer.
"""

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any, cast

import msgspec

from events import canonical
from events.log.archive.manifest import Segment
from events.log.connect import Client, answering
from events.log.entries import key_of
from events.log.events import LogInitialised
from events.log.keys import FLEET, name

_SEGMENT = b"segment:"
_NOTE = files("events.log.archive").joinpath("note.lua").read_text(encoding="utf-8")
# The script answers these or the name of a holder, and no holder's name starts with `=`.
TRIMMED, MOVED = "=trimmed", "=moved"
_TRIM = files("events.log.archive").joinpath("trim.lua").read_text(encoding="utf-8")

RetentionHold = Callable[[str], Mapping[str, int]]
"""The last position of a stream that each reader of one kind is past, by name; a reader that is not named does not hold.

No entry is trimmed before every holder is past it.
"""

SEALER = "sealer"


class Notes(msgspec.Struct, frozen=True):
    """The notes on one stream: its segments in order, and the position up to which only they have its entries."""

    segments: tuple[Segment, ...] = ()
    trimmed: int = 0

    @property
    def written(self) -> int:
        """The last position that is in a segment."""
        return self.segments[-1].last if self.segments else 0


def archive_key(stream: str) -> str:
    """`p03` -> `{p03}:log:archive`, in the slot of the stream."""
    return f"{key_of(stream)}:archive"


def holds_key(stream: str) -> str:
    """`p03` -> `{p03}:log:holders`, in the slot of the stream."""
    return f"{key_of(stream)}:holders"


def notes_of(client: Client, stream: str) -> Notes:
    """The notes on a stream."""
    with answering():
        fields = cast("dict[bytes, bytes]", client.hgetall(archive_key(stream)))
    segments = [msgspec.json.decode(data, type=Segment) for field, data in fields.items() if field.startswith(_SEGMENT)]
    segments.sort(key=lambda segment: segment.first)
    return Notes(tuple(segments), int(fields.get(b"trimmed", 0)))


def note(client: Client, segment: Segment) -> bool:
    """Add a segment directly behind the last one; false if another process has added one there."""
    field = _SEGMENT + b"%012d" % segment.last
    arguments = (segment.first, segment.last, field, canonical.encode(segment))
    with answering():
        return bool(client.eval(_NOTE, 1, archive_key(segment.stream), *cast("tuple[Any, ...]", arguments)))


def trim(client: Client, stream: str, *, expected: int, upto: int) -> str:
    """Remove entries up to a position from the stream, if it is trimmed to `expected` and no registered holder needs them.

    Returns `TRIMMED`, `MOVED` if another process has trimmed the stream, or the name of a holder that needs the entries.
    """
    keys = (key_of(stream), archive_key(stream), holds_key(stream))
    with answering():
        answer = cast("bytes", client.eval(_TRIM, len(keys), *keys, *cast("tuple[Any, ...]", (expected, upto))))
    return answer.decode()


def location_of(client: Client) -> str | None:
    """The URL of the archive; `None` if nothing was archived yet."""
    with answering():
        url = cast("bytes | None", client.hget(archive_key(name(FLEET)), "url"))
    return None if url is None else url.decode()


def set_location(client: Client, url: str, initialisation: LogInitialised) -> None:
    """Record where the archive is, with a copy of the log's first event, which may be archived later."""
    record = {"url": url, "epoch": initialisation.epoch, "partitions": str(initialisation.partitions)}
    with answering():
        client.hset(archive_key(name(FLEET)), mapping=cast("dict[Any, Any]", record))


def initialisation_of(client: Client) -> LogInitialised | None:
    """The copy of the log's first event; `None` if nothing was archived yet."""
    with answering():
        epoch, partitions = cast("list[bytes | None]", client.hmget(archive_key(name(FLEET)), ["epoch", "partitions"]))
    return None if epoch is None or partitions is None else LogInitialised(epoch.decode(), int(partitions))


def hold(client: Client, stream: str, holder: str, position: int) -> None:
    """Record that a holder is past a position of a stream, and needs the entries after it.

    A holder that needs every entry registers at 0 first. The script that trims reads the positions itself.
    """
    assert not holder.startswith("="), "answers of trim.lua start with ="
    with answering():
        client.hset(holds_key(stream), holder, str(position))


def registered_holds(client: Client, stream: str) -> Mapping[str, int]:
    """The position of each holder that recorded one, such as the sealer from its first round on; a `RetentionHold`."""
    with answering():
        holders = cast("Mapping[bytes, bytes]", client.hgetall(holds_key(stream)))
    return {holder.decode(): int(position) for holder, position in holders.items()}


def unsealed_hold(client: Client, stream: str) -> Mapping[str, int]:
    """A `RetentionHold` of every entry until a sealer has registered: no entry leaves Redis unsealed, even if no sealer ever ran."""
    return {} if SEALER in registered_holds(client, stream) else {SEALER: 0}
