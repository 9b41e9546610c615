"""`twinfold audit search`, `show`, `causes` and `export`: what history says, over the API."""

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
from services.cli.inputs import InputUnreadable

_TAIL_BYTES = 4 << 20

Place = Annotated[str, typer.Argument(help="As in p03:17, fleet:5 or p03:assignments:2.")]
Device = Annotated[str, typer.Option(help="About this device, its modules and what it was assigned.")]
Deployment = Annotated[str, typer.Option(help="About this deployment, its rollout and whom it was assigned to.")]
By = Annotated[str, typer.Option(help="By somebody, as in user:ada or ada.")]
Kinds = Annotated[
    list[str] | None, typer.Option("--kind", help="A type of event, or Assignment change; again for more, else any.")
]
Cause = Annotated[str, typer.Option(help="With this cause, or one that this place is in.")]
Since = Annotated[str | None, typer.Option(help="From this time on, as in 2026-05-01T12:30Z.")]
Until = Annotated[str | None, typer.Option(help="Up to this time.")]
Streams = Annotated[list[str] | None, typer.Option("--stream", help="fleet, p00, p00:assignments; again for more.")]


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
    oldest: Annotated[bool, typer.Option("--oldest", help="The oldest first; else the newest.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    api_url: ApiUrl = None,
    json: AsJson = False,
) -> None:
    """Who did what to whom, and when, one a line; with --json with all of the data, secrets masked.

    Example: twinfold audit search --device edge-1 --since 2026-05-01
    """
    params = _asked(
        device=device,
        deployment=deployment,
        by=by,
        kind=kind,
        cause=cause,
        since=since,
        until=until,
        stream=stream,
    )
    params["order"] = "oldest" if oldest else "newest"
    nothing = True
    for entry in _found(Api(api_url), params, limit):
        nothing = False
        if json:
            print_json(json_.dumps(entry, ensure_ascii=False))
        else:
            print_lines(_line(entry))
    if nothing and not json:
        print_lines("nothing is found")


def _found(api: Api, params: dict[str, Any], limit: int) -> Iterator[dict[str, Any]]:
    more, left = None, limit
    while left:
        page = api.call(
            "GET",
            "/v1/audit/events",
            params={**params, "top": min(left, 1000), **({"continuation": more} if more else {})},
        )
        yield from page["events"]
        more, left = page["continuation"], left - len(page["events"])
        if more is None:
            return


def show(location: Place, *, api_url: ApiUrl = None) -> None:
    """An event or an assignment change, as JSON.

    Example: twinfold audit show p03:17
    """
    show_json(Api(api_url).call("GET", _path(location)))


def causes(location: Place, *, api_url: ApiUrl = None, json: AsJson = False) -> None:
    """What led to an event or an assignment change, and what it led to, as trees.

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
        tree = Tree(title if branches else f"{title} nothing that is known")
        _grow(tree, branches)
        screen.print(tree)


def _grow(tree: Tree, branches: list[dict[str, Any]]) -> None:
    for branch in branches:
        when = " ".join(text for text in (branch["time"], branch["location"]) if text)
        _grow(tree.add(f"{when} {branch['sentence']}".strip()), branch["more"])


def export(
    *,
    format_: Annotated[
        Literal["ndjson", "csv", "cloudevents"], typer.Option("--format", help="CloudEvents come one a line.")
    ] = "ndjson",
    out: Annotated[Path | None, typer.Option(help="A file; standard output if none.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on behind the last whole line of the file.")] = False,
    after: Annotated[str | None, typer.Option(help="Begin behind this place, as in p03:17.")] = None,
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
    """Write all that is found, stream by stream, each from its beginning; secrets are masked.

    Example: twinfold audit export --format csv --out history.csv
    """
    if resume and (out is None or after is not None):
        raise typer.BadParameter("--resume goes with --out, and finds its place by itself")
    params = _asked(
        device=device,
        deployment=deployment,
        by=by,
        kind=kind,
        cause=cause,
        since=since,
        until=until,
        stream=stream,
    ) | {"format": format_}
    if resume and out is not None:
        after = _last_location(out, format_)
    if after is not None:
        params["after"] = after
    # A file with nothing but the names of columns is written anew.
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
        # Whose history it is decides who may read it.
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            yield file
    except OSError as error:
        raise InputUnreadable(str(out), error.strerror or str(error)) from error


def _last_location(out: Path, how: str) -> str | None:
    """The place of the last whole line of a file; what comes behind it, half a line, is taken away."""
    if not out.exists():
        return None
    try:
        with out.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            start = file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read()
            whole = tail.rfind(b"\n") + 1
            if not whole and size:
                raise InputUnreadable(str(out), "has no whole line; write it anew without --resume")
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
        raise InputUnreadable(str(out), f"its last line is none of an export as {how}") from error


def _asked(**filters: Any) -> dict[str, Any]:
    """What was given of a search, as the API takes it."""
    return {name: value for name, value in filters.items() if value}


def _path(location: str) -> str:
    stream, _, position = location.replace("/", ":").rpartition(":")
    if not stream or not (position.isascii() and position.isdecimal()):
        raise typer.BadParameter(f"{location!r} is no place such as p03:17, fleet:5 or p03:assignments:2")
    return f"/v1/audit/events/{quoted(stream)}/{position}"


def _line(entry: dict[str, Any]) -> str:
    cause = f" because of {entry['cause']}" if entry["cause"] else ""
    return f"{entry['time'] or '?'} {entry['stream']}:{entry['position']} {entry['sentence']}{cause}"
