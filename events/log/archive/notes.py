"""What Redis knows of the archive: where it is, which segments each stream has, and how far it is trimmed."""

from importlib.resources import files
from typing import Any, cast

import msgspec

from events import canonical
from events.log.archive.manifest import Segment
from events.log.connect import Client, answering
from events.log.entries import key_of
from events.log.keys import FLEET, name

_SEGMENT = b"segment:"
_NOTE = files("events.log.archive").joinpath("note.lua").read_text(encoding="utf-8")
TRIMMED, MOVED = "=trimmed", "=moved"
_TRIM = files("events.log.archive").joinpath("trim.lua").read_text(encoding="utf-8")


class Notes(msgspec.Struct, frozen=True):
    """Of one stream: its segments in order, and the position up to which they alone have its entries."""

    segments: tuple[Segment, ...] = ()
    trimmed: int = 0

    @property
    def written(self) -> int:
        """The last position that a segment has."""
        return self.segments[-1].last if self.segments else 0


class Made(msgspec.Struct, frozen=True):
    """What the log's first event says, for when that is archived."""

    epoch: str
    partitions: int


def archive_key(stream: str) -> str:
    """`p03` -> `{p03}:log:archive`, in the slot of the stream."""
    return f"{key_of(stream)}:archive"


def holds_key(stream: str) -> str:
    """`p03` -> `{p03}:log:holders`, in the slot of the stream."""
    return f"{key_of(stream)}:holders"


def notes_of(client: Client, stream: str) -> Notes:
    """What is known of a stream.

    Raises:
        LogUnavailable: Redis does not answer.
    """
    with answering():
        found = cast("dict[bytes, bytes]", client.hgetall(archive_key(stream)))
    segments = [msgspec.json.decode(data, type=Segment) for field, data in found.items() if field.startswith(_SEGMENT)]
    segments.sort(key=lambda one: one.first)
    return Notes(tuple(segments), int(found.get(b"trimmed", 0)))


def note(client: Client, segment: Segment) -> bool:
    """Add a segment behind the ones that are known; false where another one was faster.

    Raises:
        LogUnavailable: Redis does not answer.
    """
    field = _SEGMENT + b"%012d" % segment.last
    arguments = (segment.first, segment.last, field, canonical.encode(segment))
    with answering():
        return bool(client.eval(_NOTE, 1, archive_key(segment.stream), *cast("tuple[Any, ...]", arguments)))


def trim(client: Client, stream: str, *, expected: int, upto: int) -> str:
    """Take entries up to a position out of the stream, if it is trimmed to `expected` and no registered holder needs them.

    Answers `TRIMMED`, `MOVED` where another one was faster, or the name of the holder in the way.

    Raises:
        LogUnavailable: Redis does not answer.
    """
    keys = (key_of(stream), archive_key(stream), holds_key(stream))
    with answering():
        answer = cast("bytes", client.eval(_TRIM, len(keys), *keys, *cast("tuple[Any, ...]", (expected, upto))))
    return answer.decode()


def location_of(client: Client) -> str | None:
    """The URL of the archive; `None` where nothing was archived yet.

    Raises:
        LogUnavailable: Redis does not answer.
    """
    with answering():
        url = cast("bytes | None", client.hget(archive_key(name(FLEET)), "url"))
    return None if url is None else url.decode()


def set_location(client: Client, url: str, made: Made) -> None:
    """Say where the archive is, and what the log's first event says.

    Raises:
        LogUnavailable: Redis does not answer.
    """
    with answering():
        client.hset(
            archive_key(name(FLEET)),
            mapping={"url": url, "epoch": made.epoch, "partitions": str(made.partitions)},
        )


def made_of(client: Client) -> Made | None:
    """What the log's first event says; `None` where nothing was archived yet.

    Raises:
        LogUnavailable: Redis does not answer.
    """
    with answering():
        epoch, partitions = cast("list[bytes | None]", client.hmget(archive_key(name(FLEET)), ["epoch", "partitions"]))
    return None if epoch is None or partitions is None else Made(epoch.decode(), int(partitions))
