"""`twinfold group`: groups of devices that updates are deployed to."""

from typing import Annotated, Any

import typer
from rich.table import Table

from events.number_text import counted
from events.terminal import print_lines
from services.cli.client import Api, ApiUrl, AsJson, At, quoted, show_answer, show_json

app = typer.Typer(no_args_is_help=True, help="Groups of devices that updates are deployed to.")

Name = Annotated[str, typer.Argument(help="The group's name, which is the value of the tag ADUGroup on its devices.")]


@app.command("list")
def list_(*, at: At = None, api_url: ApiUrl = None, json: AsJson = False) -> None:
    """List the groups with their number of devices and their active deployment.

    Example: twinfold group list
    """
    show_answer(lambda: Api(api_url, at=at).call("GET", "/v1/groups"), _table, json=json)


def _table(groups: list[dict[str, Any]]) -> Table:
    table = Table("group", "condition", "devices", "active deployment")
    for group in groups:
        table.add_row(group["group"], group["condition"], str(group["devices"]), group["active"] or "-")
    return table


@app.command()
def show(name: Name, *, at: At = None, api_url: ApiUrl = None) -> None:
    """Show a group as JSON.

    Example: twinfold group show north
    """
    show_json(Api(api_url, at=at).call("GET", f"/v1/groups/{quoted(name)}"))


@app.command()
def define(
    name: Name,
    *,
    condition: Annotated[
        str,
        typer.Option(
            help="Condition that selects its devices, as in: tags.site = 'north'. The default is the tag ADUGroup."
        ),
    ] = "",
    priority: Annotated[int | None, typer.Option(help="Priority of the deployments of its updates.")] = None,
    api_url: ApiUrl = None,
) -> None:
    """Define which devices are in a group. This requires that no deployment of the group is active.

    Example: twinfold group define north --condition "tags.site = 'north'"
    """
    body = {"condition": condition, **({} if priority is None else {"priority": priority})}
    group = Api(api_url).call("PUT", f"/v1/groups/{quoted(name)}", body=body)
    print_lines(f"{name} has {counted(group['devices'], 'device')}: {group['condition']}")


@app.command()
def remove(name: Name, *, api_url: ApiUrl = None) -> None:
    """Remove a group and its past deployments. This requires that no deployment of the group is active.

    Example: twinfold group remove north
    """
    Api(api_url).call("DELETE", f"/v1/groups/{quoted(name)}")
    print_lines(f"{name} is removed")
