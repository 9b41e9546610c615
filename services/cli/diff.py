"""`twinfold diff`: what changed between two moments, why, and by whom."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from events.device.times import time_text
from events.number_text import counted
from events.rich_console import console
from services.cli.client import Api, ApiUrl, AsJson, json_text, show_json

_STYLES = {"removed": "red", "changed": "yellow", "added": "green"}
_MARKS = {"removed": "-", "changed": "~", "added": "+"}
EVENTS_SHOWN = 20


def diff(
    *,
    first: Annotated[
        str, typer.Option("--from", help="The earlier moment: a time, or a position (fleet:17, p03:120).")
    ],
    last: Annotated[str | None, typer.Option("--to", help="The later one; now if it is not given.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="This device alone.")] = None,
    deployment: Annotated[str | None, typer.Option("--deployment", "-d", help="This deployment alone.")] = None,
    implied: Annotated[
        bool, typer.Option("--implied", help="What the events implied, also where workers had not decided it.")
    ] = False,
    api_url: ApiUrl = None,
    json: AsJson = False,
) -> None:
    """What changed between two moments: removals first, then why, and by whom.

    Example: twinfold diff --from 2026-11-21T08:00:00Z --device edge-7
    """
    asked = {"from": first, "to": last, "device": device, "deployment": deployment}
    params = {name: value for name, value in asked.items() if value is not None}
    found = Api(api_url).call("GET", "/v1/diff", params={**params, **({"mode": "implied"} if implied else {})})
    if json:
        show_json(found)
        return
    console().print(Group(*_page(found)))


def _page(found: dict[str, Any]) -> Iterator[RenderableType]:
    what = "the fleet" if found["id"] is None else f"{found['of']} {found['id']}"
    yield Text(f"{what}, from {_point_in_time(found, 'from')} to {_point_in_time(found, 'to')}", style="bold")
    told = [*_changes(found["changes"]), *_deployments(found["deployments"]), *_devices(found["devices"])]
    told += _assignments(found["assignments"])
    yield from told or [Text("nothing changed")]
    yield from _events(found)


def _point_in_time(found: dict[str, Any], side: str) -> str:
    """The time of a moment, and the position that is told of first; all of them stand in the JSON."""
    return f"{time_text(found[f'{side}Time'])} ({found[side].partition(',')[0]})"


def _changes(changes: list[dict[str, Any]]) -> Iterator[Text]:
    for one in changes:
        how, location = one["how"], ".".join(part for part in (one["section"], one["path"]) if part)
        before, after = (json_text(one[side]) for side in ("before", "after"))
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
    for one in assignments:
        was, now = (
            " + ".join(one[side]["layers"]) or f"nothing ({one[side]['status']})" for side in ("before", "after")
        )
        yield Text(f"~ {was} -> {now}: {_few(one)}", _STYLES["changed"])


def _few(some: dict[str, Any]) -> str:
    names = ", ".join(some["devices"][:5])
    return f"{counted(some['count'], 'device')}: {names}" + (", …" if some["count"] > len(some["devices"][:5]) else "")


def _events(found: dict[str, Any]) -> Iterator[RenderableType]:
    events = found["events"][-EVENTS_SHOWN:]
    if not events:
        return
    by = ", ".join(f"{who} ({count})" for who, count in found["by"].items())
    yield Text(f"{counted(found['eventCount'], 'event')} and assignment changes in between, by {by}", style="bold")
    table = Table("when", "who", "what", "of", "position")
    for one in events:
        table.add_row(time_text(one["at"]), one["by"], one["type"], one["subject"], one["position"])
    yield table
