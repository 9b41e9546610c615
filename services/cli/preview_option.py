"""`--preview` and `--preview-token`: show what a command would do before it does it."""

import sys
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from events.canonical import Json
from events.number_text import counted
from events.rich_console import console
from events.terminal import print_lines
from services.cli.client import Api, json_text
from services.cli.readiness import summary

Preview = Annotated[
    bool, typer.Option("--preview", help="Show what would change. At a terminal, ask whether to do it.")
]
Token = Annotated[
    str | None,
    typer.Option("--preview-token", help="Make the change only if its effect is still what a preview showed."),
]

# A preview of a large change has to fit the screen on which the question follows; the API's answer can have more.
_DIFFERENCES_SHOWN = 12
_DEPLOYMENTS_SHOWN = 20
_VALUE_CHARACTERS = 60
_SIGNS = {"removed": ("-", "red"), "changed": ("~", "yellow"), "added": ("+", "green")}


class PreviewChoice(NamedTuple):
    """The values of the two flags: preview first, or the token of an earlier preview."""

    first: bool = False
    token: str | None = None


def write(api: Api, method: str, path: str, choice: PreviewChoice, *, body: Json = None, any_etag: bool = False) -> Any:
    """Send a write and return the answer; with `--preview` only after it is shown and the user agrees.

    Raises:
        typer.Exit: the change was only shown.
        ApiRefused, ApiUnavailable: as `Api.call`.
    """
    token = choice.token
    if choice.first:
        preview = api.call(method, path, body=body, any_etag=any_etag, params={"preview": "true"})
        console().print(rendered(preview))
        token = preview["token"]
        # A script cannot answer, and a default of yes would change the fleet unseen.
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            print_lines(f"nothing is changed; to make this change: --preview-token {token}")
            raise typer.Exit
        if not typer.confirm("Make this change?", default=False):
            print_lines("nothing is changed")
            raise typer.Exit
    # With the token the API refuses the write if its effect is no longer what was shown (docs/decisions/0028-preview.md).
    headers = {} if token is None else {"Twinfold-Preview": token}
    answer = api.call(method, path, body=body, any_etag=any_etag, headers=headers)
    if (between := api.headers.get("twinfold-preview-between", "none")) != "none":
        print_lines(f"events since the preview did not change its effect: {between}")
    return answer


def rendered(preview: dict[str, Any]) -> RenderableType:
    """A preview for people: the summary first, then the changes, then notes."""
    parts: list[RenderableType] = [Text(line, style="bold") for line in preview["says"]]
    if preview["changesNothing"]:
        parts.append(Text("the command would write nothing"))
    parts += [
        Text(f"line {line['line']} would be refused: {line['error']}", style="red") for line in preview["refused"]
    ]
    if preview["deployments"]:
        parts.append(_deployments(preview["deployments"]))
    for change in preview["changes"]:
        parts += _change(change)
    if preview["moreChanges"]:
        parts.append(Text(f"… and {preview['moreChanges']} more changes of configurations"))
    parts += [
        Text(f"over a limit: {reason['reason']}: {_listed(reason)} would keep what they have", style="red")
        for reason in preview["reasons"]
    ]
    parts += [
        Text(f"rollout {rollout['deployment']}: {rollout['says']}: {_listed(rollout['admitted'])}")
        for rollout in preview["rollouts"]
    ]
    parts += [
        Text(
            f"conflict: {conflict['module']} {conflict['path']}: {conflict['winner']} goes before {', '.join(conflict['losers'])}"
        )
        for conflict in preview["conflicts"]
    ]
    for report in preview["readiness"]:
        parts += [Text(f"{report['deployment']}: {line}") for line in summary(report["findings"])]
    parts += [Text(f"note: {note['message']}") for note in preview["advice"]]
    return Group(*parts)


def _deployments(deployments: list[dict[str, Any]]) -> Table:
    table = Table("deployment")
    for column in ("gets it", "loses it", "newly targeted", "no more targeted"):
        table.add_column(column, justify="right")
    for deployment in deployments[:_DEPLOYMENTS_SHOWN]:
        counts = (str(deployment[part]["devices"] or "-") for part in ("gained", "lost", "targeted", "untargeted"))
        table.add_row(deployment["id"], *counts)
    if (more := len(deployments) - _DEPLOYMENTS_SHOWN) > 0:
        table.add_row(f"… and {more} more")
    return table


def _change(change: dict[str, Any]) -> list[Text]:
    twin = {None: "", "device": " (own twin)"}.get(change["module"], f" (module {change['module']})")
    lines = [Text(f"{_listed(change)}{twin}:", style="bold")]
    for difference in change["differences"][:_DIFFERENCES_SHOWN]:
        sign, style = _SIGNS[difference["how"]]
        values = [
            _value(difference[side])
            for side in ("before", "after")
            if difference["how"] != {"before": "added"}.get(side, "removed")
        ]
        lines.append(
            Text(
                f"  {sign} {difference['module']} {difference['path'] or '(all of it)'}: {' → '.join(values)}",
                style=style,
            )
        )
    more = change["moreDifferences"] + max(0, len(change["differences"]) - _DIFFERENCES_SHOWN)
    return [*lines, Text(f"  … and {more} more properties")] if more else lines


def _listed(listed: dict[str, Any]) -> str:
    count, examples = listed["devices"], listed["examples"]
    more = ", …" if count > len(examples) else ""
    return counted(count, "device") + (f" ({', '.join(examples)}{more})" if examples else "")


def _value(value: Json) -> str:
    text = value if isinstance(value, str) else json_text(value)
    return text if len(text) <= _VALUE_CHARACTERS else f"{text[:_VALUE_CHARACTERS]}…"
