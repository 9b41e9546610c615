"""`twinfold blocked`: partitions that stopped at an event, the event, and the decision to continue."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from events.log.keys import FLEET
from events.number_text import counted, iso_text
from events.settings import Settings
from events.terminal import print_lines
from services.cli.client import AsJson, show_json
from services.cli.commands import CommandGroup, argument, command, flag
from services.cli.exits import StillBlocked
from services.cli.flags import By, LogSettings, QueueFlags, Reason, author, log_settings

if TYPE_CHECKING:
    from events.log.redis import RedisLog
    from events.producer.producer import Producer
    from events.projection_store.redis import RedisProjectionStore
    from events.projection_store.stopped import Stop, StopDetails

_POLL_SECONDS = 0.1
_WAIT_SECONDS = 60.0

app = CommandGroup(
    invoke_without_command=True, help="Partitions that are stopped at an event they cannot apply: show them and decide."
)

LocationName = Annotated[str, argument("Position of the event, as in p03:17 or fleet:4.")]


@app.callback()
@command(example='blocked --skip p03:17 --reason "written by a faulty script"')
def blocked(
    context: typer.Context,
    *,
    flags: QueueFlags,
    skip: Annotated[str | None, flag("Skip this event, as in p03:17; short for resolve --skip.")] = None,
    reason: Reason = "",
    by: By = None,
    json: AsJson = False,
) -> None:
    """List the partitions that are stopped at an event they cannot apply; with --skip, skip that event."""
    from events.projection_store.stopped import stops

    if context.invoked_subcommand is not None:
        return
    settings = log_settings(**flags)
    log, projections = _open(settings)
    all_stops = stops(log, projections)
    if skip is not None:
        stop = _at(all_stops, skip)
        _producer(log, settings, by).skip(stop.stream, stop.position, reason=reason)
        print_lines(f"{skip} is skipped from now on")
        return
    if json:
        show_json(msgspec.to_builtins(all_stops))
        return
    for entry in all_stops:
        hint = "" if entry.decidable else " (restore the missing events; it then continues by itself)"
        for partition, waiting in sorted(entry.waiting.items()):
            behind = f", {counted(waiting, 'event')} wait{'s' if waiting == 1 else ''}"
            at = f"{entry.location} since {iso_text(entry.since)}"
            print_lines(f"{partition} stopped at {at}{behind}: {entry.error}{hint}")
    if not all_stops:
        print_lines("no partition is stopped")


@app.command(example="blocked show p03:17")
def show(location: LocationName, *, json: AsJson = False, settings: LogSettings) -> None:
    """Show the event that stopped a partition, its author, what waits behind it, and what you can do."""
    from events.projection_store.stopped import details, stops

    log, projections = _open(settings)
    stop_details = details(log.client, projections, _at(stops(log, projections), location))
    if json:
        show_json(msgspec.to_builtins(stop_details))
    else:
        print_lines(*_lines(stop_details))


@app.command(example='blocked resolve p03:17 --skip --reason "written by a faulty script" --wait')
def resolve(
    location: LocationName,
    *,
    skip: Annotated[bool, flag("Skip the event for good.", "--skip")] = False,
    retry: Annotated[bool, flag("Apply the event again, for example after an upgrade.", "--retry")] = False,
    reason: Reason = "",
    by: By = None,
    wait: Annotated[bool, flag("Wait until no partition is stopped there.", "--wait")] = False,
    flags: QueueFlags,
) -> None:
    """Decide on an event that a partition is stopped at. The event and the decision both stay in the log."""
    from events.projection_store.stopped import stops

    if skip == retry:
        raise typer.BadParameter("give either --skip or --retry")
    settings = log_settings(**flags)
    log, projections = _open(settings)
    stop = _at(stops(log, projections), location)
    producer = _producer(log, settings, by)
    (producer.skip if skip else producer.retry)(stop.stream, stop.position, reason=reason)
    print_lines(f"{location} is skipped from now on" if skip else f"{location} is retried")
    if wait:
        _wait(log, projections, stop, again=retry)


@app.command(example="blocked documents --mend")
def documents(
    *,
    replace: Annotated[bool, flag("Replace damaged documents by what the events give.", "--mend")] = False,
    settings: LogSettings,
) -> None:
    """Find stored documents that differ from what their events give; with --mend, replace them.

    Reads and writes of a damaged document fail; all other subjects work. The command replays all events.
    """
    from events.backup.document_repair import damaged_documents, repair

    log, _ = _open(settings)
    damaged_count = left = 0
    for stream in (FLEET, *range(log.partitions)):
        for document in damaged_documents(log, stream):
            damaged_count += 1
            replaced = replace and repair(log, document)
            left += not replaced
            print_lines(f"{document.location} differs from what its events give" + ("; replaced" if replaced else ""))
    if not damaged_count:
        print_lines("every document is what its events give")
    if left:
        raise typer.Exit(1)


def _wait(log: "RedisLog", projections: "RedisProjectionStore", stop: "Stop", *, again: bool) -> None:
    from events.projection_store.stopped import stops

    until = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < until:
        current = {current.location: current for current in stops(log, projections)}.get(stop.location)
        if current is None:
            print_lines(f"{', '.join(sorted(stop.waiting))} continued")
            return
        # A later time means that the event was applied again, and failed again.
        if again and current.since > stop.since:
            raise StillBlocked(stop.location, current.error)
        time.sleep(_POLL_SECONDS)
    raise StillBlocked(stop.location, f"no partition continued within {_WAIT_SECONDS:.0f} s; are workers running?")


def _open(settings: Settings) -> "tuple[RedisLog, RedisProjectionStore]":
    from events.log.log_factory import open_log
    from events.projection_store.redis import RedisProjectionStore

    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    return log, RedisProjectionStore(log.client)


def _producer(log: "RedisLog", settings: Settings, by: str | None) -> "Producer":
    from redis import Redis

    from events.log.wake import Waker
    from events.producer.producer import Producer

    waker = Waker(Redis.from_url(settings.effective_queue_url))
    return Producer(log, by=author(log, settings, by), waker=waker)


def _at(all_stops: "tuple[Stop, ...]", location: str) -> "Stop":
    by_location = {stop.location: stop for stop in all_stops}
    if location not in by_location:
        locations = ", ".join(sorted(by_location)) or "none"
        raise typer.BadParameter(f"no partition is stopped at {location}; blocked positions: {locations}")
    return by_location[location]


def _lines(stop_details: "StopDetails") -> Iterator[str]:
    stop, entry = stop_details.stop, stop_details.entry
    yield f"{stop.location} stops {', '.join(sorted(stop.waiting))} since {iso_text(stop.since)}"
    yield f"error     {stop.error}"
    if entry is None:
        yield "entry     missing"
    else:
        yield f"entry     {entry.type} of {entry.subject}, version {entry.version}"
        yield f"written   {iso_text(entry.at)} by {entry.by}" + (f" because of {entry.cause}" if entry.cause else "")
        data = entry.data if isinstance(entry.data, str) else msgspec.json.encode(entry.data).decode()
        yield f"data      {data}"
    waiting = counted(sum(stop.waiting.values()), "event")
    yield f"waiting   {waiting}; {counted(stop_details.devices, 'device')} get no new decisions"
    if stop.stream != FLEET:
        hidden = stop_details.subjects_total - len(stop_details.subjects)
        more = f" and {hidden} more" if hidden > 0 else ""
        yield f"behind it {', '.join(stop_details.subjects) or 'nothing'}{more}"
    for choice in stop_details.choices:
        flag = f" (--{choice.decision})" if choice.decision in {"skip", "retry"} else ""
        yield f"you can   {choice.what}{flag}"
        yield f"          {choice.follows}"
