"""`twinfold deployment`: deployments and their status."""

from typing import Annotated

import typer
from rich.table import Table

from events.canonical import JsonObject
from events.number_text import counted
from events.terminal import print_lines
from services.cli.client import Limit, PastApi, ReadApi, Watch, given, quoted, show_json, table
from services.cli.commands import CommandGroup, argument, flag
from services.cli.inputs import read_json
from services.cli.preview_option import WriteApi, write
from services.cli.readiness import summary

app = CommandGroup(no_args_is_help=True, help="Deployments and their status.")

COLUMNS = ("target", "actual", "healthy", "unhealthy", "unknown", "pending")

Name = Annotated[str, argument("The deployment's id.")]
Condition = Annotated[str | None, flag("Condition for the devices that it targets, as in: tags.site = 'north'")]
Priority = Annotated[int | None, flag("Priority. The highest wins.", min=0)]
Zone = Annotated[str | None, flag("Time zone of times without an offset, as in Europe/Berlin.")]
Labels = Annotated[list[str] | None, flag("A label, as name=value; can be repeated.")]


@app.command("list", example="deployment list --label team=x --watch")
def list_(*, label: Labels = None, watch: Watch = False, api: ReadApi) -> None:
    """List the deployments with the number of devices in each status."""
    api.show("/v1/deployments", _table, params={"label": label or []}, watch=watch)


@app.command(example="deployment show factory-base")
def show(name: Name, *, api: PastApi) -> None:
    """Show a deployment with its content as JSON."""
    show_json(api.call("GET", f"/configurations/{quoted(name)}"))


@app.command(example="deployment create factory-base base.json --condition \"tags.site = 'north'\" --priority 10")
def create(
    name: Name,
    manifest: Annotated[str, argument("File with a manifest, or - for standard input.")],
    *,
    condition: Condition = None,
    priority: Priority = None,
    label: Labels = None,
    start: Annotated[str | None, flag("When it starts, as in 2026-11-21T08:00, with or without an offset.")] = None,
    end: Annotated[str | None, flag("When it ends.")] = None,
    zone: Zone = None,
    hold: Annotated[bool, flag("Wait for `deployment start` or `rollout create`.", "--hold")] = False,
    api: WriteApi,
) -> None:
    """Create a deployment or a layer from a manifest."""
    # The file is a manifest, or a whole deployment that has it as `content`, as `deployment show` prints it.
    document = read_json(manifest)
    body = {
        "content": document.get("content", document),
        "targetCondition": condition or "",
        "priority": priority or 0,
        "labels": _labels(label),
        "hold": hold,
        "schedule": given(start=start, end=end, zone=zone) or None,
    }
    answer = write(api, "POST", _path(name), body=body)
    print_lines(f"{name} is created; {_targeted(answer)}", *_advice(answer))
    print_lines(*(f"  {line}" for line in summary(answer["readiness"]["findings"])))


@app.command(example="deployment update factory-base --priority 20")
def update(
    name: Name, *, condition: Condition = None, priority: Priority = None, label: Labels = None, api: WriteApi
) -> None:
    """Change a deployment's condition, priority or labels. Its content cannot be changed."""
    labels = None if label is None else _labels(label)
    answer = write(api, "PUT", _path(name), body=given(targetCondition=condition, priority=priority, labels=labels))
    print_lines(f"{name} is changed; {_targeted(answer)}", *_advice(answer))


@app.command(example="deployment schedule camera-2 --start 2026-11-21T08:00 --zone Europe/Berlin")
def schedule(
    name: Name,
    *,
    start: Annotated[str | None, flag("When it starts; `none` removes the time.")] = None,
    end: Annotated[str | None, flag("When it ends; `none` removes the time.")] = None,
    zone: Zone = None,
    api: WriteApi,
) -> None:
    """Change when a deployment starts or ends. A time that is not given stays."""
    times = given(start=start, end=end, zone=zone)
    if not times:
        raise typer.BadParameter("give at least one of --start, --end and --zone")
    body = {element: None if time == "none" else time for element, time in times.items()}
    _print_state(write(api, "PUT", f"{_path(name)}/schedule", body=body))


@app.command(example="deployment start camera-2")
def start(name: Name, *, api: WriteApi) -> None:
    """Start a waiting deployment, or its rollout, now."""
    _print_state(write(api, "POST", f"{_path(name)}/start"))


@app.command(example="deployment cancel camera-2")
def cancel(
    name: Name,
    *,
    reason: Annotated[str, flag("Reason, recorded in the log if the deployment has a rollout.")] = "",
    api: WriteApi,
) -> None:
    """End a deployment and its rollout. Its devices get the other deployments that target them."""
    _print_state(write(api, "POST", f"{_path(name)}/cancel", body={"reason": reason}))


@app.command(example="deployment delete factory-base")
def delete(name: Name, *, api: WriteApi) -> None:
    """Delete a deployment. Its devices get the other deployments that target them."""
    write(api, "DELETE", f"/configurations/{quoted(name)}")
    print_lines(f"{name} is deleted")


@app.command(example="deployment status factory-base --devices unhealthy")
def status(
    name: Name,
    *,
    devices: Annotated[str | None, flag("List the devices in this status, as in unhealthy.")] = None,
    limit: Limit = 1000,
    watch: Watch = False,
    api: ReadApi,
) -> None:
    """Show the number of devices in each status, or with --devices the devices in one."""
    path = f"{_path(name)}/status"
    if devices is None:
        api.show(path, lambda answer: table(answer["counts"].items(), "status", "devices"), watch=watch)
    else:
        api.show_lines(api.pages(f"{path}/{devices}", limit=limit), empty=f"no device is {devices}")


def _path(name: str) -> str:
    return f"/v1/deployments/{quoted(name)}"


def _labels(texts: list[str] | None) -> dict[str, str]:
    labels = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r} is not name=value", param_hint="--label")
        labels[name] = value
    return labels


def _print_state(answer: JsonObject) -> None:
    print_lines(f"{answer['id']}: {answer['says']}")


def _table(deployments: list[JsonObject]) -> Table:
    kinds = {"device": " (own twins)", "module": " (module)"}
    rows = (
        (
            deployment["id"] + kinds.get(deployment["kind"], " (layer)" if deployment["layered"] else ""),
            deployment["priority"],
            deployment["targetCondition"] or "-",
            _admission(deployment),
            *(deployment["counts"].get(column, 0) for column in COLUMNS),
        )
        for deployment in deployments
    )
    return table(rows, "deployment", "priority", "condition", "admission", *COLUMNS, right=COLUMNS)


def _admission(deployment: JsonObject) -> str:
    starts = (deployment["schedule"] or {}).get("start") if deployment["admission"] == "NotStarted" else None
    return str(starts or deployment["rollout"] or deployment["admission"])


def _targeted(answer: JsonObject) -> str:
    if answer["targeted"] is None:
        return "workers have not applied it yet, so the number of targeted devices is not known"
    return f"it targets {counted(answer['targeted'], 'device')} now"


def _advice(answer: JsonObject) -> list[str]:
    return [f"  note: {note['message']}" for note in answer["advice"]]
