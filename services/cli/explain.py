"""`twinfold explain`: why a device has its configuration, and why deployments do not apply to it."""

from collections.abc import Iterator
from typing import Annotated

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from events.canonical import JsonObject
from services.cli.client import AnswerApi, given, quoted, table
from services.cli.commands import argument, command, flag

_APPLIES = {"base", "layer", "applies"}
_STYLES = {"not applied": "yellow", "not decided yet": "yellow", "not targeted": "dim"}
_MARKS = {"not applied": "~", "not decided yet": "?", "not targeted": "-"}
_TRUTHS = {"true": "green", "false": "red", "unknown": "yellow"}
# Most deployments of a large system target other devices, and say nothing about this one.
_NOT_TARGETING_SHOWN_MAX = 20


@command(example="explain edge-7 --deployment prod-9")
def explain(
    device_id: Annotated[str, argument("The device's id.", metavar="DEVICE")],
    *,
    deployment: Annotated[
        str | None, flag("Explain only this deployment, with all terms of its condition.", "--deployment", "-d")
    ] = None,
    at: Annotated[str | None, flag("Read a past state: a time, or a position of the log.")] = None,
    read_back: Annotated[int | None, flag("Number of past events to search for causes.", min=0)] = None,
    everything: Annotated[bool, flag("List all deployments that do not target the device.", "--all")] = False,
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


def _page(answer: JsonObject, *, in_full: bool, not_targeting_max: int | None) -> Iterator[RenderableType]:
    yield Text(answer["says"], style="bold")
    at = answer["asOf"]
    if at["blocked"] is not None:
        why = at["blocked"]["error"] or "ask the operator of this system"
        yield Text(f"{at['stream']} is stopped at {at['blocked']['at']}: {why}", style="red")
    if at["isBehind"]:
        heads = at["heads"]
        text = (
            f"as of {at['stream']}:{at['partition']} and fleet:{at['fleet']}; the log is at {heads['partition']} and "
            f"{heads['fleet']}, and workers have not applied the rest yet"
        )
        yield Text(text, style="yellow")
    yield from (_indented(event["says"], style="yellow") for event in answer["undecided"])
    yield from _deployments(answer["deployments"], in_full=in_full, not_targeting_max=not_targeting_max)
    contests = answer["contests"]
    if in_full:
        shown_ids = {line["id"] for line in answer["deployments"]}
        contests = [contest for contest in contests if shown_ids & _sides(contest)]
    if contests:
        yield _head("Properties that deployments set differently")
        yield _indented(_contests(contests))
    runs, reported = answer["runs"], answer["reported"]
    if runs is not None and runs["causes"]:
        yield _head("Events that led to its configuration")
        yield from (_indented(event["says"]) for event in runs["causes"])
    if reported is not None:
        yield _head("Reported by the device")
        yield _indented(reported["says"], style="" if reported["status"] == "healthy" else "yellow")
    if answer["events"]:
        yield _head("Events of the device")
        yield from (_indented(event["says"]) for event in answer["events"])
    if answer["readBackTo"]:
        text = f"events before {at['stream']}:{answer['readBackTo']} were not searched; --read-back searches more"
        yield Text(f"\n{text}", style="dim")


def _deployments(lines: list[JsonObject], *, in_full: bool, not_targeting_max: int | None) -> Iterator[RenderableType]:
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
                for name, heading in (("condition", "its condition"), ("scope", "the scope of its author")):
                    if line[name] is not None:
                        yield _indented(f"{heading}:", 4, style="dim")
                        yield from _terms(line[name], depth=6)
                yield from (_indented(event["says"], 4) for event in line["events"])
        if hidden := len(section) - len(section[:shown_max]):
            yield _indented(f"and {hidden} more; --all shows them, --deployment one in full", style="dim")


def _verdict(line: JsonObject) -> RenderableType:
    applies = line["verdict"] in _APPLIES
    mark, style = ("+", "green") if applies else (_MARKS[line["verdict"]], _STYLES[line["verdict"]])
    grid = Table.grid(padding=(0, 1))
    name = line["id"] + (f" for {line['module']}" if line["module"] else "")
    text = Text(line["says"], style=style) if applies else Text.assemble((name, "bold"), f": {line['because']}")
    grid.add_row(Text(f"  {mark}", style=style), text)
    return Group(grid, *(_indented(note, 4, style="dim") for note in line["notes"]))


def _terms(term: JsonObject, *, depth: int) -> Iterator[RenderableType]:
    truth = term["truth"]
    for joined, title in (("and", "all of"), ("or", "any of"), ("not", "not")):
        if joined in term:
            yield _indented(_truth(title, truth), depth)
            operands = [term["not"]] if joined == "not" else term[joined]
            for operand in operands:
                yield from _terms(operand, depth=depth + 2)
            return
    line = _truth(term["text"], truth)
    if "found" in term:
        line.append(f"  it is {_value(term)}", style="dim" if truth == "true" else "")
    yield _indented(line, depth)


def _truth(text: str, truth: str) -> Text:
    return Text.assemble(text, "  ", (truth, _TRUTHS[truth]))


def _value(term: JsonObject) -> str:
    if term["found"] == "missing":
        return "missing"
    value = term["value"]
    text = f"'{value}'" if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text if term["comparable"] else f"{text}, a {term['found']}"


def _sides(contest: JsonObject) -> set[str]:
    return {side["deployment"] for side in (contest["winner"], *contest["losers"])}


def _contests(contests: list[JsonObject]) -> Table:
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


def _head(title: str) -> Text:
    return Text(f"\n{title}", style="bold")


def _indented(what: RenderableType, depth: int = 2, *, style: str = "") -> RenderableType:
    return Padding(Text(what, style=style) if isinstance(what, str) else what, (0, 0, 0, depth), expand=False)
