"""`twinfold waiver`: decisions that findings may stand, with an author, a reason and an end."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from events.rich_console import console
from events.terminal import print_lines
from services.cli.client import Api, ApiUrl, AsJson, At, quoted, show_json

app = typer.Typer(no_args_is_help=True, help="Waivers: decisions that findings may stand for a time.")

Name = Annotated[str, typer.Argument(help="The waiver's id.")]


@app.command("list")
def list_(*, at: At = None, api_url: ApiUrl = None, json: AsJson = False) -> None:
    """The waivers; expired ones stand until they are withdrawn.

    Example: twinfold waiver list
    """
    waivers = Api(api_url, at=at).call("GET", "/v1/waivers")
    if json:
        show_json(waivers)
        return
    table = Table("waiver", "rule", "module", "deployment", "until", "who", "reason")
    for waiver in waivers:
        until = Text(waiver["until"]) if not waiver["expired"] else Text(f"{waiver['until']} (expired)", "magenta")
        cells = (Text(waiver[name] or "any") for name in ("id", "rule", "module", "deployment"))
        table.add_row(*cells, until, Text(waiver["who"]), Text(waiver["reason"]))
    console().print(table)


@app.command()
def grant(
    name: Name,
    rule: Annotated[
        str, typer.Argument(help="The rule whose findings may stand, as docs/reference/readiness.md lists them.")
    ],
    *,
    reason: Annotated[str, typer.Option(help="Why.")],
    until: Annotated[str, typer.Option(help="The last day (UTC), as in 2027-03-31.")],
    module: Annotated[str | None, typer.Option(help="Those of this module alone.")] = None,
    deployment: Annotated[str | None, typer.Option(help="Those on what this deployment wrote alone.")] = None,
    api_url: ApiUrl = None,
) -> None:
    """Let findings of a rule stand for a time, or change the terms; you are who decided.

    Example: twinfold waiver grant press privileged --module driver --reason "until its next release" --until 2027-03-31
    """
    body = {"rule": rule, "reason": reason, "until": until, "module": module, "deployment": deployment}
    Api(api_url).call("PUT", f"/v1/waivers/{quoted(name)}", body=body)
    print_lines(f"{name} is granted until {until}")


@app.command()
def withdraw(name: Name, *, api_url: ApiUrl = None) -> None:
    """Take a waiver back: its findings count again.

    Example: twinfold waiver withdraw press
    """
    Api(api_url).call("DELETE", f"/v1/waivers/{quoted(name)}")
    print_lines(f"{name} is withdrawn")
