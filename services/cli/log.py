"""`twinfold init` and `log`: a log in an empty Redis database, and the events of a log, one a line."""

import heapq
import itertools
import time
from collections.abc import Iterator
from typing import Annotated

import msgspec
import typer

from events import canonical
from events.device.times import time_text
from events.envelope import Envelope
from events.log import keys
from events.log.port import Event, Log, read_all
from events.settings import Settings, hide_password, read_settings
from events.terminal import print_json, print_lines
from services.cli.commands import From, command, flag
from services.cli.flags import AllowVolatileRedis, LogSettings, RedisUrl

FOLLOW_SECONDS = 0.2
DATA_CHARACTERS_MAX = 120


@command(example="init --partitions 16")
def init(
    *,
    partitions: Annotated[
        int, flag("Number of partitions; it cannot be changed later.", min=1, max=keys.PARTITIONS_MAX)
    ] = keys.PARTITIONS_DEFAULT,
    settings: Annotated[Settings, From(read_settings, redis_url=RedisUrl, allow_volatile_redis=AllowVolatileRedis)],
) -> None:
    """Create a log in an empty Redis database. An existing log is not changed."""
    from events.log.log_factory import initialise

    log = initialise(settings.redis_url, partitions=partitions, allow_volatile=settings.allow_volatile_redis)
    print_lines(f"log {log.epoch} with {log.partitions} partitions at {hide_password(settings.redis_url)}")


@command(example="log --follow")
def log(
    *,
    stream: Annotated[
        list[str] | None, flag("A stream: fleet, p00, p01, …; can be repeated. The default is all.")
    ] = None,
    since: Annotated[int, flag("First position to show, in each stream.", min=1)] = 1,
    limit: Annotated[int | None, flag("Maximum number of events.", min=1)] = None,
    follow: Annotated[bool, flag("Wait for new events at the end, until Ctrl-C.", "--follow", "-f")] = False,
    json: Annotated[bool, flag("One JSON object a line, with all of the data.", "--json")] = False,
    settings: LogSettings,
) -> None:
    """Show events: time, stream:position, subject, type, data, author, cause; oldest first."""
    from events.log.log_factory import open_log

    opened = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    after = dict.fromkeys(_streams(opened, stream), since - 1)
    for number, envelope in itertools.islice(_events(opened, after, follow=follow), limit):
        if json:
            print_json(as_json(number, envelope))
        else:
            print_lines(as_text(number, envelope))


def as_text(stream: int, envelope: Envelope[Event]) -> str:
    """An event of a stream as a line for people; data longer than `DATA_CHARACTERS_MAX` is shortened."""
    type_name, data = _type_and_data(envelope.event)
    data_text = canonical.encode(data).decode()
    if len(data_text) > DATA_CHARACTERS_MAX:
        data_text = data_text[: DATA_CHARACTERS_MAX - 1] + "…"
    at = time_text(envelope.at)
    cause = f" because of {envelope.cause}" if envelope.cause else ""
    location = f"{keys.name(stream)}:{envelope.position}"
    return f"{at} {location} {envelope.subject} {type_name} {data_text} by {envelope.by}{cause}"


def as_json(stream: int, envelope: Envelope[Event]) -> str:
    """An event of a stream as JSON, with the names of the fields of a stream entry, and its stream and position."""
    type_name, data = _type_and_data(envelope.event)
    return canonical.encode(
        {
            "stream": keys.name(stream),
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


def _events(opened: Log, after: dict[int, int], *, follow: bool) -> Iterator[tuple[int, Envelope[Event]]]:
    """The streams of `after` behind the positions there, merged by time: (number of the stream, event)."""

    def stored(stream: int, until: int) -> Iterator[tuple[int, Envelope[Event]]]:
        for envelope in read_all(opened, stream, after=after[stream], upto=until):
            after[stream] = envelope.position
            yield stream, envelope

    while True:
        # Of these streams alone: on a cluster, others may be on a master that is lost.
        heads = {stream: opened.head(stream) for stream in after}
        # Each stream is in the order of its times, so merging holds one event of each in memory, not the log.
        yield from heapq.merge(*(stored(stream, heads[stream]) for stream in after), key=lambda event: event[1].at)
        if not follow:
            return
        time.sleep(FOLLOW_SECONDS)
