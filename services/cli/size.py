"""`twinfold size`: the bytes that a fleet takes in Redis and in the archive, by what they are for."""

import contextlib
from typing import Annotated

import typer

from events.log.keys import FLEET, name
from events.member_names import camel_json
from events.number_text import counted
from events.rich_console import console
from services.cli.client import AsJson, show_json, table
from services.cli.commands import command, flag
from services.cli.flags import LogSettings

SAMPLES_DEFAULT = 200


@command(example="size --partition p03")
def size(
    *,
    partition: Annotated[list[str] | None, flag("fleet, p00, p01, …; can be repeated. The default is all.")] = None,
    samples: Annotated[
        int, flag("Entries of a key that Redis measures to estimate all; 0 measures each, and Redis waits.", min=0)
    ] = SAMPLES_DEFAULT,
    json: AsJson = False,
    settings: LogSettings,
) -> None:
    """Show the bytes that the fleet takes, per device and by what they are for.

    Redis is asked about each key with MEMORY USAGE, which includes what Redis itself needs for the key.
    """
    from events.log.log_factory import open_log
    from events.log.storage_size import KINDS, sizes_of

    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    chosen = [_stream_number(text, log.partitions) for text in partition or ()]
    with contextlib.closing(log.client):
        sizes = list(sizes_of(log.client, chosen or [FLEET, *range(log.partitions)], samples))
    devices = sum(stream.devices for stream in sizes)
    total = {kind: sum(stream.bytes[kind] for stream in sizes) for kind in KINDS}
    if json:
        show_json({"devices": devices, "samples": samples, "bytes": total, "streams": camel_json(sizes)})
        return
    redis = sum(total.values()) - total["archive"]
    rows = [(kind, total[kind], text) for kind, text in KINDS.items() if kind != "archive"]
    rows += [("Redis", redis, "all of the above"), ("archive", total["archive"], KINDS["archive"])]
    title = f"{counted(devices, 'device')}" + (f" in {', '.join(partition)}" if partition else "")
    headers = ("kind", "bytes", "per device", "what it is")
    cells = ((kind, f"{count:,}", _each(count, devices), text) for kind, count, text in rows)
    console().print(table(cells, *headers, right=("bytes", "per device"), title=title))


def _each(count: int, devices: int) -> str:
    return f"{count / devices:,.0f}" if devices else "-"


def _stream_number(text: str, partitions: int) -> int:
    numbers: dict[str, int] = {name(stream): stream for stream in (FLEET, *range(partitions))}
    if text not in numbers:
        raise typer.BadParameter(f"{text!r} is none; this log has {', '.join(numbers)}", param_hint="--partition")
    return numbers[text]
