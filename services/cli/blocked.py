"""`twinfold blocked`: partitions that stopped at a fact, what stands there, and the decision to go on."""

import time
from typing import Annotated

import msgspec
import typer
from redis import Redis

from events.backup.mending import damaged, mend
from events.log.keys import FLEET
from events.log.opening import open_log
from events.log.redis import RedisLog
from events.log.wake import Waker
from events.producer.producer import Producer
from events.settings import Settings
from events.terminal import say
from events.view_store.redis import RedisViewStore
from events.view_store.stopped import Details, Stop, details, stops
from events.wording import counted, iso_text
from services.cli.client import AsJson, show_json
from services.cli.exits import StillBlocked
from services.cli.flags import AllowVolatileRedis, By, DataDir, RedisUrl, author
from services.cli.log_place import log_settings

_LOOK_SECONDS = 0.1
_WAIT_SECONDS = 60.0

app = typer.Typer(
    invoke_without_command=True,
    help="Partitions that are stopped at a fact they cannot fold: show them, and decide.",
)

QueueUrl = Annotated[str | None, typer.Option(help="Where RQ's queue is; the same server if not given.")]
Reason = Annotated[str, typer.Option(help="Why; recorded in the log.")]
PlaceName = Annotated[str, typer.Argument(help="Where it stopped, as in p03:17 or fleet:4.")]


@app.callback()
def blocked(
    context: typer.Context,
    *,
    redis_url: RedisUrl = None,
    data: DataDir = None,
    queue_url: QueueUrl = None,
    leave_out: Annotated[
        str | None, typer.Option(help="Go on without this fact, as in p03:17; short for resolve --leave-out.")
    ] = None,
    reason: Reason = "",
    by: By = None,
    json: AsJson = False,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """List the partitions that are stopped at a fact they cannot fold; with --leave-out, let them go on without it.

    Example: twinfold blocked --leave-out p03:17 --reason "written by a faulty script"
    """
    if context.invoked_subcommand is not None:
        return
    settings = log_settings(
        data_dir=data, redis_url=redis_url, queue_url=queue_url, allow_volatile_redis=allow_volatile_redis
    )
    log, views = _open(settings)
    found = stops(log, views)
    if leave_out is not None:
        stop = _at(found, leave_out)
        _producer(log, settings, by).leave_out(stop.stream, stop.position, reason=reason)
        say(f"{leave_out} is left out from now on")
        return
    if json:
        show_json(msgspec.to_builtins(found))
        return
    for one in found:
        hint = "" if one.decidable else " (restore the missing facts; it goes on by itself)"
        for partition, waiting in sorted(one.waiting.items()):
            behind = f", {counted(waiting, 'fact')} wait{'s' if waiting == 1 else ''}"
            say(f"{partition} stopped at {one.place} since {iso_text(one.since)}{behind}: {one.error}{hint}")
    if not found:
        say("no partition is stopped")


@app.command()
def show(
    place: PlaceName,
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
    log, views = _open(settings)
    found = details(log.client, views, _at(stops(log, views), place))
    if json:
        show_json(msgspec.to_builtins(found))
        return
    for line in _lines(found):
        say(line)


@app.command()
def resolve(
    place: PlaceName,
    *,
    leave_out: Annotated[bool, typer.Option("--leave-out", help="Go on without it, for good.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Try it again, as after an upgrade.")] = False,
    reason: Reason = "",
    by: By = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until nobody is stopped there any more.")] = False,
    redis_url: RedisUrl = None,
    data: DataDir = None,
    queue_url: QueueUrl = None,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Record a decision on a fact that a partition is stopped at. It stays in the log, and so does the decision.

    Example: twinfold blocked resolve p03:17 --leave-out --reason "written by a faulty script" --wait
    """
    if leave_out == retry:
        raise typer.BadParameter("give one of --leave-out and --retry")
    settings = log_settings(
        data_dir=data, redis_url=redis_url, queue_url=queue_url, allow_volatile_redis=allow_volatile_redis
    )
    log, views = _open(settings)
    stop = _at(stops(log, views), place)
    producer = _producer(log, settings, by)
    decide = producer.leave_out if leave_out else producer.look_again
    decide(stop.stream, stop.position, reason=reason)
    say(f"{place} is left out from now on" if leave_out else f"{place} is tried again")
    if wait:
        _wait(log, views, stop, again=retry)


@app.command()
def documents(
    *,
    mend_them: Annotated[bool, typer.Option("--mend", help="Put what the facts give in their place.")] = False,
    redis_url: RedisUrl = None,
    data: DataDir = None,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Find documents beside the log that are not what the facts make of them; with --mend, put them right.

    A damaged one stops nobody but its own subject, whose reads and writes fail. All facts are folded for this.

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
            say(f"{one.place} is not what its facts make of it" + ("; mended" if done else ""))
    if not found:
        say("every document is what its facts make of it")
    if left:
        raise typer.Exit(1)


def _wait(log: RedisLog, views: RedisViewStore, stop: Stop, *, again: bool) -> None:
    until = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < until:
        there = next((one for one in stops(log, views) if one.place == stop.place), None)
        if there is None:
            say(f"{', '.join(sorted(stop.waiting))} went on")
            return
        if again and there.since > stop.since:
            raise StillBlocked(stop.place, there.error)
        time.sleep(_LOOK_SECONDS)
    raise StillBlocked(stop.place, f"nobody went on within {_WAIT_SECONDS:.0f} s; are workers running?")


def _open(settings: Settings) -> tuple[RedisLog, RedisViewStore]:
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    return log, RedisViewStore(log.client)


def _producer(log: RedisLog, settings: Settings, by: str | None) -> Producer:
    waker = Waker(Redis.from_url(settings.effective_queue_url), partitions=log.partitions)
    return Producer(log, by=author(log, settings, by), waker=waker)


def _at(found: tuple[Stop, ...], place: str) -> Stop:
    by_place = {one.place: one for one in found}
    if place not in by_place:
        known = ", ".join(sorted(by_place)) or "nothing"
        raise typer.BadParameter(f"nobody is stopped at {place}; stopped at: {known}")
    return by_place[place]


def _lines(found: Details) -> list[str]:
    stop, entry = found.stop, found.entry
    partitions = ", ".join(sorted(stop.waiting))
    lines = [
        f"{stop.place} stops {partitions} since {iso_text(stop.since)}",
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
        f"waiting   {counted(sum(stop.waiting.values()), 'fact')}; {counted(found.devices, 'device')} get no new decisions"
    )
    if stop.stream != FLEET:
        more = (
            f" and {found.subjects_total - len(found.subjects)} more"
            if found.subjects_total > len(found.subjects)
            else ""
        )
        lines.append(f"behind it {', '.join(found.subjects) or 'nobody'}{more}")
    for choice in found.choices:
        flag = {"leaveOut": "--leave-out", "retry": "--retry"}.get(choice.decision or "", "")
        lines.append(f"you can   {choice.what}" + (f" ({flag})" if flag else ""))
        lines.append(f"          {choice.follows}")
    return lines
