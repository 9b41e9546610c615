"""`twinfold readiness` and `waiver`: whether configurations are ready for production, and which findings are accepted."""

from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from events.canonical import JsonObject
from events.terminal import print_lines
from services.cli.client import Limit, PlainApi, ReadApi, quoted, table
from services.cli.commands import CommandGroup, argument, command, flag

waiver = CommandGroup(no_args_is_help=True, help="Waivers: findings that are accepted for a time.")

_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}

Name = Annotated[str, argument("The waiver's id.")]


@command(example="readiness --rule privileged")
def readiness(
    device: Annotated[str | None, argument("A device's id. Lists all findings of that device.")] = None,
    *,
    rule: Annotated[str | None, flag("List the devices with findings of this rule, one a line.")] = None,
    waived: Annotated[bool, flag("With --rule: list the devices with waived findings instead.", "--waived")] = False,
    limit: Limit = 1000,
    api: ReadApi,
) -> None:
    """Show the number of devices with findings of each rule; with a device its findings, with --rule the devices."""
    if device is not None and rule is not None:
        raise typer.BadParameter("give a device or --rule, not both")
    if rule is not None:
        which = {"which": "waived" if waived else "found"}
        device_ids = api.pages(f"/v1/readiness/{quoted(rule)}", limit=limit, params=which)
        api.show_lines(device_ids, empty=f"no device has a finding of {rule}")
    elif device is None:
        api.show("/v1/readiness", _score)
    else:
        api.show(f"/v1/devices/{quoted(device)}/readiness", _report)


def summary(findings: list[JsonObject]) -> list[str]:
    """A line for each severity: its rules, each with its number of findings."""
    lines = []
    for severity in _STYLES:
        rules = [finding["rule"] for finding in findings if finding["severity"] == severity]
        if rules:
            lines.append(f"{severity}: " + ", ".join(f"{rule} ({rules.count(rule)})" for rule in dict.fromkeys(rules)))
    return lines


def _score(answer: JsonObject) -> RenderableType:
    rows = (
        (_severity(rule), rule["rule"], rule["title"], rule["devices"], f"{rule['share']:.1%}", rule["waived"])
        for rule in answer["rules"]
        if rule["devices"] or rule["waived"]
    )
    title = f"{answer['devices']} devices, {answer['profile']}"
    numbers = ("devices", "share", "waived")
    return Group(table(rows, "severity", "rule", "", *numbers, right=numbers, title=title), *_expired(answer))


def _report(answer: JsonObject) -> RenderableType:
    rows = [
        (_severity(finding), finding["rule"], finding["document"], finding["message"]) for finding in answer["findings"]
    ]
    for waived in answer["waived"]:
        finding, by = waived["finding"], _waiver_text(waived["waiver"])
        rows.append((Text("waived", "dim"), finding["rule"], finding["document"], f"{finding['message']} ({by})"))
    title = f"{answer['deviceId']}, {answer['profile']}"
    return Group(table(rows, "severity", "rule", "written in", "finding", title=title), *_expired(answer))


def _severity(of: JsonObject) -> Text:
    return Text(of["severity"], _STYLES[of["severity"]])


def _expired(answer: JsonObject) -> list[Text]:
    return [Text(f"expired: {_waiver_text(waiver)}", "magenta") for waiver in answer["expired"]]


def _waiver_text(waiver: JsonObject) -> str:
    of = "".join(f" of {waiver[name]}" for name in ("module", "deployment") if waiver[name])
    return f"waiver {waiver['id']} for {waiver['rule']}{of}, by {waiver['who']} until {waiver['until']}: {waiver['reason']}"


@waiver.command("list", example="waiver list")
def list_waivers(*, api: ReadApi) -> None:
    """List the waivers. An expired one is listed until it is withdrawn."""
    api.show("/v1/waivers", _waivers)


def _waivers(waivers: list[JsonObject]) -> Table:
    rows = (
        (
            *(waiver[name] or "any" for name in ("id", "rule", "module", "deployment")),
            Text(f"{waiver['until']} (expired)", "magenta") if waiver["expired"] else waiver["until"],
            waiver["who"],
            waiver["reason"],
        )
        for waiver in waivers
    )
    return table(rows, "waiver", "rule", "module", "deployment", "until", "who", "reason")


@waiver.command(
    example='waiver grant press privileged --module driver --reason "until its next release" --until 2027-03-31'
)
def grant(
    name: Name,
    rule: Annotated[
        str, argument("The rule whose findings are accepted; docs/reference/readiness.md lists the rules.")
    ],
    *,
    reason: Annotated[str, flag("Why the findings are accepted.")],
    until: Annotated[str, flag("Last day of the waiver (UTC), as in 2027-03-31.")],
    module: Annotated[str | None, flag("Only findings of this module.")] = None,
    deployment: Annotated[str | None, flag("Only findings on content of this deployment.")] = None,
    api: PlainApi,
) -> None:
    """Accept findings of a rule for a time, or change a waiver. You are recorded as its author."""
    body = {"rule": rule, "reason": reason, "until": until, "module": module, "deployment": deployment}
    api.call("PUT", f"/v1/waivers/{quoted(name)}", body=body)
    print_lines(f"{name} is granted until {until}")


@waiver.command(example="waiver withdraw press")
def withdraw(name: Name, *, api: PlainApi) -> None:
    """Withdraw a waiver. Its findings count again."""
    api.call("DELETE", f"/v1/waivers/{quoted(name)}")
    print_lines(f"{name} is withdrawn")
