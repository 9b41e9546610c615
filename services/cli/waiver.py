"""`twinfold waiver`: findings that are accepted for a time, with an author and a reason."""

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from events.terminal import print_lines
from services.cli.client import Api, ApiUrl, AsJson, At, quoted, show_answer

app = typer.Typer(no_args_is_help=True, help="Waivers: findings that are accepted for a time.")

Name = Annotated[str, typer.Argument(help="The waiver's id.")]


@app.command("list")
def list_(*, at: At = None, api_url: ApiUrl = None, json: AsJson = False) -> None:
    """List the waivers. An expired one is listed until it is withdrawn.

    Example: twinfold waiver list
    """
    show_answer(lambda: Api(api_url, at=at).call("GET", "/v1/waivers"), _table, json=json)


def _table(waivers: list[dict[str, Any]]) -> Table:
    table = Table("waiver", "rule", "module", "deployment", "until", "who", "reason")
    for waiver in waivers:
        until = Text(waiver["until"]) if not waiver["expired"] else Text(f"{waiver['until']} (expired)", "magenta")
        cells = (Text(waiver[name] or "any") for name in ("id", "rule", "module", "deployment"))
        table.add_row(*cells, until, Text(waiver["who"]), Text(waiver["reason"]))
    return table


@app.command()
def grant(
    name: Name,
    rule: Annotated[
        str, typer.Argument(help="The rule whose findings are accepted; docs/reference/readiness.md lists the rules.")
    ],
    *,
    reason: Annotated[str, typer.Option(help="Why the findings are accepted.")],
    until: Annotated[str, typer.Option(help="Last day of the waiver (UTC), as in 2027-03-31.")],
    module: Annotated[str | None, typer.Option(help="Only findings of this module.")] = None,
    deployment: Annotated[str | None, typer.Option(help="Only findings on content of this deployment.")] = None,
    api_url: ApiUrl = None,
) -> None:
    """Accept findings of a rule for a time, or change a waiver. You are recorded as its author.

    Example: twinfold waiver grant press privileged --module driver --reason "until its next release" --until 2027-03-31
    """
    body = {"rule": rule, "reason": reason, "until": until, "module": module, "deployment": deployment}
    Api(api_url).call("PUT", f"/v1/waivers/{quoted(name)}", body=body)
    print_lines(f"{name} is granted until {until}")


@app.command()
def withdraw(name: Name, *, api_url: ApiUrl = None) -> None:
    """Withdraw a waiver. Its findings count again.

    Example: twinfold waiver withdraw press
    """
    Api(api_url).call("DELETE", f"/v1/waivers/{quoted(name)}")
    print_lines(f"{name} is withdrawn")
