"""`twinfold size`: the bytes that a fleet takes in Redis and in the archive, by what they are for."""

import contextlib
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
import typer
from redis.cluster import RedisCluster

from events.log.archive.notes import notes_of
from events.log.connect import Client, answering
from events.log.entries import number_of
from events.log.keys import FLEET, key, name
from events.log.log_factory import open_log
from events.member_names import camel_json
from events.number_text import counted
from events.redis_cluster import keys_like
from events.rich_console import console
from services.cli.client import AsJson, show_json, table
from services.cli.commands import command, flag
from services.cli.flags import LogSettings

SAMPLES_DEFAULT = 200
KINDS = {
    "log": "events",
    "subjects": "version and document of each device, module and deployment",
    "projections": "assignments, status sets, and what else workers computed",
    "index": "properties that conditions use",
    "assignments": "assignment changes",
    "secrets": "sealed secrets",
    "commands": "ids of commands, remembered for 24 hours",
    "other": "everything else: positions, leases, webhooks, seals, idempotency keys",
    "archive": "files of events and assignment changes",
}
"""What bytes are for, with the texts of the table. All but `archive` are in Redis."""

_KINDS_OF_KEYS = {what: what for what in ("log", "subjects", "assignments", "secrets", "commands")} | {
    "assignments:kept": "assignments",
    "commands:times": "commands",
}
_BATCH = 500
_KEY = re.compile(r"\{(fleet|p[0-9]+)\}:(.+)", re.DOTALL)


class StreamSize(msgspec.Struct, frozen=True):
    """Bytes of a partition, or of the fleet's stream, by kind; `devices` are those registered in the partition."""

    stream: str
    devices: int
    bytes: dict[str, int]


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


def sizes_of(client: Client, streams: Sequence[int], samples: int) -> Iterator[StreamSize]:
    """The size of each stream; Redis measures `samples` entries of a key, or all for 0.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    used_by_stream = {stream: dict.fromkeys(KINDS, 0) for stream in streams}
    with answering():
        names = (redis_key.decode(errors="replace") for redis_key in keys_like(client, "*"))
        all_places = ((redis_key, *_place(redis_key)) for redis_key in names)
        places_left = (place for place in all_places if place[1] in used_by_stream)
        while places := list(itertools.islice(places_left, _BATCH)):
            for (_, stream, kind), count in zip(
                places, _used(client, [redis_key for redis_key, _, _ in places], samples), strict=True
            ):
                # None: the key expired after the scan.
                used_by_stream[stream][kind] += count or 0
    for stream, used in used_by_stream.items():
        with answering():
            devices = 0 if stream == FLEET else client.hlen(key(stream, "projection:ordinals"))
        streams_of_files = (name(stream), *(() if stream == FLEET else (f"{name(stream)}:assignments",)))
        for stream_of_files in streams_of_files:
            used["archive"] += sum(segment.bytes for segment in notes_of(client, stream_of_files).segments)
        yield StreamSize(name(stream), devices, used)


def _used(client: Client, redis_keys: Sequence[str], samples: int) -> list[int | None]:
    is_pipelined = not isinstance(client, RedisCluster)
    pipe: Any = client.pipeline(transaction=False) if is_pipelined else client
    answers = [pipe.memory_usage(redis_key, samples=samples) for redis_key in redis_keys]
    return list(pipe.execute()) if is_pipelined else answers


def _place(redis_key: str) -> tuple[int, str]:
    """The stream and the kind of a key; keys of no stream, such as those of RQ's queue, are other ones of the fleet."""
    match = _KEY.fullmatch(redis_key)
    if match is None:
        return FLEET, "other"
    stream, what = number_of(match[1]), match[2]
    if what.startswith("projection:"):
        return stream, "index" if what == "projection:index" else "projections"
    return stream, _KINDS_OF_KEYS.get(what, "other")


def _stream_number(text: str, partitions: int) -> int:
    numbers: dict[str, int] = {name(stream): stream for stream in (FLEET, *range(partitions))}
    if text not in numbers:
        raise typer.BadParameter(f"{text!r} is none; this log has {', '.join(numbers)}", param_hint="--partition")
    return numbers[text]
