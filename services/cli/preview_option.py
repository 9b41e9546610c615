"""`--preview` and `--preview-token`: what a command would do, shown before it is done."""

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
    bool, typer.Option("--preview", help="Show what would happen; at a terminal, ask whether to do it.")
]
Token = Annotated[str | None, typer.Option("--preview-token", help="Do it only if it does what a preview showed.")]

_DIFFERENCES_SHOWN = 12
_DEPLOYMENTS_SHOWN = 20
_VALUE_CHARACTERS = 60
_SIGNS = {"removed": ("-", "red"), "changed": ("~", "yellow"), "added": ("+", "green")}


class PreviewChoice(NamedTuple):
    """What the flags say: to look first, or that somebody has looked."""

    first: bool = False
    token: str | None = None


def write(api: Api, method: str, path: str, look: PreviewChoice, *, body: Json = None, any_etag: bool = False) -> Any:
    """The answer to a write, once it was shown and agreed to where that was asked for.

    Raises:
        typer.Exit: it was only shown.
        ApiRefused, ApiUnavailable: as `Api.call`.
    """
    token = look.token
    if look.first:
        shown = api.call(method, path, body=body, any_etag=any_etag, params={"preview": "true"})
        console().print(rendered(shown))
        token = shown["token"]
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            print_lines(f"nothing is done; to do it: --preview-token {token}")
            raise typer.Exit
        if not typer.confirm("Do it?", default=False):
            print_lines("nothing is done")
            raise typer.Exit
    headers = {} if token is None else {"Twinfold-Preview": token}
    answer = api.call(method, path, body=body, any_etag=any_etag, headers=headers)
    if (between := api.headers.get("twinfold-preview-between", "none")) != "none":
        print_lines(f"events came in since the preview and changed nothing of it: {between}")
    return answer


def rendered(shown: dict[str, Any]) -> RenderableType:
    """What changes for how many first, then what it is, then what else there is to know."""
    parts: list[RenderableType] = [Text(line, style="bold") for line in shown["says"]]
    if shown["changesNothing"]:
        parts.append(Text("the command would write nothing"))
    parts += [Text(f"line {one['line']} would be refused: {one['error']}", style="red") for one in shown["refused"]]
    if shown["deployments"]:
        parts.append(_deployments(shown["deployments"]))
    for change in shown["changes"]:
        parts += _change(change)
    if shown["moreChanges"]:
        parts.append(Text(f"… and {shown['moreChanges']} more changes of configurations"))
    parts += [
        Text(f"over a limit: {one['reason']}: {_listed(one)} would keep what they have", style="red")
        for one in shown["reasons"]
    ]
    parts += [
        Text(f"rollout {one['deployment']}: {one['says']}: {_listed(one['admitted'])}") for one in shown["rollouts"]
    ]
    parts += [
        Text(f"conflict: {one['module']} {one['path']}: {one['winner']} goes before {', '.join(one['losers'])}")
        for one in shown["conflicts"]
    ]
    for report in shown["readiness"]:
        parts += [Text(f"{report['deployment']}: {line}") for line in summary(report["findings"])]
    parts += [Text(f"note: {one['message']}") for one in shown["advice"]]
    return Group(*parts)


def _deployments(deployments: list[dict[str, Any]]) -> Table:
    table = Table("deployment")
    for column in ("gets it", "loses it", "newly targeted", "no more targeted"):
        table.add_column(column, justify="right")
    for one in deployments[:_DEPLOYMENTS_SHOWN]:
        counts = (str(one[part]["devices"] or "-") for part in ("gained", "lost", "targeted", "untargeted"))
        table.add_row(one["id"], *counts)
    if (more := len(deployments) - _DEPLOYMENTS_SHOWN) > 0:
        table.add_row(f"… and {more} more")
    return table


def _change(change: dict[str, Any]) -> list[Text]:
    twin = {None: "", "device": " (own twin)"}.get(change["module"], f" (module {change['module']})")
    said = [Text(f"{_listed(change)}{twin}:", style="bold")]
    for one in change["differences"][:_DIFFERENCES_SHOWN]:
        sign, style = _SIGNS[one["how"]]
        values = [
            _value(one[side]) for side in ("before", "after") if one["how"] != {"before": "added"}.get(side, "removed")
        ]
        said.append(Text(f"  {sign} {one['module']} {one['path'] or '(all of it)'}: {' → '.join(values)}", style=style))
    more = change["moreDifferences"] + max(0, len(change["differences"]) - _DIFFERENCES_SHOWN)
    return [*said, Text(f"  … and {more} more properties")] if more else said


def _listed(listed: dict[str, Any]) -> str:
    count, examples = listed["devices"], listed["examples"]
    more = ", …" if count > len(examples) else ""
    return counted(count, "device") + (f" ({', '.join(examples)}{more})" if examples else "")


def _value(value: Json) -> str:
    text = value if isinstance(value, str) else json_text(value)
    return text if len(text) <= _VALUE_CHARACTERS else f"{text[:_VALUE_CHARACTERS]}…"
