"""`twinfold blocked`: partitions that stopped at an event, what stands there, and the decision to go on."""

import time
from typing import Annotated

import msgspec
import typer
from redis import Redis

from events.backup.document_repair import damaged, mend
from events.log.keys import FLEET
from events.log.log_factory import open_log
from events.log.redis import RedisLog
from events.log.wake import Waker
from events.number_text import counted, iso_text
from events.producer.producer import Producer
from events.projection_store.redis import RedisProjectionStore
from events.projection_store.stopped import Stop, StopDetails, details, stops
from events.settings import Settings
from events.terminal import print_lines
from services.cli.client import AsJson, show_json
from services.cli.exits import StillBlocked
from services.cli.flags import AllowVolatileRedis, By, DataDir, RedisUrl, author
from services.cli.log_location import log_settings

_POLL_SECONDS = 0.1
_WAIT_SECONDS = 60.0

app = typer.Typer(
    invoke_without_command=True,
    help="Partitions that are stopped at an event they cannot apply: show them, and decide.",
)

QueueUrl = Annotated[str | None, typer.Option(help="Where RQ's queue is; the same server if not given.")]
Reason = Annotated[str, typer.Option(help="Why; recorded in the log.")]
LocationName = Annotated[str, typer.Argument(help="Where it stopped, as in p03:17 or fleet:4.")]


@app.callback()
def blocked(
    context: typer.Context,
    *,
    redis_url: RedisUrl = None,
    data: DataDir = None,
    queue_url: QueueUrl = None,
    skip: Annotated[
        str | None, typer.Option(help="Go on without this event, as in p03:17; short for resolve --skip.")
    ] = None,
    reason: Reason = "",
    by: By = None,
    json: AsJson = False,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """List the partitions that are stopped at an event they cannot apply; with --skip, let them go on without it.

    Example: twinfold blocked --skip p03:17 --reason "written by a faulty script"
    """
    if context.invoked_subcommand is not None:
        return
    settings = log_settings(
        data_dir=data, redis_url=redis_url, queue_url=queue_url, allow_volatile_redis=allow_volatile_redis
    )
    log, projections = _open(settings)
    found = stops(log, projections)
    if skip is not None:
        stop = _at(found, skip)
        _producer(log, settings, by).skip(stop.stream, stop.position, reason=reason)
        print_lines(f"{skip} is left out from now on")
        return
    if json:
        show_json(msgspec.to_builtins(found))
        return
    for one in found:
        hint = "" if one.decidable else " (restore the missing events; it goes on by itself)"
        for partition, waiting in sorted(one.waiting.items()):
            behind = f", {counted(waiting, 'event')} wait{'s' if waiting == 1 else ''}"
            print_lines(f"{partition} stopped at {one.location} since {iso_text(one.since)}{behind}: {one.error}{hint}")
    if not found:
        print_lines("no partition is stopped")


@app.command()
def show(
    location: LocationName,
    *,
    redis_url: RedisUrl = None,
    data: DataDir = None,
    json: AsJson = False,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Show what stands where a partition stopped, who wrote it, who waits behind it, and what can be done.

    Example: twinfold blocked show p03:17
    """
    settings = log_settings(data_dir=data, redis_url=redis_url, allow_volatile_redis=allow_volatile_redis)
    log, projections = _open(settings)
    found = details(log.client, projections, _at(stops(log, projections), location))
    if json:
        show_json(msgspec.to_builtins(found))
        return
    for line in _lines(found):
        print_lines(line)


@app.command()
def resolve(
    location: LocationName,
    *,
    skip: Annotated[bool, typer.Option("--skip", help="Go on without it, for good.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Try it again, as after an upgrade.")] = False,
    reason: Reason = "",
    by: By = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until nobody is stopped there any more.")] = False,
    redis_url: RedisUrl = None,
    data: DataDir = None,
    queue_url: QueueUrl = None,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Record a decision on an event that a partition is stopped at. It stays in the log, and so does the decision.

    Example: twinfold blocked resolve p03:17 --skip --reason "written by a faulty script" --wait
    """
    if skip == retry:
        raise typer.BadParameter("give one of --skip and --retry")
    settings = log_settings(
        data_dir=data, redis_url=redis_url, queue_url=queue_url, allow_volatile_redis=allow_volatile_redis
    )
    log, projections = _open(settings)
    stop = _at(stops(log, projections), location)
    producer = _producer(log, settings, by)
    decide = producer.skip if skip else producer.retry
    decide(stop.stream, stop.position, reason=reason)
    print_lines(f"{location} is left out from now on" if skip else f"{location} is tried again")
    if wait:
        _wait(log, projections, stop, again=retry)


@app.command()
def documents(
    *,
    mend_them: Annotated[bool, typer.Option("--mend", help="Put what the events give in their place.")] = False,
    redis_url: RedisUrl = None,
    data: DataDir = None,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Find documents beside the log that are not what the events make of them; with --mend, put them right.

    A damaged one stops nobody but its own subject, whose reads and writes fail. All events are applied for this.

    Example: twinfold blocked documents --mend
    """
    settings = log_settings(data_dir=data, redis_url=redis_url, allow_volatile_redis=allow_volatile_redis)
    log, _ = _open(settings)
    found = left = 0
    for stream in (FLEET, *range(log.partitions)):
        for one in damaged(log, stream):
            found += 1
            done = mend_them and mend(log, one)
            left += not done
            print_lines(f"{one.location} is not what its events make of it" + ("; mended" if done else ""))
    if not found:
        print_lines("every document is what its events make of it")
    if left:
        raise typer.Exit(1)


def _wait(log: RedisLog, projections: RedisProjectionStore, stop: Stop, *, again: bool) -> None:
    until = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < until:
        there = next((one for one in stops(log, projections) if one.location == stop.location), None)
        if there is None:
            print_lines(f"{', '.join(sorted(stop.waiting))} went on")
            return
        if again and there.since > stop.since:
            raise StillBlocked(stop.location, there.error)
        time.sleep(_POLL_SECONDS)
    raise StillBlocked(stop.location, f"nobody went on within {_WAIT_SECONDS:.0f} s; are workers running?")


def _open(settings: Settings) -> tuple[RedisLog, RedisProjectionStore]:
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    return log, RedisProjectionStore(log.client)


def _producer(log: RedisLog, settings: Settings, by: str | None) -> Producer:
    waker = Waker(Redis.from_url(settings.effective_queue_url), partitions=log.partitions)
    return Producer(log, by=author(log, settings, by), waker=waker)


def _at(found: tuple[Stop, ...], location: str) -> Stop:
    by_location = {one.location: one for one in found}
    if location not in by_location:
        known = ", ".join(sorted(by_location)) or "nothing"
        raise typer.BadParameter(f"nobody is stopped at {location}; stopped at: {known}")
    return by_location[location]


def _lines(found: StopDetails) -> list[str]:
    stop, entry = found.stop, found.entry
    partitions = ", ".join(sorted(stop.waiting))
    lines = [
        f"{stop.location} stops {partitions} since {iso_text(stop.since)}",
        f"error     {stop.error}",
    ]
    if entry is None:
        lines.append("entry     there is none")
    else:
        data = entry.data if isinstance(entry.data, str) else msgspec.json.encode(entry.data).decode()
        lines += [
            f"entry     {entry.type} of {entry.subject}, version {entry.version}",
            f"written   {iso_text(entry.at)} by {entry.by}" + (f" because of {entry.cause}" if entry.cause else ""),
            f"data      {data}",
        ]
    lines.append(
        f"waiting   {counted(sum(stop.waiting.values()), 'event')}; {counted(found.devices, 'device')} get no new decisions"
    )
    if stop.stream != FLEET:
        more = (
            f" and {found.subjects_total - len(found.subjects)} more"
            if found.subjects_total > len(found.subjects)
            else ""
        )
        lines.append(f"behind it {', '.join(found.subjects) or 'nobody'}{more}")
    for choice in found.choices:
        flag = {"skip": "--skip", "retry": "--retry"}.get(choice.decision or "", "")
        lines.append(f"you can   {choice.what}" + (f" ({flag})" if flag else ""))
        lines.append(f"          {choice.follows}")
    return lines
