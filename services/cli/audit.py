"""`twinfold audit`: verifies that the history is as it was sealed, and searches it over the API."""

import csv
import json as json_
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from events.audit.errors import AuditError, PublicKeyUnusable
from events.canonical import JsonObject
from events.log.errors import LogError
from events.number_text import counted, iso_text
from events.rich_console import console
from events.secrets.errors import KeyFileError
from events.settings import Settings, read_settings
from events.terminal import complain, complain_of, print_json, print_lines
from services.cli.client import AnswerApi, AsJson, PlainApi, given, json_text, quoted, show_json
from services.cli.commands import CommandGroup, From, argument, flag
from services.cli.flags import DataDir, Kinds, RedisUrl, log_settings, point_in_time
from services.cli.inputs import InputUnreadable
from services.cli.progress import progress_bar

if TYPE_CHECKING:
    from rich.tree import Tree

    from events.audit.seal import PublicKey
    from events.audit.verify import SealSpan, VerificationReport

_TAIL_BYTES = 4 << 20
FAULTS = 1
CANNOT = 2

app = CommandGroup(no_args_is_help=True, help="Verify that the history is as it was sealed, and search it.")


LocationName = Annotated[str, argument("Position in the log, as in p03:17, fleet:5 or p03:assignments:2.")]
Filters = Annotated[
    JsonObject,
    From(
        given,
        device=Annotated[str | None, flag("Events of this device and its modules, and its assignment changes.")],
        deployment=Annotated[
            str | None, flag("Events of this deployment and its rollout, and assignment changes to it.")
        ],
        by=Annotated[str | None, flag("Author, as in user:ada or ada.")],
        kind=Kinds,
        cause=Annotated[str | None, flag("Cause, or the position of an event in its chain of causes.")],
        since=Annotated[str | None, flag("Earliest time, as in 2026-05-01T12:30:00Z.")],
        until=Annotated[str | None, flag("Latest time.")],
        stream=Annotated[list[str] | None, flag("A stream, as in fleet, p00 or p00:assignments; can be repeated.")],
    ),
]


@app.command(example="audit search --device edge-1 --since 2026-05-01")
def search(
    *,
    filters: Filters,
    oldest: Annotated[bool, flag("Oldest first. The default is newest first.", "--oldest")] = False,
    limit: Annotated[int, flag("Maximum number of entries.", min=1)] = 50,
    api: AnswerApi,
) -> None:
    """List events: when, where, who did what. One a line; --json adds all data, with secrets masked."""
    params = filters | {"order": "oldest" if oldest else "newest"}
    is_empty = True
    for entry in api.pages("/v1/audit/events", limit=limit, params=params, items="events"):
        is_empty = False
        if api.json:
            print_json(json_text(entry))
        else:
            print_lines(_line(entry))
    if is_empty and not api.json:
        print_lines("no events match")


@app.command(example="audit show p03:17")
def show(location: LocationName, *, api: PlainApi) -> None:
    """Show an event or an assignment change as JSON."""
    show_json(api.call("GET", _path(location)))


@app.command(example="audit causes p03:17")
def causes(location: LocationName, *, api: AnswerApi) -> None:
    """Show the causes and the effects of an event or an assignment change, as trees."""
    from rich.tree import Tree

    answer = api.call("GET", f"{_path(location)}/causes")
    if api.json:
        show_json(answer)
        return
    print_lines(_line(answer["event"]))
    for title, branches in (("because of", answer["causes"]), ("led to", answer["effects"])):
        tree = Tree(title if branches else f"{title} nothing known")
        _grow(tree, branches)
        console().print(tree)


def _grow(tree: "Tree", branches: list[JsonObject]) -> None:
    for branch in branches:
        when = " ".join(text for text in (branch["time"], branch["location"]) if text)
        _grow(tree.add(f"{when} {branch['sentence']}".strip()), branch["more"])


@app.command(example="audit export --format csv --out history.csv")
def export(
    *,
    format_: Annotated[
        Literal["ndjson", "csv", "cloudevents"],
        flag("Format of the file; CloudEvents are JSON, one a line.", "--format"),
    ] = "ndjson",
    out: Annotated[Path | None, flag("File to write. The default is standard output.")] = None,
    resume: Annotated[bool, flag("Continue after the last complete line of --out.", "--resume")] = False,
    after: Annotated[str | None, flag("Start after this position, as in p03:17.")] = None,
    filters: Filters,
    api: PlainApi,
) -> None:
    """Write all matching events, stream by stream, each from its beginning. Secrets are masked."""
    if resume and (out is None or after is not None):
        why = "--resume requires --out and excludes --after: it continues after the last complete line"
        raise typer.BadParameter(why)
    if resume and out is not None:
        after = _last_location(out, format_)
    # A file with nothing but the CSV header has no last position; it is written from the start.
    with _target(out, append=after is not None) as target:
        for chunk in api.stream("/v1/audit/export", params=filters | given(format=format_, after=after)):
            target.write(chunk)


@contextmanager
def _target(out: Path | None, *, append: bool) -> Iterator[IO[bytes]]:
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        # Readable for its owner alone: it holds the whole history of the fleet.
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            yield file
    except OSError as error:
        raise InputUnreadable(str(out), error.strerror or str(error)) from error


def _last_location(out: Path, how: str) -> str | None:
    """The position in the last complete line of a file; an incomplete line after it is cut off."""
    if not out.exists():
        return None
    try:
        # An export that was interrupted ends in half a line. Only the tail is read, because exports can be gigabytes.
        with out.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            start = file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read()
            whole = tail.rfind(b"\n") + 1
            if not whole and size:
                raise InputUnreadable(
                    str(out), "has no complete line to continue after; run the export without --resume"
                )
            file.truncate(start + whole)
    except OSError as error:
        raise InputUnreadable(str(out), error.strerror or str(error)) from error
    lines = tail[:whole].splitlines()
    return _location_in(lines[-1].decode(), how, out) if lines else None


def _location_in(line: str, how: str, out: Path) -> str | None:
    try:
        if how == "csv":
            stream, position = next(csv.reader([line]))[:2]
            return None if stream == "stream" else f"{stream}:{int(position)}"
        entry = json_.loads(line)
        return str(entry["id"]) if how == "cloudevents" else f"{entry['stream']}:{entry['position']}"
    except (ValueError, KeyError, StopIteration) as error:
        raise InputUnreadable(str(out), f"the last line is not from an export with --format {how}") from error


def _path(location: str) -> str:
    stream, _, position = location.replace("/", ":").rpartition(":")
    if not stream or not (position.isascii() and position.isdecimal()):
        raise typer.BadParameter(f"{location!r} is not a position, as in p03:17, fleet:5 or p03:assignments:2")
    return f"/v1/audit/events/{quoted(stream)}/{position}"


def _line(entry: JsonObject) -> str:
    cause = f" because of {entry['cause']}" if entry["cause"] else ""
    return f"{entry['time'] or '?'} {entry['stream']}:{entry['position']} {entry['sentence']}{cause}"


@app.command(example="audit key")
def key(*, data: DataDir = None) -> None:
    """Print the public key that verifies seals. Give it to the auditors, and keep a copy away from this machine."""
    from events.audit.sealer import public_key

    print_lines(*public_key(read_settings(data_dir=data)).to_pem().decode().splitlines())


@app.command(example="audit verify --public-key seal.pem")
def verify(
    *,
    settings: Annotated[Settings, From(log_settings, redis_url=RedisUrl, data_dir=DataDir)],
    public_key: Annotated[
        list[Path] | None,
        flag(
            "File with a public key (PEM) that may have signed seals; can be repeated. "
            "The default is the key of the data directory."
        ),
    ] = None,
    since: Annotated[str | None, flag("First seal or time, as in 120 or 2026-05-01T00:00Z.", "--from")] = None,
    until: Annotated[str | None, flag("Last seal or time.", "--to")] = None,
    json: AsJson = False,
) -> None:
    """Check every sealed entry, and name each that was changed, dropped, reordered or inserted since.

    Exits with 0 if everything is as it was sealed, 1 if something is not, 2 if it cannot be verified.
    """
    from events.audit.verify import verify_log
    from events.log.log_factory import open_log

    span = _span(since, until)
    try:
        keys = _keys(settings, public_key or [])
        # Verifying writes nothing, so it does not matter whether this Redis could lose events.
        log = open_log(settings.redis_url, allow_volatile=True)
        start = time.monotonic()
        with progress_bar(quiet=False) as show_progress:
            # What is written meanwhile is verified as well, so `done` can pass the total that was counted at the start.
            report = verify_log(
                settings,
                log,
                keys,
                span=span,
                progress=lambda done, total: show_progress("verifying", done, max(done, total)),
            )
    except (AuditError, LogError, KeyFileError) as error:
        complain_of(error)
        raise typer.Exit(CANNOT) from None
    seconds = time.monotonic() - start
    if report.is_fine and not report.in_span:
        newest, sealed_at = report.last[0], report.sealed_at
        range_text = " ".join(f"{word} {bound}" for word, bound in (("from", since), ("to", until)) if bound)
        complain(f"twinfold: nothing is sealed {range_text}; the newest seal is {newest} of {iso_text(sealed_at)}")
        raise typer.Exit(CANNOT)
    if json:
        show_json(
            {
                "fine": report.is_fine,
                "faults": msgspec.to_builtins(report.faults),
                "unsealed": msgspec.to_builtins(report.unsealed),
                "seals": report.seals,
                "entries": report.entries,
                "seconds": round(seconds, 3),
                "keys": list(report.keys),
                "newestSeal": {"number": report.last[0], "digest": report.last[1], "at": report.sealed_at},
            }
        )
    else:
        _print(report, seconds)
    if not report.is_fine:
        raise typer.Exit(FAULTS)


def _print(report: "VerificationReport", seconds: float) -> None:
    print_lines(*(f"{fault.location} {fault.what}" for fault in report.faults))
    for tail in report.unsealed:
        print_lines(f"{tail.stream}: {tail.entries} not sealed yet, since {tail.stream}:{tail.after}")
    rate = f"{report.entries / seconds:,.0f} a second" if seconds else ""
    print_lines(
        f"{report.entries} entries and {report.seals} seals in {seconds:.1f} s ({rate}); keys: {', '.join(report.keys)}"
    )
    number, digest = report.last
    newest = f"{number} of {iso_text(report.sealed_at)}, {digest}"
    print_lines(
        f"newest seal: {newest if number else 'none that is signed by a key of this command'}",
        "everything is as it was sealed" if report.is_fine else counted(len(report.faults), "fault"),
    )


def _keys(settings: Settings, files: list[Path]) -> "list[PublicKey]":
    from events.audit.seal import PublicKey
    from events.audit.sealer import public_key

    keys = []
    for file in files:
        try:
            keys.append(PublicKey.from_pem(file.read_bytes(), location=str(file)))
        except OSError as error:
            raise PublicKeyUnusable(str(file), f"cannot be read: {error.strerror}") from error
    return keys or [public_key(settings)]


def _span(since: str | None, until: str | None) -> "SealSpan":
    from events.audit.verify import SealSpan

    first, earliest = _bound(since)
    last, latest = _bound(until)
    for begin, end in ((first, last), (earliest, latest)):
        if begin is not None and end is not None and begin > end:
            raise typer.BadParameter(f"--from {since} is after --to {until}")
    return SealSpan(first=first or 0, last=last, since=earliest or 0, until=latest)


def _bound(text: str | None) -> tuple[int | None, int | None]:
    """(number of a seal, milliseconds), of which at most one is not `None`."""
    if text is None:
        return None, None
    if text.isascii() and text.isdigit():
        return int(text), None
    return None, point_in_time(text)
