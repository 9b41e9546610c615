"""`twinfold init` and `log`: a log in an empty Redis database, and the events of a log, one a line."""

import heapq
import itertools
import time
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec
import typer

from events import canonical
from events.device.times import time_text
from events.envelope import Envelope
from events.log import keys
from events.log.log_factory import initialise, open_log
from events.log.port import Event, Log, read_all
from events.settings import Settings, hide_password, read_settings
from events.terminal import print_json, print_lines
from services.cli.commands import From, command
from services.cli.flags import AllowVolatileRedis, LogSettings, RedisUrl

FOLLOW_SECONDS = 0.2
DATA_CHARACTERS_MAX = 120


class LogLine(msgspec.Struct, frozen=True):
    """An event and the number of its stream."""

    stream: int
    envelope: Envelope[Event]


@command(example="twinfold init --partitions 16")
def init(
    *,
    partitions: Annotated[
        int, typer.Option(min=1, max=keys.PARTITIONS_MAX, help="Number of partitions; it cannot be changed later.")
    ] = keys.PARTITIONS_DEFAULT,
    settings: Annotated[Settings, From(read_settings, redis_url=RedisUrl, allow_volatile_redis=AllowVolatileRedis)],
) -> None:
    """Create a log in an empty Redis database. An existing log is not changed."""
    log = initialise(settings.redis_url, partitions=partitions, allow_volatile=settings.allow_volatile_redis)
    print_lines(f"log {log.epoch} with {log.partitions} partitions at {hide_password(settings.redis_url)}")


@command(example="twinfold log --follow")
def log(
    *,
    stream: Annotated[
        list[str] | None, typer.Option(help="A stream: fleet, p00, p01, …; can be repeated. The default is all.")
    ] = None,
    since: Annotated[int, typer.Option(min=1, help="First position to show, in each stream.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of events.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for new events at the end, until Ctrl-C.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line, with all of the data.")] = False,
    settings: LogSettings,
) -> None:
    """Show events: time, stream:position, subject, type, data, author, cause; oldest first."""
    opened = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    after = dict.fromkeys(_streams(opened, stream), since - 1)
    lines = _follow(opened, after) if follow else _stored(opened, after)
    for line in itertools.islice(lines, limit):
        if json:
            print_json(as_json(line))
        else:
            print_lines(as_text(line))


def as_text(line: LogLine) -> str:
    """An event as a line for people; data longer than `DATA_CHARACTERS_MAX` is shortened."""
    envelope = line.envelope
    type_name, data = _type_and_data(envelope.event)
    data_text = canonical.encode(data).decode()
    if len(data_text) > DATA_CHARACTERS_MAX:
        data_text = data_text[: DATA_CHARACTERS_MAX - 1] + "…"
    at = time_text(envelope.at)
    cause = f" because of {envelope.cause}" if envelope.cause else ""
    location = f"{keys.name(line.stream)}:{envelope.position}"
    return f"{at} {location} {envelope.subject} {type_name} {data_text} by {envelope.by}{cause}"


def as_json(line: LogLine) -> str:
    """An event as JSON, with the names of the fields of a stream entry, and its stream and position."""
    envelope = line.envelope
    type_name, data = _type_and_data(envelope.event)
    return canonical.encode(
        {
            "stream": keys.name(line.stream),
            "position": envelope.position,
            "type": type_name,
            "subject": envelope.subject,
            "version": envelope.version,
            "at": envelope.at,
            "by": str(envelope.by),
            "cause": envelope.cause,
            "data": data,
        }
    ).decode()


def _type_and_data(event: Event) -> tuple[str, canonical.JsonObject]:
    data = msgspec.to_builtins(event)
    return data.pop("type"), data


def _streams(opened: Log, names: list[str] | None) -> list[int]:
    by_name = {keys.name(number): number for number in (keys.FLEET, *range(opened.partitions))}
    chosen = list(dict.fromkeys(names or by_name))
    for name in chosen:
        if name not in by_name:
            raise typer.BadParameter(
                f"unknown stream {name!r}; this log has fleet and {keys.name(0)} to {list(by_name)[-1]}"
            )
    return [by_name[name] for name in chosen]


def _stored(opened: Log, after: dict[int, int]) -> Iterator[LogLine]:
    """The events that are in the log now, merged by time; `after` is advanced to the last position of each stream."""
    heads = opened.heads()
    streams = [_pages(opened, stream, after, until=heads[stream]) for stream in after]
    # Each stream is in the order of its times, so merging holds one event of each in memory, not the log.
    return heapq.merge(*streams, key=lambda line: line.envelope.at)


def _pages(opened: Log, stream: int, after: dict[int, int], *, until: int) -> Iterable[LogLine]:
    for envelope in read_all(opened, stream, after=after[stream], upto=until):
        after[stream] = envelope.position
        yield LogLine(stream, envelope)


def _follow(opened: Log, after: dict[int, int]) -> Iterator[LogLine]:
    while True:
        yield from _stored(opened, after)
        time.sleep(FOLLOW_SECONDS)
