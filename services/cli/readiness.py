"""`twinfold readiness`: whether the configurations of devices are ready for production, by rule or for one device."""

from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.cli.client import Api, ApiUrl, AsJson, At, Limit, quoted, show_answer, show_lines

_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def readiness(
    device: Annotated[str | None, typer.Argument(help="A device's id. Lists all findings of that device.")] = None,
    *,
    rule: Annotated[str | None, typer.Option(help="List the devices with findings of this rule, one a line.")] = None,
    waived: Annotated[
        bool, typer.Option("--waived", help="With --rule: list the devices with waived findings instead.")
    ] = False,
    limit: Limit = 1000,
    at: At = None,
    api_url: ApiUrl = None,
    json: AsJson = False,
) -> None:
    """Show the number of devices with findings of each rule; with a device its findings, with --rule the devices.

    Example: twinfold readiness --rule privileged
    """
    if device is not None and rule is not None:
        raise typer.BadParameter("give a device or --rule, not both")
    api = Api(api_url, at=at)
    if rule is not None:
        which = {"which": "waived" if waived else "found"}
        device_ids = api.pages(f"/v1/readiness/{quoted(rule)}", limit=limit, params=which)
        show_lines(device_ids, json=json, empty=f"no device has a finding of {rule}")
        return
    path = "/v1/readiness" if device is None else f"/v1/devices/{quoted(device)}/readiness"
    show_answer(lambda: api.call("GET", path), _score if device is None else _report, json=json)


def waiver_text(waiver: dict[str, Any]) -> str:
    """A waiver as a line of text."""
    of = "".join(f" of {waiver[name]}" for name in ("module", "deployment") if waiver[name])
    return f"waiver {waiver['id']} for {waiver['rule']}{of}, by {waiver['who']} until {waiver['until']}: {waiver['reason']}"


def summary(findings: list[dict[str, Any]]) -> list[str]:
    """A line for each severity: its rules, each with its number of findings."""
    lines = []
    for severity in _STYLES:
        rules = [finding["rule"] for finding in findings if finding["severity"] == severity]
        if rules:
            lines.append(f"{severity}: " + ", ".join(f"{rule} ({rules.count(rule)})" for rule in dict.fromkeys(rules)))
    return lines


def _score(answer: dict[str, Any]) -> RenderableType:
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
    return Group(table, *_expired(answer))


def _report(answer: dict[str, Any]) -> RenderableType:
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
    return Group(table, *_expired(answer))


def _expired(answer: dict[str, Any]) -> list[Text]:
    return [Text(f"expired: {waiver_text(waiver)}", "magenta") for waiver in answer["expired"]]


def _cells(finding: dict[str, Any]) -> tuple[Text, Text, Text]:
    return Text(finding["rule"]), Text(finding["document"]), Text(finding["message"])
