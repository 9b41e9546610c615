"""`twinfold replay`: the history replayed from events alone, and held against all that is stored."""

import os
import sys
from typing import Annotated, NoReturn

import msgspec
import typer

from events.log.entries import number_of
from events.log.keys import FLEET, name
from events.settings import Settings, environment_of
from services.cli.flags import AllowVolatileRedis, DataDir, RedisUrl, point_in_time
from services.cli.log_location import log_settings

Partition = Annotated[
    list[str] | None, typer.Option("--partition", help="p00, p01, … or fleet; again for more. All if not given.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, max=64, help="How many processes apply; one for each processor if not given.")
]


def replay(
    *,
    partition: Partition = None,
    upto: Annotated[
        str | None, typer.Option(help="A time, as in 2026-01-31T12:00:00Z, or positions, as in fleet:17,p03:120.")
    ] = None,
    workers: Workers = None,
    archive: Annotated[
        str | None, typer.Option(help="Apply what an archive alone has: a directory, or a URL that fsspec knows.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON, for programs.")] = False,
    redis_url: RedisUrl = None,
    data: DataDir = None,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Apply the log again and compare every assignment change, projection, twin and document with what is stored, bit for bit.

    Exits with 0 where nothing differs, 1 where something does, 2 where it cannot be done.

    Example: twinfold replay --workers 4
    """
    settings = log_settings(data_dir=data, redis_url=redis_url, allow_volatile_redis=allow_volatile_redis)
    request = {
        "streams": [stream_named(text) for text in partition or []],
        **({} if upto is None else _end(upto)),
        "archive": archive or "",
        "workers": workers or 0,
        "json": json,
    }
    become_replay(request, settings)


def become_replay(request: dict[str, object], settings: Settings) -> NoReturn:
    """Replace this process by the replay's: services and workers know each other by name only."""
    command = [sys.executable, "-m", "workers.replay", msgspec.json.encode(request).decode()]
    os.execve(sys.executable, command, {**os.environ, **environment_of(settings)})  # noqa: S606 - our own module


def stream_named(text: str) -> int:
    """The number of a stream that somebody names, the fleet's or a partition's."""
    try:
        number = number_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if ":" in text:
        raise typer.BadParameter(f"{text}: assignment changes are compared with the partition they are of")
    return number


def _end(text: str) -> dict[str, object]:
    """By stream, the last position that counts; or a time."""
    try:
        positions = {}
        for part in text.split(","):
            stream, _, position = part.rpartition(":")
            positions[str(stream_named(stream.strip()))] = int(position)
    except (ValueError, typer.BadParameter):
        try:
            return {"until": point_in_time(text)}
        except typer.BadParameter:
            raise typer.BadParameter(
                f"{text!r} is neither a time, as in 2026-01-31T12:00:00Z,"
                f" nor positions, as in {name(FLEET)}:17,{name(3)}:120"
            ) from None
    return {"upto": positions}
