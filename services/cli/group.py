"""`twinfold group`: groups of devices that updates are deployed to."""

from typing import Annotated, Any

import typer
from rich.table import Table

from events.number_text import counted
from events.terminal import print_lines
from services.cli.client import PastAnswerApi, PastApi, PlainApi, quoted, show_json, table
from services.cli.commands import CommandGroup

app = CommandGroup(no_args_is_help=True, help="Groups of devices that updates are deployed to.")

Name = Annotated[str, typer.Argument(help="The group's name, which is the value of the tag ADUGroup on its devices.")]


@app.command("list", example="twinfold group list")
def list_(*, api: PastAnswerApi) -> None:
    """List the groups with their number of devices and their active deployment."""
    api.show("/v1/groups", _table)


def _table(groups: list[dict[str, Any]]) -> Table:
    rows = ((group["group"], group["condition"], group["devices"], group["active"] or "-") for group in groups)
    return table(rows, "group", "condition", "devices", "active deployment")


@app.command(example="twinfold group show north")
def show(name: Name, *, api: PastApi) -> None:
    """Show a group as JSON."""
    show_json(api.call("GET", f"/v1/groups/{quoted(name)}"))


@app.command(example="twinfold group define north --condition \"tags.site = 'north'\"")
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
    api: PlainApi,
) -> None:
    """Define which devices are in a group. This requires that no deployment of the group is active."""
    body = {"condition": condition, **({} if priority is None else {"priority": priority})}
    group = api.call("PUT", f"/v1/groups/{quoted(name)}", body=body)
    print_lines(f"{name} has {counted(group['devices'], 'device')}: {group['condition']}")


@app.command(example="twinfold group remove north")
def remove(name: Name, *, api: PlainApi) -> None:
    """Remove a group and its past deployments. This requires that no deployment of the group is active."""
    api.call("DELETE", f"/v1/groups/{quoted(name)}")
    print_lines(f"{name} is removed")
