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
        device_ids = list(api.pages(f"/v1/readiness/{quoted(rule)}", limit=limit, params=which))
        if json:
            show_json(device_ids)
        else:
            print_lines(*(device_ids or [f"{rule} stops at no device"]))
        return
    path = "/v1/readiness" if device is None else f"/v1/devices/{quoted(device)}/readiness"
    answer = api.call("GET", path)
    if json:
        show_json(answer)
        return
    console().print(_score(answer) if device is None else _report(answer))
    for waiver in answer["expired"]:
        console().print(Text(f"expired: {waiver_text(waiver)}", "magenta"))


def waiver_text(waiver: dict[str, Any]) -> str:
    """A waiver in a line."""
    of = "".join(f" of {waiver[name]}" for name in ("module", "deployment") if waiver[name])
    return f"waiver {waiver['id']} for {waiver['rule']}{of}, by {waiver['who']} until {waiver['until']}: {waiver['reason']}"


def summary(findings: list[dict[str, Any]]) -> list[str]:
    """A line for each severity: its rules, each with how many findings it has."""
    lines = []
    for severity in _STYLES:
        rules = [finding["rule"] for finding in findings if finding["severity"] == severity]
        if rules:
            lines.append(f"{severity}: " + ", ".join(f"{rule} ({rules.count(rule)})" for rule in dict.fromkeys(rules)))
    return lines


def _score(answer: dict[str, Any]) -> Table:
    table = Table(
        "severity", "rule", "", title=f"{answer['devices']} devices, {answer['profile']}", title_justify="left"
    )
    for column in ("devices", "share", "waived"):
        table.add_column(column, justify="right")
    for rule in answer["rules"]:
        if rule["devices"] or rule["waived"]:
            severity = Text(rule["severity"], _STYLES[rule["severity"]])
            counts = (str(rule["devices"]), f"{rule['share']:.1%}", str(rule["waived"]))
            table.add_row(severity, rule["rule"], rule["title"], *counts)
    return table


def _report(answer: dict[str, Any]) -> Table:
    table = Table(
        "severity",
        "rule",
        "written in",
        "finding",
        title=f"{answer['deviceId']}, {answer['profile']}",
        title_justify="left",
    )
    for finding in answer["findings"]:
        table.add_row(Text(finding["severity"], _STYLES[finding["severity"]]), *_cells(finding))
    for finding in answer["waived"]:
        rule, document, message = _cells(finding["finding"])
        table.add_row(
            Text("waived", "dim"), rule, document, Text.assemble(message, f" ({waiver_text(finding['waiver'])})")
        )
    return table


def _cells(finding: dict[str, Any]) -> tuple[Text, Text, Text]:
    return Text(finding["rule"]), Text(finding["document"]), Text(finding["message"])
