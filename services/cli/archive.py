"""`twinfold archive`: older events in Parquet files outside Redis."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from events.clock import now_ms
from events.log.errors import LogError, LogUnavailable
from events.member_names import camel_json
from events.number_text import counted, iso_text
from events.rich_console import console
from events.settings import ENV_PREFIX, Settings, hide_password
from events.terminal import complain_of, print_lines
from services.cli.client import AsJson, show_json, table
from services.cli.commands import CommandGroup, command, flag
from services.cli.exits import REFUSED, code_of
from services.cli.flags import AllowVolatileRedis, DataDir, LogSettings, RedisUrl, log_settings
from services.cli.progress import ShowProgress, progress_bar

if TYPE_CHECKING:
    from events.log.archive.mover import ArchivedStream, Mover, PlannedMove
    from events.log.redis import RedisLog

app = CommandGroup(help="Older events in Parquet files outside Redis: move, list and verify them.")


@app.callback(invoke_without_command=True)
@command(example="archive --keep-days 30 --dry-run")
def archive(
    context: typer.Context,
    *,
    redis_url: RedisUrl = None,
    data: DataDir = None,
    archive_url: Annotated[
        str | None,
        flag(
            "A directory or the URL of an object store. Another one than before moves the archive there.",
            show_default="TWINFOLD_ARCHIVE_URL",
        ),
    ] = None,
    segment_events: Annotated[int | None, flag("Number of events in a file.", min=1)] = None,
    keep_days: Annotated[
        float | None, flag("Remove older events from Redis.", min=0, show_default="TWINFOLD_ARCHIVE_KEEP_DAYS")
    ] = None,
    write_only: Annotated[bool, flag("Only write files; remove nothing from Redis.", "--write-only")] = False,
    dry_run: Annotated[bool, flag("Show what would be moved, and what keeps the rest in Redis.", "--dry-run")] = False,
    json: AsJson = False,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Write events to the archive, and remove those from Redis that are older than --keep-days and no longer needed there.

    A stream that cannot be moved is named, the others are moved, and the command exits with 1.
    """
    from events.notification.archive_mover import open_mover

    if context.invoked_subcommand is not None:
        return
    settings = log_settings(
        redis_url=redis_url,
        data_dir=data,
        archive_url=archive_url,
        archive_segment_events=segment_events,
        archive_keep_days=keep_days,
        allow_volatile_redis=allow_volatile_redis,
    )
    with _opened(settings) as log:
        mover = open_mover(log, settings)
        before_at = None if write_only else settings.archive_before_at(now_ms())
        if dry_run:
            _show_waiting(_waiting(log, mover, before_at), settings, as_json=json, trims=not write_only)
            return
        # Only the flag moves the archive. A variable can be left over in the environment of one process, and would move it
        # back and forth between two locations.
        mover.settle(may_move=archive_url is not None)
        failed = list[LogError]()
        moved = list(_move(log, mover, before_at, failed, quiet=json))
        if json:
            show_json(msgspec.to_builtins(moved))
        else:
            _show_moved(moved)
            if not failed and not any(stream.written or stream.trimmed for stream in moved):
                _show_nothing_to_do(_waiting(log, mover, before_at), settings, trims=not write_only)
    for error in failed:
        complain_of(error)
    if failed:
        # Unavailable (3) outranks refused (1): then the same command can succeed later.
        raise typer.Exit(max(map(code_of, failed)))


def _show_moved(moved: "list[ArchivedStream]") -> None:
    for done in (stream for stream in moved if stream.written or stream.trimmed):
        held = f"; the next are kept for: {done.held_by}" if done.held_by not in {"", "age", "head"} else ""
        print_lines(
            f"{done.stream}: {done.written} written in {counted(done.segments, 'file')}"
            f" ({done.bytes / 1e6:.1f} MB), {done.trimmed} removed from Redis{held}"
        )


def _show_nothing_to_do(streams: "list[PlannedMove]", settings: Settings, *, trims: bool) -> None:
    longest = max(streams, key=lambda stream: stream.head - stream.written)
    unwritten = longest.head - longest.written
    why_not_written = (
        f"a file takes {settings.archive_segment_events:,} events of one stream (--segment-events), and no stream has that"
        f" many unwritten events; {longest.stream} has the most: {unwritten:,}"
    )
    print_lines("nothing to do", f"  to write: {why_not_written if unwritten else 'every event is in a file already'}")
    if trims:
        print_lines(*(f"  to remove from Redis: {why}" for why in _why_not_trimmed(streams, settings)))


def _why_not_trimmed(streams: "list[PlannedMove]", settings: Settings) -> Iterator[str]:
    keep_days = settings.effective_archive_keep_days
    in_redis = [stream for stream in streams if stream.trimmed < stream.written]
    if math.isinf(keep_days):
        why = "is not set" if settings.archive_keep_days is None else "is inf"
        yield f"--keep-days ({ENV_PREFIX}ARCHIVE_KEEP_DAYS) {why}, so everything stays there"
        return
    if not in_redis:
        yield "all archived events are removed already"
    if young := sum(stream.held_by == "age" for stream in in_redis):
        yield f"in {counted(young, 'stream')} the next file has events younger than --keep-days {keep_days:g}"
    if newest := sum(stream.held_by == "head" for stream in in_redis):
        yield f"in {counted(newest, 'stream')} the next file has the newest entry, which stays"
    for stream in in_redis:
        if stream.held_by not in {"", "age", "head"}:
            position = stream.holders[stream.held_by]
            yield f"{stream.stream} is still needed by {stream.held_by}, which is at position {position}"


@app.command("list", example="archive list")
def list_(*, json: AsJson = False, settings: LogSettings) -> None:
    """List the files of the archive, stream by stream."""
    from events.log.archive.notes import location_of, notes_of
    from events.log.entries import stream_names

    with _opened(settings) as log:
        notes = {stream: notes_of(log.client, stream) for stream in stream_names(log.partitions)}
        url = location_of(log.client)
    if json:
        streams = [
            {"stream": stream, "written": note.written, "trimmed": note.trimmed, "segments": camel_json(note.segments)}
            for stream, note in notes.items()
        ]
        show_json({"url": None if url is None else hide_password(url), "streams": streams})
        return
    if url is None or not any(note.segments for note in notes.values()):
        print_lines("nothing is archived yet")
        return
    rows = (
        (
            segment.name,
            segment.count,
            iso_text(segment.first_at),
            iso_text(segment.last_at),
            f"{segment.bytes / 1e6:.2f}",
            "no" if segment.last <= note.trimmed else "yes",
        )
        for note in notes.values()
        for segment in note.segments
    )
    console().print(table(rows, "file", "events", "from", "to", "MB", "also in Redis", title=hide_password(url)))


@app.command(example="archive verify")
def verify(*, json: AsJson = False, settings: LogSettings) -> None:
    """Read every file of the archive and check it against what was written: bytes, rows, and the hash chain over them.

    Each fault is listed with the file, the stream and its positions; the command then exits with 1.
    """
    from rich.text import Text

    from events.log.archive.mover import faults
    from events.log.archive.notes import location_of, notes_of
    from events.log.entries import stream_names
    from events.log.object_store import ObjectStore

    with _opened(settings) as log:
        url = location_of(log.client)
        streams = stream_names(log.partitions)
        total = sum(notes_of(log.client, stream).written for stream in streams)
        errors: list[LogError] = []
        if url is not None:
            object_store = ObjectStore(url)
            with progress_bar(quiet=json) as show_progress:
                advance = _advancing(show_progress, total)
                for stream in streams:
                    errors += faults(log.client, object_store, stream, epoch=log.epoch, progress=advance)
    if json:
        faulty = [{"fault": type(error).__name__, "message": str(error)} for error in errors]
        show_json({"verified": total, "faults": faulty})
    else:
        for error in errors:
            console().print(Text(str(error), "bold red"))
        print_lines(f"{total} events and assignment changes in the archive, {counted(len(errors), 'fault')}")
    if errors:
        raise typer.Exit(REFUSED)


@contextlib.contextmanager
def _opened(settings: Settings) -> "Iterator[RedisLog]":
    from events.log.log_factory import open_log

    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    with contextlib.closing(log.client):
        yield log


def _move(
    log: "RedisLog", mover: "Mover", before_at: int | None, failed: list[LogError], *, quiet: bool
) -> "Iterator[ArchivedStream]":
    """Move every stream. The error of a stream is added to `failed`, and the others are moved all the same."""
    from events.log.archive.mover import overdue

    waiting = _waiting(log, mover, before_at)
    total = sum(plan.would_be_written - plan.written + plan.would_be_trimmed - plan.trimmed for plan in waiting)
    with progress_bar(quiet=quiet) as show_progress:
        advance = _advancing(show_progress, total)
        for stream in mover.streams:
            try:
                written = mover.write(stream, advance, overdue_at=overdue(before_at))
                trimmed = written if before_at is None else mover.trim(stream, before_at=before_at, progress=advance)
            except LogUnavailable:
                # Without Redis every other stream would fail as well, after a timeout each.
                raise
            except LogError as error:
                failed.append(error)
                continue
            yield msgspec.structs.replace(written, trimmed=trimmed.trimmed, held_by=trimmed.held_by)


def _waiting(log: "RedisLog", mover: "Mover", before_at: int | None) -> "list[PlannedMove]":
    from events.log.raw import RawStreams

    streams = RawStreams(log.client)
    return [mover.waiting(name, head=streams.head(name), before_at=before_at) for name in mover.streams]


def _show_waiting(waiting: "list[PlannedMove]", settings: Settings, *, as_json: bool, trims: bool) -> None:
    if as_json:
        show_json(msgspec.to_builtins(waiting))
        return
    rows = []
    for plan in (plan for plan in waiting if plan.head):
        held = {"": "", "age": "age", "head": "the newest entry"}.get(plan.held_by)
        who = f"{plan.held_by}, at {plan.holders[plan.held_by]}" if held is None else held
        to_write, to_remove = plan.would_be_written - plan.written, plan.would_be_trimmed - plan.trimmed
        rows.append((plan.stream, plan.head, plan.written, to_write, plan.trimmed, to_remove, who))
    headers = ("stream", "head", "written", "would be written", "removed from Redis", "would be removed", "kept for")
    console().print(table(rows, *headers))
    if not any(plan.would_be_written > plan.written or plan.would_be_trimmed > plan.trimmed for plan in waiting):
        _show_nothing_to_do(waiting, settings, trims=trims)


def _advancing(show_progress: ShowProgress, total: int) -> Callable[[str, int], None]:
    """What is called with a stream and the number of entries done in it, and shows the progress of all."""
    done = 0

    def advance(stream: str, count: int) -> None:
        nonlocal done
        done += count
        show_progress(stream, done, total)

    return advance
