"""`twinfold update` and `group`: updates, their deployments to groups, and groups of devices."""

import datetime as dt
from operator import itemgetter
from typing import Annotated

import typer
from rich.table import Table

from events.canonical import JsonObject
from events.number_text import counted
from events.terminal import print_lines
from services.cli.client import PastApi, PlainApi, ReadApi, Watch, quoted, show_json, table
from services.cli.commands import CommandGroup, argument, flag
from services.cli.flags import Reason
from services.cli.inputs import read_json
from services.cli.preview_option import WriteApi, write
from services.cli.rollout import plan_lines

app = CommandGroup(no_args_is_help=True, help="Updates, and their deployments to groups.")

group_app = CommandGroup(no_args_is_help=True, help="Groups of devices that updates are deployed to.")

Update = Annotated[str, argument("An update, as provider/name/version.")]
Group = Annotated[str, argument("The group: a value of the tag ADUGroup, or the name of a defined group.")]
GroupName = Annotated[str, argument("The group's name, which is the value of the tag ADUGroup on its devices.")]
Deployment = Annotated[str, argument("The deployment's id within its group.")]


@app.command("import", example="update import contoso/camera/1.0 camera.json --condition \"tags.model = 'x-200'\"")
def import_(
    update: Update,
    manifest: Annotated[str, argument("File with a manifest or a layer, or - for standard input.")],
    *,
    condition: Annotated[str, flag("Condition for the devices that it fits, as in: tags.model = 'x-200'")] = "",
    description: Annotated[str, flag("Description for people.")] = "",
    api: PlainApi,
) -> None:
    """Import an update. Its content cannot be changed later."""
    document = read_json(manifest)
    body = {
        "content": document.get("content", document),
        "compatibility": [{"condition": condition}] if condition else [],
        "description": description,
    }
    api.call("PUT", _path(update), body=body)
    print_lines(f"{update} is imported")


@app.command("list", example="update list")
def list_(*, api: ReadApi) -> None:
    """List the updates, newest version first."""
    api.show("/v1/updates", _updates)


@app.command(example="update show contoso/camera/1.0")
def show(update: Update, *, api: PastApi) -> None:
    """Show an update with its content as JSON."""
    show_json(api.call("GET", _path(update)))


@app.command(example="update delete contoso/camera/1.0")
def delete(update: Update, *, api: PlainApi) -> None:
    """Delete an update. This requires that no active deployment uses it."""
    api.call("DELETE", _path(update))
    print_lines(f"{update} is deleted")


@app.command(
    example="update deploy contoso/camera/1.1 north --id 2 --roll-back-to contoso/camera/1.0 --percent 20 --count 3"
)
def deploy(
    update: Update,
    group: Group,
    *,
    name: Annotated[str, flag("The deployment's id, unique within the group.", "--id")],
    start: Annotated[dt.datetime | None, flag("When it starts, in UTC. The default is at once.")] = None,
    end: Annotated[dt.datetime | None, flag("When it ends, in UTC. Devices that have the update keep it.")] = None,
    roll_back_to: Annotated[str | None, flag("The update that devices get back when too many fail.")] = None,
    restore: Annotated[
        bool, flag("When too many fail, each device gets back what it had, and was healthy with, before.", "--restore")
    ] = False,
    percent: Annotated[float, flag("Too many means at least this percentage of the devices that answered …")] = 100.0,
    count: Annotated[int, flag("… and at least this number of devices …")] = 1,
    answered: Annotated[int, flag("… once at least this number of devices have answered.")] = 0,
    plan: Annotated[str | None, flag("JSON file with a rollout plan, to deploy in phases.")] = None,
    api: WriteApi,
) -> None:
    """Deploy an update to a group. It supersedes the group's current deployment."""
    policy = {"update": roll_back_to, "percent": percent, "count": count, "answeredMin": answered}
    body: JsonObject = {
        "update": update,
        # typer reads times without a zone; the help texts say that they are UTC.
        "startAt": 0 if start is None else round(start.replace(tzinfo=dt.UTC).timestamp() * 1000),
        "endAt": 0 if end is None else round(end.replace(tzinfo=dt.UTC).timestamp() * 1000),
        "policy": policy if roll_back_to or restore else None,
        "plan": None if plan is None else read_json(plan),
    }
    answer = write(api, "PUT", _deployment(group, name), body=body)
    print_lines(f"{update} is deployed to {group} as {name}: {answer['state'].lower()}", *plan_lines(answer))


@app.command(example='update cancel north 2 --reason "the wrong one"')
def cancel(group: Group, deployment: Deployment, *, reason: Reason = "", api: WriteApi) -> None:
    """Cancel a deployment for good. Devices that have it keep it, no other device gets it."""
    write(api, "POST", f"{_deployment(group, deployment)}/cancel", body={"reason": reason})
    print_lines(f"{deployment} of {group} is canceled")


@app.command(example="update retry north 2")
def retry(group: Group, deployment: Deployment, *, api: WriteApi) -> None:
    """Retry the devices that failed."""
    write(api, "POST", f"{_deployment(group, deployment)}/retry")
    print_lines(f"the devices of {group} that failed with {deployment} are retried")


@app.command(example="update status north 2 --devices Failed")
def status(
    group: Group,
    deployment: Annotated[str | None, argument("A deployment's id. The default is all of the group.")] = None,
    *,
    devices: Annotated[str | None, flag("List the devices in this state, as in Failed.")] = None,
    watch: Watch = False,
    api: ReadApi,
) -> None:
    """Show the state of deployments to a group, or with --devices the devices in a state and the reason."""
    if devices is not None and deployment is not None:
        params = {"state": devices, "top": 1000}
        api.show(f"{_deployment(group, deployment)}/devices", _devices, params=params, part=itemgetter("devices"))
        return

    def chosen(answer: list[JsonObject]) -> list[JsonObject]:
        return [entry for entry in answer if deployment in {None, entry["deployment"]}]

    api.show(f"/v1/groups/{quoted(group)}/deployments", _deployments, part=chosen, watch=watch)


def _updates(updates: list[JsonObject]) -> Table:
    rows = ((update["update"], update["condition"], update["description"]) for update in updates)
    return table(rows, "update", "for", "description")


def _devices(devices: list[JsonObject]) -> Table:
    rows = ((device["deviceId"], device["state"], device["reason"]) for device in devices)
    return table(rows, "device", "state", "reason")


def _deployments(deployments: list[JsonObject]) -> Table:
    counts = list(deployments[0]["counts"]) if deployments else []
    rows = (
        (
            deployment["deployment"],
            deployment["update"],
            deployment["state"] + (f" to {deployment['rolledBack']['to']}" if deployment["rolledBack"] else ""),
            deployment["reason"],
            *(deployment["counts"][column] for column in counts),
        )
        for deployment in deployments
    )
    return table(rows, "deployment", "update", "state", "reason", *counts, right=counts)


def _path(update: str) -> str:
    if update.count("/") != 2:  # noqa: PLR2004 - between three parts
        raise typer.BadParameter(f"{update!r} is not provider/name/version, as in contoso/camera/1.0")
    return "/v1/updates/" + "/".join(map(quoted, update.split("/")))


def _deployment(group: str, deployment: str) -> str:
    return f"/v1/groups/{quoted(group)}/deployments/{quoted(deployment)}"


@group_app.command("list", example="group list")
def list_groups(*, api: ReadApi) -> None:
    """List the groups with their number of devices and their active deployment."""
    api.show("/v1/groups", _groups)


def _groups(groups: list[JsonObject]) -> Table:
    rows = ((group["group"], group["condition"], group["devices"], group["active"] or "-") for group in groups)
    return table(rows, "group", "condition", "devices", "active deployment")


@group_app.command("show", example="group show north")
def show_group(name: GroupName, *, api: PastApi) -> None:
    """Show a group as JSON."""
    show_json(api.call("GET", f"/v1/groups/{quoted(name)}"))


@group_app.command(example="group define north --condition \"tags.site = 'north'\"")
def define(
    name: GroupName,
    *,
    condition: Annotated[
        str, flag("Condition that selects its devices, as in: tags.site = 'north'. The default is the tag ADUGroup.")
    ] = "",
    priority: Annotated[int | None, flag("Priority of the deployments of its updates.")] = None,
    api: PlainApi,
) -> None:
    """Define which devices are in a group. This requires that no deployment of the group is active."""
    body = {"condition": condition, **({} if priority is None else {"priority": priority})}
    group = api.call("PUT", f"/v1/groups/{quoted(name)}", body=body)
    print_lines(f"{name} has {counted(group['devices'], 'device')}: {group['condition']}")


@group_app.command(example="group remove north")
def remove(name: GroupName, *, api: PlainApi) -> None:
    """Remove a group and its past deployments. This requires that no deployment of the group is active."""
    api.call("DELETE", f"/v1/groups/{quoted(name)}")
    print_lines(f"{name} is removed")
