"""`twinfold readiness`: whether what devices run is fit for production, rule by rule, or all of one device."""

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from events.rich_console import console
from events.terminal import print_lines
from services.cli.client import Api, ApiUrl, AsJson, At, quoted, show_json

_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def readiness(
    device: Annotated[str | None, typer.Argument(help="A device's id, for all there is to say of it.")] = None,
    *,
    rule: Annotated[str | None, typer.Option(help="The devices that a rule stops at, one a line.")] = None,
    waived: Annotated[bool, typer.Option("--waived", help="With --rule: those of waived findings instead.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="With --rule: at most so many.")] = 1000,
    at: At = None,
    api_url: ApiUrl = None,
    json: AsJson = False,
) -> None:
    """How many devices each rule stops at; with a device, its findings, and with a rule, its devices.

    Example: twinfold readiness --rule privileged
    """
    if device is not None and rule is not None:
        raise typer.BadParameter("a device, or --rule; not both")
    api = Api(api_url, at=at)
    if rule is not None:
        which = {"which": "waived" if waived else "found"}
        found = list(api.pages(f"/v1/readiness/{quoted(rule)}", limit=limit, params=which))
        if json:
            show_json(found)
        else:
            print_lines(*(found or [f"{rule} stops at no device"]))
        return
    path = "/v1/readiness" if device is None else f"/v1/devices/{quoted(device)}/readiness"
    told = api.call("GET", path)
    if json:
        show_json(told)
        return
    console().print(_score(told) if device is None else _report(told))
    for waiver in told["expired"]:
        console().print(Text(f"expired: {waiver_text(waiver)}", "magenta"))


def waiver_text(waiver: dict[str, Any]) -> str:
    """A waiver in a line."""
    of = "".join(f" of {waiver[name]}" for name in ("module", "deployment") if waiver[name])
    return f"waiver {waiver['id']} for {waiver['rule']}{of}, by {waiver['who']} until {waiver['until']}: {waiver['reason']}"


def summary(findings: list[dict[str, Any]]) -> list[str]:
    """A line for each severity: its rules, each with how many findings it has."""
    lines = []
    for severity in _STYLES:
        rules = [one["rule"] for one in findings if one["severity"] == severity]
        if rules:
            lines.append(f"{severity}: " + ", ".join(f"{rule} ({rules.count(rule)})" for rule in dict.fromkeys(rules)))
    return lines


def _score(told: dict[str, Any]) -> Table:
    table = Table("severity", "rule", "", title=f"{told['devices']} devices, {told['profile']}", title_justify="left")
    for column in ("devices", "share", "waived"):
        table.add_column(column, justify="right")
    for one in told["rules"]:
        if one["devices"] or one["waived"]:
            severity = Text(one["severity"], _STYLES[one["severity"]])
            counts = (str(one["devices"]), f"{one['share']:.1%}", str(one["waived"]))
            table.add_row(severity, one["rule"], one["title"], *counts)
    return table


def _report(told: dict[str, Any]) -> Table:
    table = Table(
        "severity",
        "rule",
        "written in",
        "finding",
        title=f"{told['deviceId']}, {told['profile']}",
        title_justify="left",
    )
    for one in told["findings"]:
        table.add_row(Text(one["severity"], _STYLES[one["severity"]]), *_cells(one))
    for one in told["waived"]:
        rule, document, message = _cells(one["finding"])
        table.add_row(Text("waived", "dim"), rule, document, Text.assemble(message, f" ({waiver_text(one['waiver'])})"))
    return table


def _cells(finding: dict[str, Any]) -> tuple[Text, Text, Text]:
    return Text(finding["rule"]), Text(finding["document"]), Text(finding["message"])
