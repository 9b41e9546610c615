"""`twinfold explain`: why a device has its configuration, and why deployments do not apply to it."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from services.cli.client import AnswerApi, given, quoted, table
from services.cli.commands import command

_APPLIES = {"base", "layer", "applies"}
_STYLES = {"not applied": "yellow", "not decided yet": "yellow", "not targeted": "dim"}
_MARKS = {"not applied": "~", "not decided yet": "?", "not targeted": "-"}
_TRUTHS = {"true": "green", "false": "red", "unknown": "yellow"}
# Most deployments of a large system target other devices, and say nothing about this one.
_NOT_TARGETING_SHOWN_MAX = 20


@command(example="twinfold explain edge-7 --deployment prod-9")
def explain(
    device_id: Annotated[str, typer.Argument(metavar="DEVICE", help="The device's id.")],
    *,
    deployment: Annotated[
        str | None,
        typer.Option("--deployment", "-d", help="Explain only this deployment, with all terms of its condition."),
    ] = None,
    at: Annotated[str | None, typer.Option(help="Read a past state: a time, or a position of the log.")] = None,
    read_back: Annotated[int | None, typer.Option(min=0, help="Number of past events to search for causes.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="List all deployments that do not target the device.")
    ] = False,
    api: AnswerApi,
) -> None:
    """Explain why a device has its configuration, and why other deployments do not apply: the result first, then the reasons."""
    in_full = deployment is not None
    limit = None if everything or in_full else _NOT_TARGETING_SHOWN_MAX
    api.show(
        f"/v1/devices/{quoted(device_id)}/explain",
        lambda answer: Group(*_page(answer, in_full=in_full, not_targeting_max=limit)),
        params=given(deployment=deployment, at=at, readBack=read_back),
    )


def _page(answer: dict[str, Any], *, in_full: bool, not_targeting_max: int | None) -> Iterator[RenderableType]:
    yield Text(answer["says"], style="bold")
    yield from _standpoint(answer)
    yield from _deployments(answer["deployments"], in_full=in_full, not_targeting_max=not_targeting_max)
    shown_ids = {line["id"] for line in answer["deployments"]} if in_full else None
    contests = [contest for contest in answer["contests"] if shown_ids is None or shown_ids & _sides(contest)]
    if contests:
        yield _head("Properties that deployments set differently")
        yield _indented(_contests(contests))
    runs, reported = answer["runs"], answer["reported"]
    if runs is not None and runs["causes"]:
        yield _head("Events that led to its configuration")
        yield from map(_event, runs["causes"])
    if reported is not None:
        yield _head("Reported by the device")
        yield _indented(Text(reported["says"], style="" if reported["status"] == "healthy" else "yellow"))
    if answer["events"]:
        yield _head("Events of the device")
        yield from map(_event, answer["events"])
    if answer["readBackTo"]:
        text = f"events before {answer['asOf']['stream']}:{answer['readBackTo']} were not searched; --read-back searches more"
        yield Text(f"\n{text}", style="dim")


def _standpoint(answer: dict[str, Any]) -> Iterator[RenderableType]:
    at = answer["asOf"]
    if at["blocked"] is not None:
        yield Text(
            f"{at['stream']} is stopped at {at['blocked']['at']}: {at['blocked']['error'] or 'ask the operator of this system'}",
            style="red",
        )
    if at["isBehind"]:
        heads = at["heads"]
        text = (
            f"as of {at['stream']}:{at['partition']} and fleet:{at['fleet']}; the log is at {heads['partition']} and "
            f"{heads['fleet']}, and workers have not applied the rest yet"
        )
        yield Text(text, style="yellow")
    yield from (_event(event, style="yellow") for event in answer["undecided"])


def _deployments(
    lines: list[dict[str, Any]], *, in_full: bool, not_targeting_max: int | None
) -> Iterator[RenderableType]:
    near = [line for line in lines if line["verdict"] != "not targeted"]
    not_targeting = [line for line in lines if line["verdict"] == "not targeted"]
    for title, section, shown_max in (
        ("Deployments", near, len(near)),
        ("Deployments that do not target it", not_targeting, not_targeting_max),
    ):
        if section:
            yield _head(title)
        for line in section[:shown_max]:
            yield _verdict(line)
            if in_full:
                yield from _reasons(line)
        if hidden := len(section) - len(section[:shown_max]):
            yield _indented(Text(f"and {hidden} more; --all shows them, --deployment one in full", style="dim"))


def _verdict(line: dict[str, Any]) -> RenderableType:
    applies = line["verdict"] in _APPLIES
    mark, style = ("+", "green") if applies else (_MARKS[line["verdict"]], _STYLES[line["verdict"]])
    grid = Table.grid(padding=(0, 1))
    name = line["id"] + (f" for {line['module']}" if line["module"] else "")
    text = Text(line["says"], style=style) if applies else Text.assemble((name, "bold"), f": {line['because']}")
    grid.add_row(Text(f"  {mark}", style=style), text)
    return Group(grid, *(_indented(Text(note, style="dim"), 4) for note in line["notes"]))


def _reasons(line: dict[str, Any]) -> Iterator[RenderableType]:
    for name, title in (("condition", "its condition"), ("scope", "the scope of its author")):
        if line[name] is not None:
            yield _indented(Text(f"{title}:", style="dim"), 4)
            yield from _terms(line[name], depth=6)
    yield from (_event(event, depth=4) for event in line["events"])


def _terms(term: dict[str, Any], *, depth: int) -> Iterator[RenderableType]:
    truth = term["truth"]
    for joined in ("and", "or"):
        if joined in term:
            yield _indented(_truth(f"{'all' if joined == 'and' else 'any'} of", truth), depth)
            for operand in term[joined]:
                yield from _terms(operand, depth=depth + 2)
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
    text = f"'{value}'" if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text if term["comparable"] else f"{text}, a {term['found']}"


def _sides(contest: dict[str, Any]) -> set[str]:
    return {side["deployment"] for side in (contest["winner"], *contest["losers"])}


def _contests(contests: list[dict[str, Any]]) -> Table:
    rows = (
        (
            contest["module"],
            contest["path"].removeprefix("properties.desired."),
            contest["winner"]["deployment"],
            contest["winner"]["value"],
            ", ".join(f"{side['deployment']}: {side['value']}" for side in contest["losers"]),
        )
        for contest in contests
    )
    return table(rows, "module", "property", "has it", "value", "over")


def _event(event: dict[str, Any], *, depth: int = 2, style: str = "") -> RenderableType:
    return _indented(Text(event["says"], style=style), depth)


def _head(title: str) -> Text:
    return Text(f"\n{title}", style="bold")


def _indented(what: RenderableType, depth: int = 2) -> RenderableType:
    return Padding(what, (0, 0, 0, depth), expand=False)
