"""`twinfold diff`: what changed between two points in time, why, and by whom."""

from collections.abc import Iterator
from operator import itemgetter
from typing import Annotated

from rich.console import Group, RenderableType
from rich.text import Text

from events.canonical import JsonObject
from events.device.times import time_text
from events.number_text import counted
from services.cli.client import AnswerApi, given, json_text, table
from services.cli.commands import command, flag

_LOOKS = {"removed": ("-", "red"), "changed": ("~", "yellow"), "added": ("+", "green")}
_EVENT_MEMBERS = itemgetter("by", "type", "subject", "position")
EVENTS_SHOWN = 20


@command(example="diff --from 2026-11-21T08:00:00Z --device edge-7")
def diff(
    *,
    first: Annotated[str, flag("Start: a time, or a position (fleet:17, p03:120).", "--from")],
    last: Annotated[str | None, flag("End: a time or a position. The default is now.", "--to")] = None,
    device: Annotated[str | None, flag("Compare only this device.")] = None,
    deployment: Annotated[str | None, flag("Compare only this deployment.", "--deployment", "-d")] = None,
    implied: Annotated[
        bool, flag("Compare what the events imply, also where workers had not applied them yet.", "--implied")
    ] = False,
    api: AnswerApi,
) -> None:
    """Show what changed between two points in time, removals first, and the events that caused it with their authors."""
    mode = "implied" if implied else None
    params = given(**{"from": first}, to=last, device=device, deployment=deployment, mode=mode)
    api.show("/v1/diff", lambda answer: Group(*_page(answer)), params=params)


def _page(answer: JsonObject) -> Iterator[RenderableType]:
    what = "the fleet" if answer["id"] is None else f"{answer['of']} {answer['id']}"
    # The first of the positions of each end; `--json` has all of them.
    first, last = (f"{time_text(answer[f'{end}Time'])} ({answer[end].partition(',')[0]})" for end in ("from", "to"))
    yield Text(f"{what}, from {first} to {last}", style="bold")
    yield from list(_lines(answer)) or [Text("nothing changed")]
    events = answer["events"][-EVENTS_SHOWN:]
    if events:
        by = ", ".join(f"{who} ({count})" for who, count in answer["by"].items())
        yield Text(f"{counted(answer['eventCount'], 'event')} and assignment changes in between, by {by}", style="bold")
        rows = ((time_text(event["at"]), *_EVENT_MEMBERS(event)) for event in events)
        yield table(rows, "when", "who", "what", "of", "position")


def _lines(answer: JsonObject) -> Iterator[Text]:
    for change in answer["changes"]:
        how, location = change["how"], ".".join(part for part in (change["section"], change["path"]) if part)
        before, after = json_text(change["before"]), json_text(change["after"])
        value = {"removed": before, "added": after}.get(how, f"{before} -> {after}")
        yield _line(how, f"{location}: {value}")
    for how, names in (answer["deployments"] or {}).items():
        yield from (_line(how, f"deployment {name}") for name in names)
    for what, sides in answer["devices"].items():
        for side, how in (("lost", "removed"), ("gained", "added")):
            if sides[side]["count"]:
                yield _line(how, f"{what}: {_few(sides[side])}")
    for change in answer["assignments"]:
        was, now = (
            " + ".join(change[side]["layers"]) or f"nothing ({change[side]['status']})" for side in ("before", "after")
        )
        yield _line("changed", f"{was} -> {now}: {_few(change)}")


def _line(how: str, text: str) -> Text:
    mark, style = _LOOKS[how]
    return Text(f"{mark} {text}", style)


def _few(listed: JsonObject) -> str:
    names = listed["devices"][:5]
    more = ", …" if listed["count"] > len(names) else ""
    return f"{counted(listed['count'], 'device')}: {', '.join(names)}{more}"
