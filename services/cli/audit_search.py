"""`twinfold audit search`, `show`, `causes` and `export`: the history, read over the API."""

import csv
import json as json_
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import typer
from rich.tree import Tree

from events.rich_console import console
from events.terminal import print_json, print_lines
from services.cli.client import Api, ApiUrl, AsJson, quoted, show_json
from services.cli.flags import Kinds
from services.cli.inputs import InputUnreadable

_TAIL_BYTES = 4 << 20

LocationName = Annotated[str, typer.Argument(help="Position in the log, as in p03:17, fleet:5 or p03:assignments:2.")]
Device = Annotated[str, typer.Option(help="Events of this device and its modules, and its assignment changes.")]
Deployment = Annotated[
    str, typer.Option(help="Events of this deployment and its rollout, and assignment changes to it.")
]
By = Annotated[str, typer.Option(help="Author, as in user:ada or ada.")]
Cause = Annotated[str, typer.Option(help="Cause, or the position of an event in its chain of causes.")]
Since = Annotated[str | None, typer.Option(help="Earliest time, as in 2026-05-01T12:30:00Z.")]
Until = Annotated[str | None, typer.Option(help="Latest time.")]
Streams = Annotated[
    list[str] | None, typer.Option("--stream", help="A stream, as in fleet, p00 or p00:assignments; can be repeated.")
]


def search(
    *,
    device: Device = "",
    deployment: Deployment = "",
    by: By = "",
    kind: Kinds = None,
    cause: Cause = "",
    since: Since = None,
    until: Until = None,
    stream: Streams = None,
    oldest: Annotated[bool, typer.Option("--oldest", help="Oldest first. The default is newest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of entries.")] = 50,
    api_url: ApiUrl = None,
    json: AsJson = False,
) -> None:
    """List events: when, where, who did what. One a line; --json adds all data, with secrets masked.

    Example: twinfold audit search --device edge-1 --since 2026-05-01
    """
    params = _query(
        device=device, deployment=deployment, by=by, kind=kind, cause=cause, since=since, until=until, stream=stream
    )
    params["order"] = "oldest" if oldest else "newest"
    is_empty = True
    for entry in Api(api_url).pages("/v1/audit/events", limit=limit, params=params, items="events"):
        is_empty = False
        if json:
            print_json(json_.dumps(entry, ensure_ascii=False))
        else:
            print_lines(_line(entry))
    if is_empty and not json:
        print_lines("no events match")


def show(location: LocationName, *, api_url: ApiUrl = None) -> None:
    """Show an event or an assignment change as JSON.

    Example: twinfold audit show p03:17
    """
    show_json(Api(api_url).call("GET", _path(location)))


def causes(location: LocationName, *, api_url: ApiUrl = None, json: AsJson = False) -> None:
    """Show the causes and the effects of an event or an assignment change, as trees.

    Example: twinfold audit causes p03:17
    """
    answer = Api(api_url).call("GET", f"{_path(location)}/causes")
    if json:
        show_json(answer)
        return
    screen = console()
    event = answer["event"]
    print_lines(_line(event))
    for title, branches in (("because of", answer["causes"]), ("led to", answer["effects"])):
        tree = Tree(title if branches else f"{title} nothing known")
        _grow(tree, branches)
        screen.print(tree)


def _grow(tree: Tree, branches: list[dict[str, Any]]) -> None:
    for branch in branches:
        when = " ".join(text for text in (branch["time"], branch["location"]) if text)
        _grow(tree.add(f"{when} {branch['sentence']}".strip()), branch["more"])


def export(
    *,
    format_: Annotated[
        Literal["ndjson", "csv", "cloudevents"],
        typer.Option("--format", help="Format of the file; CloudEvents are JSON, one a line."),
    ] = "ndjson",
    out: Annotated[Path | None, typer.Option(help="File to write. The default is standard output.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue after the last complete line of --out.")] = False,
    after: Annotated[str | None, typer.Option(help="Start after this position, as in p03:17.")] = None,
    device: Device = "",
    deployment: Deployment = "",
    by: By = "",
    kind: Kinds = None,
    cause: Cause = "",
    since: Since = None,
    until: Until = None,
    stream: Streams = None,
    api_url: ApiUrl = None,
) -> None:
    """Write all matching events, stream by stream, each from its beginning. Secrets are masked.

    Example: twinfold audit export --format csv --out history.csv
    """
    if resume and (out is None or after is not None):
        raise typer.BadParameter(
            "--resume requires --out and excludes --after: it continues after the last complete line"
        )
    params = _query(
        device=device, deployment=deployment, by=by, kind=kind, cause=cause, since=since, until=until, stream=stream
    ) | {"format": format_}
    if resume and out is not None:
        after = _last_location(out, format_)
    if after is not None:
        params["after"] = after
    # A file with nothing but the CSV header has no last position; it is written from the start.
    with _target(out, append=after is not None) as target:
        for chunk in Api(api_url).stream("/v1/audit/export", params=params):
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


def _query(**filters: Any) -> dict[str, Any]:
    """The filters that are set, as parameters of the API."""
    return {name: value for name, value in filters.items() if value}


def _path(location: str) -> str:
    stream, _, position = location.replace("/", ":").rpartition(":")
    if not stream or not (position.isascii() and position.isdecimal()):
        raise typer.BadParameter(f"{location!r} is not a position, as in p03:17, fleet:5 or p03:assignments:2")
    return f"/v1/audit/events/{quoted(stream)}/{position}"


def _line(entry: dict[str, Any]) -> str:
    cause = f" because of {entry['cause']}" if entry["cause"] else ""
    return f"{entry['time'] or '?'} {entry['stream']}:{entry['position']} {entry['sentence']}{cause}"
