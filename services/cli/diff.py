"""`twinfold diff`: what changed between two points in time, why, and by whom."""

from collections.abc import Iterator
from operator import itemgetter
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from events.device.times import time_text
from events.number_text import counted
from services.cli.client import AnswerApi, given, json_text, table
from services.cli.commands import command

_STYLES = {"removed": "red", "changed": "yellow", "added": "green"}
_EVENT_MEMBERS = itemgetter("by", "type", "subject", "position")
_MARKS = {"removed": "-", "changed": "~", "added": "+"}
EVENTS_SHOWN = 20


@command(example="twinfold diff --from 2026-11-21T08:00:00Z --device edge-7")
def diff(
    *,
    first: Annotated[str, typer.Option("--from", help="Start: a time, or a position (fleet:17, p03:120).")],
    last: Annotated[str | None, typer.Option("--to", help="End: a time or a position. The default is now.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="Compare only this device.")] = None,
    deployment: Annotated[str | None, typer.Option("--deployment", "-d", help="Compare only this deployment.")] = None,
    implied: Annotated[
        bool,
        typer.Option("--implied", help="Compare what the events imply, also where workers had not applied them yet."),
    ] = False,
    api: AnswerApi,
) -> None:
    """Show what changed between two points in time, removals first, and the events that caused it with their authors."""
    mode = "implied" if implied else None
    params = given(**{"from": first}, to=last, device=device, deployment=deployment, mode=mode)
    api.show("/v1/diff", lambda answer: Group(*_page(answer)), params=params)


def _page(answer: dict[str, Any]) -> Iterator[RenderableType]:
    what = "the fleet" if answer["id"] is None else f"{answer['of']} {answer['id']}"
    yield Text(f"{what}, from {_point_in_time(answer, 'from')} to {_point_in_time(answer, 'to')}", style="bold")
    lines = [*_changes(answer["changes"]), *_deployments(answer["deployments"]), *_devices(answer["devices"])]
    lines += _assignments(answer["assignments"])
    yield from lines or [Text("nothing changed")]
    yield from _events(answer)


def _point_in_time(answer: dict[str, Any], side: str) -> str:
    """The time of one end, and the first of its positions; `--json` has all of them."""
    return f"{time_text(answer[f'{side}Time'])} ({answer[side].partition(',')[0]})"


def _changes(changes: list[dict[str, Any]]) -> Iterator[Text]:
    for change in changes:
        how, location = change["how"], ".".join(part for part in (change["section"], change["path"]) if part)
        before, after = (json_text(change[side]) for side in ("before", "after"))
        value = {"removed": before, "added": after}.get(how, f"{before} -> {after}")
        yield Text(f"{_MARKS[how]} {location}: {value}", _STYLES[how])


def _deployments(deployments: dict[str, list[str]] | None) -> Iterator[Text]:
    for how, names in (deployments or {}).items():
        yield from (Text(f"{_MARKS[how]} deployment {name}", _STYLES[how]) for name in names)


def _devices(devices: dict[str, Any]) -> Iterator[Text]:
    for what, sides in devices.items():
        for side, how in (("lost", "removed"), ("gained", "added")):
            if sides[side]["count"]:
                yield Text(f"{_MARKS[how]} {what}: {_few(sides[side])}", _STYLES[how])


def _assignments(assignments: list[dict[str, Any]]) -> Iterator[Text]:
    for change in assignments:
        was, now = (
            " + ".join(change[side]["layers"]) or f"nothing ({change[side]['status']})" for side in ("before", "after")
        )
        yield Text(f"~ {was} -> {now}: {_few(change)}", _STYLES["changed"])


def _few(listed: dict[str, Any]) -> str:
    names = ", ".join(listed["devices"][:5])
    return f"{counted(listed['count'], 'device')}: {names}" + (
        ", …" if listed["count"] > len(listed["devices"][:5]) else ""
    )


def _events(answer: dict[str, Any]) -> Iterator[RenderableType]:
    events = answer["events"][-EVENTS_SHOWN:]
    if not events:
        return
    by = ", ".join(f"{who} ({count})" for who, count in answer["by"].items())
    yield Text(f"{counted(answer['eventCount'], 'event')} and assignment changes in between, by {by}", style="bold")
    rows = ((time_text(event["at"]), *_EVENT_MEMBERS(event)) for event in events)
    yield table(rows, "when", "who", "what", "of", "position")
