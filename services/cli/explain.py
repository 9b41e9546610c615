"""`twinfold explain`: why a device has what it has, and does not get what it does not."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from events.rich_console import console
from services.cli.client import Api, ApiUrl, AsJson, quoted, show_json

_APPLIES = {"base", "layer", "applies"}
_STYLES = {"not applied": "yellow", "not decided yet": "yellow", "not targeted": "dim"}
_MARKS = {"not applied": "~", "not decided yet": "?", "not targeted": "-"}
_TRUTHS = {"true": "green", "false": "red", "unknown": "yellow"}
OTHERS_SHOWN = 20


def explain(
    device_id: Annotated[str, typer.Argument(metavar="DEVICE", help="The device's id.")],
    *,
    deployment: Annotated[str | None, typer.Option("--deployment", "-d", help="This one alone, in full.")] = None,
    at: Annotated[str | None, typer.Option(help="As of then: a time, or a position of the log.")] = None,
    read_back: Annotated[
        int | None, typer.Option(min=0, help="Over how many events the ones that led here are looked for.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All deployments that do not target it, too.")] = False,
    api_url: ApiUrl = None,
    json: AsJson = False,
) -> None:
    """Why a device has what it has, and does not get what it does not: the answer first, then the reasons.

    Example: twinfold explain edge-7 --deployment prod-9
    """
    asked = {"deployment": deployment, "at": at, "readBack": read_back}
    params = {name: value for name, value in asked.items() if value is not None}
    found = Api(api_url).call("GET", f"/v1/devices/{quoted(device_id)}/explain", params=params)
    if json:
        show_json(found)
        return
    limit = len(found["deployments"]) if everything or deployment is not None else OTHERS_SHOWN
    console().print(Group(*_page(found, in_full=deployment is not None, others_max=limit)))


def _page(found: dict[str, Any], *, in_full: bool, others_max: int) -> Iterator[RenderableType]:
    yield Text(found["says"], style="bold")
    yield from _standpoint(found)
    yield from _deployments(found["deployments"], in_full=in_full, others_max=others_max)
    asked = {one["id"] for one in found["deployments"]} if in_full else None
    contests = [one for one in found["contests"] if asked is None or asked & _sides(one)]
    if contests:
        yield _head("Who sets what, where they disagree")
        yield _indented(_contests(contests))
    runs, reported = found["runs"], found["reported"]
    if runs is not None and runs["causes"]:
        yield _head("What led to what it has")
        yield from map(_event, runs["causes"])
    if reported is not None:
        yield _head("What it reported")
        yield _indented(Text(reported["says"], style="" if reported["status"] == "healthy" else "yellow"))
    if found["events"]:
        yield _head("The device")
        yield from map(_event, found["events"])
    if found["readBackTo"]:
        text = f"older events than {found['asOf']['stream']}:{found['readBackTo']} were not looked at; --read-back goes further"
        yield Text(f"\n{text}", style="dim")


def _standpoint(found: dict[str, Any]) -> Iterator[RenderableType]:
    at = found["asOf"]
    if at["blocked"] is not None:
        yield Text(
            f"{at['stream']} is stopped at {at['blocked']['at']}: {at['blocked']['error'] or 'ask whoever runs this'}",
            style="red",
        )
    if at["isBehind"]:
        heads = at["heads"]
        told = (
            f"as of {at['stream']}:{at['partition']} and fleet:{at['fleet']}; the log is at {heads['partition']} and "
            f"{heads['fleet']}, and workers have not come to the rest"
        )
        yield Text(told, style="yellow")
    yield from (_event(one, style="yellow") for one in found["undecided"])


def _deployments(lines: list[dict[str, Any]], *, in_full: bool, others_max: int) -> Iterator[RenderableType]:
    near = [one for one in lines if one["verdict"] != "not targeted"]
    others = [one for one in lines if one["verdict"] == "not targeted"]
    for title, some, shown in (
        ("Deployments", near, len(near)),
        ("Deployments that do not target it", others, others_max),
    ):
        if some:
            yield _head(title)
        for one in some[:shown]:
            yield _verdict(one)
            if in_full:
                yield from _reasons(one)
        if len(some) > shown:
            yield _indented(
                Text(f"and {len(some) - shown} more; --all shows them, --deployment one in full", style="dim")
            )


def _verdict(one: dict[str, Any]) -> RenderableType:
    applies = one["verdict"] in _APPLIES
    mark, style = ("+", "green") if applies else (_MARKS[one["verdict"]], _STYLES[one["verdict"]])
    line = Table.grid(padding=(0, 1))
    called = one["id"] + (f" for {one['module']}" if one["module"] else "")
    said = Text(one["says"], style=style) if applies else Text.assemble((called, "bold"), f": {one['because']}")
    line.add_row(Text(f"  {mark}", style=style), said)
    return Group(line, *(_indented(Text(note, style="dim"), 4) for note in one["notes"]))


def _reasons(one: dict[str, Any]) -> Iterator[RenderableType]:
    for name, title in (("condition", "its condition"), ("scope", "the scope of whoever created it")):
        if one[name] is not None:
            yield _indented(Text(f"{title}:", style="dim"), 4)
            yield from _terms(one[name], depth=6)
    yield from (_event(event, depth=4) for event in one["events"])


def _terms(term: dict[str, Any], *, depth: int) -> Iterator[RenderableType]:
    truth = term["truth"]
    for joined in ("and", "or"):
        if joined in term:
            yield _indented(_truth(f"{'all' if joined == 'and' else 'any'} of", truth), depth)
            for one in term[joined]:
                yield from _terms(one, depth=depth + 2)
            return
    if "not" in term:
        yield _indented(_truth("not", truth), depth)
        yield from _terms(term["not"], depth=depth + 2)
        return
    line = _truth(term["text"], truth)
    if "found" in term:
        line.append(f"  it is {_value(term)}", style="dim" if truth == "true" else "")
    yield _indented(line, depth)


def _truth(text: str, truth: str) -> Text:
    return Text.assemble(text, "  ", (truth, _TRUTHS[truth]))


def _value(term: dict[str, Any]) -> str:
    if term["found"] == "missing":
        return "missing"
    value = term["value"]
    shown = f"'{value}'" if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return shown if term["comparable"] else f"{shown}, a {term['found']}"


def _sides(contest: dict[str, Any]) -> set[str]:
    return {side["deployment"] for side in (contest["winner"], *contest["losers"])}


def _contests(contests: list[dict[str, Any]]) -> Table:
    table = Table("module", "property", "has it", "value", "over")
    for one in contests:
        over = ", ".join(f"{side['deployment']}: {side['value']}" for side in one["losers"])
        path = one["path"].removeprefix("properties.desired.")
        table.add_row(*map(Text, (one["module"], path, one["winner"]["deployment"], str(one["winner"]["value"]), over)))
    return table


def _event(one: dict[str, Any], *, depth: int = 2, style: str = "") -> RenderableType:
    return _indented(Text(one["says"], style=style), depth)


def _head(title: str) -> Text:
    return Text(f"\n{title}", style="bold")


def _indented(what: RenderableType, depth: int = 2) -> RenderableType:
    return Padding(what, (0, 0, 0, depth), expand=False)
