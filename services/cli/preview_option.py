"""`--preview` and `--preview-token`: show what a command would do before it does it."""

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from events.canonical import Json, JsonObject
from events.number_text import counted
from events.rich_console import console
from events.terminal import print_lines
from services.cli.client import Api, ApiUrl, json_text, table
from services.cli.commands import From, flag
from services.cli.readiness import summary

Preview = Annotated[bool, flag("Show what would change. At a terminal, ask whether to do it.", "--preview")]
Token = Annotated[str | None, flag("Make the change only if its effect is still what a preview showed.")]

# A preview of a large change has to fit the screen on which the question follows; the API's answer can have more.
_DIFFERENCES_SHOWN = 12
_DEPLOYMENTS_SHOWN = 20
_VALUE_CHARACTERS = 60
_SIGNS = {"removed": ("-", "red"), "changed": ("~", "yellow"), "added": ("+", "green")}


WriteApi = Annotated[Api, From(Api, preview=Preview, preview_token=Token, api_url=ApiUrl)]


def write(api: Api, method: str, path: str, *, body: Json = None, headers: dict[str, str] | None = None) -> Any:
    """Send a write and return the answer; with `--preview` only after it is shown and the user agrees.

    Raises:
        typer.Exit: the change was only shown.
        ApiRefused, ApiUnavailable: as `Api.call`.
    """
    token = api.preview_token
    if api.preview:
        preview = api.call(method, path, body=body, headers=headers, params={"preview": "true"})
        console().print(Group(*_parts(preview)))
        token = preview["token"]
        # A script cannot answer, and a default of yes would change the fleet unseen.
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            print_lines(f"nothing is changed; to make this change: --preview-token {token}")
            raise typer.Exit
        if not typer.confirm("Make this change?", default=False):
            print_lines("nothing is changed")
            raise typer.Exit
    # With the token the API refuses the write if its effect is no longer what was shown (docs/decisions/0028-preview.md).
    with_token = {} if token is None else {"Twinfold-Preview": token}
    answer = api.call(method, path, body=body, headers=(headers or {}) | with_token)
    if (between := api.headers.get("twinfold-preview-between", "none")) != "none":
        print_lines(f"events since the preview did not change its effect: {between}")
    return answer


def _parts(preview: JsonObject) -> Iterator[RenderableType]:
    """A preview for people: the summary first, then the changes, then notes."""
    yield from (Text(line, style="bold") for line in preview["says"])
    if preview["changesNothing"]:
        yield Text("the command would write nothing")
    for line in preview["refused"]:
        yield Text(f"line {line['line']} would be refused: {line['error']}", style="red")
    if preview["deployments"]:
        yield _deployments(preview["deployments"])
    for change in preview["changes"]:
        yield from _change(change)
    if preview["moreChanges"]:
        yield Text(f"… and {preview['moreChanges']} more changes of configurations")
    for reason in preview["reasons"]:
        yield Text(f"over a limit: {reason['reason']}: {_listed(reason)} would keep what they have", style="red")
    for rollout in preview["rollouts"]:
        yield Text(f"rollout {rollout['deployment']}: {rollout['says']}: {_listed(rollout['admitted'])}")
    for conflict in preview["conflicts"]:
        over = f"{conflict['winner']} goes before {', '.join(conflict['losers'])}"
        yield Text(f"conflict: {conflict['module']} {conflict['path']}: {over}")
    for report in preview["readiness"]:
        yield from (Text(f"{report['deployment']}: {line}") for line in summary(report["findings"]))
    yield from (Text(f"note: {note['message']}") for note in preview["advice"])


def _deployments(deployments: list[JsonObject]) -> Table:
    rows: list[list[object]] = [
        [
            deployment["id"],
            *(deployment[part]["devices"] or "-" for part in ("gained", "lost", "targeted", "untargeted")),
        ]
        for deployment in deployments[:_DEPLOYMENTS_SHOWN]
    ]
    if (more := len(deployments) - _DEPLOYMENTS_SHOWN) > 0:
        rows.append([f"… and {more} more"])
    numbers = ("gets it", "loses it", "newly targeted", "no more targeted")
    return table(rows, "deployment", *numbers, right=numbers)


def _change(change: JsonObject) -> Iterator[Text]:
    twin = {None: "", "device": " (own twin)"}.get(change["module"], f" (module {change['module']})")
    yield Text(f"{_listed(change)}{twin}:", style="bold")
    for difference in change["differences"][:_DIFFERENCES_SHOWN]:
        how, where = difference["how"], f"{difference['module']} {difference['path'] or '(all of it)'}"
        sides = {"added": ["after"], "removed": ["before"]}.get(how, ["before", "after"])
        sign, style = _SIGNS[how]
        yield Text(f"  {sign} {where}: {' → '.join(_value(difference[side]) for side in sides)}", style=style)
    more = change["moreDifferences"] + max(0, len(change["differences"]) - _DIFFERENCES_SHOWN)
    if more:
        yield Text(f"  … and {more} more properties")


def _listed(listed: JsonObject) -> str:
    count, examples = listed["devices"], listed["examples"]
    more = ", …" if count > len(examples) else ""
    return counted(count, "device") + (f" ({', '.join(examples)}{more})" if examples else "")


def _value(value: Json) -> str:
    text = value if isinstance(value, str) else json_text(value)
    return text if len(text) <= _VALUE_CHARACTERS else f"{text[:_VALUE_CHARACTERS]}…"
