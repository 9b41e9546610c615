"""`twinfold deployment`: deployments and their status."""

from typing import Annotated, Any

import typer
from rich.table import Table

from events.number_text import counted
from events.terminal import print_lines
from services.cli.client import Api, ApiUrl, AsJson, At, Limit, Watch, quoted, show_answer, show_json, show_lines
from services.cli.inputs import read_json
from services.cli.preview_option import Preview, PreviewChoice, Token, write
from services.cli.readiness import summary

app = typer.Typer(no_args_is_help=True, help="Deployments and their status.")

COLUMNS = ("target", "actual", "healthy", "unhealthy", "unknown", "pending")

Name = Annotated[str, typer.Argument(help="The deployment's id.")]
Condition = Annotated[
    str | None,
    typer.Option("--condition", help="Condition for the devices that it targets, as in: tags.site = 'north'"),
]
Priority = Annotated[int | None, typer.Option(min=0, help="Priority. The highest wins.")]
Start = Annotated[str | None, typer.Option(help="When it starts, as in 2026-11-21T08:00, with or without an offset.")]
End = Annotated[str | None, typer.Option(help="When it ends.")]
Zone = Annotated[str | None, typer.Option(help="Time zone of times without an offset, as in Europe/Berlin.")]
Labels = Annotated[list[str] | None, typer.Option("--label", help="A label, as name=value; can be repeated.")]


@app.command("list")
def list_(
    *, label: Labels = None, watch: Watch = False, at: At = None, api_url: ApiUrl = None, json: AsJson = False
) -> None:
    """List the deployments with the number of devices in each status.

    Example: twinfold deployment list --label team=x --watch
    """
    api = Api(api_url, at=at)
    show_answer(
        lambda: api.call("GET", "/v1/deployments", params={"label": label or []}), _table, json=json, watch=watch
    )


@app.command()
def show(name: Name, *, at: At = None, api_url: ApiUrl = None) -> None:
    """Show a deployment with its content as JSON.

    Example: twinfold deployment show factory-base
    """
    show_json(Api(api_url, at=at).call("GET", f"/configurations/{quoted(name)}"))


@app.command()
def create(
    name: Name,
    manifest: Annotated[str, typer.Argument(help="File with a manifest, or - for standard input.")],
    *,
    condition: Condition = None,
    priority: Priority = None,
    label: Labels = None,
    start: Start = None,
    end: End = None,
    zone: Zone = None,
    hold: Annotated[bool, typer.Option("--hold", help="Wait for `deployment start` or `rollout create`.")] = False,
    preview: Preview = False,
    preview_token: Token = None,
    api_url: ApiUrl = None,
) -> None:
    """Create a deployment or a layer from a manifest.

    Example: twinfold deployment create factory-base base.json --condition "tags.site = 'north'" --priority 10
    """
    # The file is a manifest, or a whole deployment that has it as `content`, as `deployment show` prints it.
    document = read_json(manifest)
    body = {
        "content": document.get("content", document),
        "targetCondition": condition or "",
        "priority": priority or 0,
        "labels": _labels(label),
        "hold": hold,
        "schedule": _times(start, end, zone) or None,
    }
    answer = write(Api(api_url), "POST", _path(name), PreviewChoice(preview, preview_token), body=body)
    print_lines(f"{name} is created; {_targeted(answer)}")
    _print_advice(answer)
    for line in summary(answer["readiness"]["findings"]):
        print_lines(f"  {line}")


@app.command()
def update(
    name: Name,
    *,
    condition: Condition = None,
    priority: Priority = None,
    label: Labels = None,
    preview: Preview = False,
    preview_token: Token = None,
    api_url: ApiUrl = None,
) -> None:
    """Change a deployment's condition, priority or labels. Its content cannot be changed.

    Example: twinfold deployment update factory-base --priority 20
    """
    changes = {"targetCondition": condition, "priority": priority, "labels": None if label is None else _labels(label)}
    body = {member: value for member, value in changes.items() if value is not None}
    answer = write(Api(api_url), "PUT", _path(name), PreviewChoice(preview, preview_token), body=body)
    print_lines(f"{name} is changed; {_targeted(answer)}")
    _print_advice(answer)


@app.command()
def schedule(
    name: Name,
    *,
    start: Annotated[str | None, typer.Option(help="When it starts; `none` removes the time.")] = None,
    end: Annotated[str | None, typer.Option(help="When it ends; `none` removes the time.")] = None,
    zone: Zone = None,
    preview: Preview = False,
    preview_token: Token = None,
    api_url: ApiUrl = None,
) -> None:
    """Change when a deployment starts or ends. A time that is not given stays.

    Example: twinfold deployment schedule camera-2 --start 2026-11-21T08:00 --zone Europe/Berlin
    """
    times = {element: None if time == "none" else time for element, time in _times(start, end, zone).items()}
    if not times:
        raise typer.BadParameter("give at least one of --start, --end and --zone")
    _print_state(
        write(Api(api_url), "PUT", f"{_path(name)}/schedule", PreviewChoice(preview, preview_token), body=times)
    )


@app.command()
def start(name: Name, *, preview: Preview = False, preview_token: Token = None, api_url: ApiUrl = None) -> None:
    """Start a waiting deployment, or its rollout, now.

    Example: twinfold deployment start camera-2
    """
    _print_state(write(Api(api_url), "POST", f"{_path(name)}/start", PreviewChoice(preview, preview_token)))


@app.command()
def cancel(
    name: Name,
    *,
    reason: Annotated[str, typer.Option(help="Reason, recorded in the log if the deployment has a rollout.")] = "",
    preview: Preview = False,
    preview_token: Token = None,
    api_url: ApiUrl = None,
) -> None:
    """End a deployment and its rollout. Its devices get the other deployments that target them.

    Example: twinfold deployment cancel camera-2
    """
    _print_state(
        write(
            Api(api_url),
            "POST",
            f"{_path(name)}/cancel",
            PreviewChoice(preview, preview_token),
            body={"reason": reason},
        )
    )


@app.command()
def delete(name: Name, *, preview: Preview = False, preview_token: Token = None, api_url: ApiUrl = None) -> None:
    """Delete a deployment. Its devices get the other deployments that target them.

    Example: twinfold deployment delete factory-base
    """
    write(Api(api_url), "DELETE", f"/configurations/{quoted(name)}", PreviewChoice(preview, preview_token))
    print_lines(f"{name} is deleted")


@app.command()
def status(
    name: Name,
    *,
    devices: Annotated[str | None, typer.Option(help="List the devices in this status, as in unhealthy.")] = None,
    limit: Limit = 1000,
    watch: Watch = False,
    at: At = None,
    api_url: ApiUrl = None,
    json: AsJson = False,
) -> None:
    """Show the number of devices in each status, or with --devices the devices in one.

    Example: twinfold deployment status factory-base --devices unhealthy
    """
    api = Api(api_url, at=at)
    if devices is not None:
        device_ids = api.pages(f"{_path(name)}/status/{devices}", limit=limit)
        show_lines(device_ids, json=json, empty=f"no device is {devices}")
        return
    show_answer(lambda: api.call("GET", f"{_path(name)}/status"), _counts, json=json, watch=watch)


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


def _times(start: str | None, end: str | None, zone: str | None) -> dict[str, str | None]:
    times = {"start": start, "end": end, "zone": zone}
    return {element: time for element, time in times.items() if time is not None}


def _print_state(answer: dict[str, Any]) -> None:
    print_lines(f"{answer['id']}: {answer['says']}")


_KINDS = {"device": " (own twins)", "module": " (module)"}


def _table(deployments: list[dict[str, Any]]) -> Table:
    table = Table("deployment", "priority", "condition", "admission")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for deployment in deployments:
        kind = _KINDS.get(deployment["kind"], " (layer)" if deployment["layered"] else "")
        counts = (str(deployment["counts"].get(column, 0)) for column in COLUMNS)
        table.add_row(
            f"{deployment['id']}{kind}",
            str(deployment["priority"]),
            deployment["targetCondition"] or "-",
            _admission(deployment),
            *counts,
        )
    return table


def _admission(deployment: dict[str, Any]) -> str:
    starts = (deployment["schedule"] or {}).get("start") if deployment["admission"] == "NotStarted" else None
    return str(starts or deployment["rollout"] or deployment["admission"])


def _counts(answer: dict[str, Any]) -> Table:
    table = Table("status", "devices")
    for column, count in answer["counts"].items():
        table.add_row(column, str(count))
    return table


def _targeted(answer: dict[str, Any]) -> str:
    if answer["targeted"] is None:
        return "workers have not applied it yet, so the number of targeted devices is not known"
    return f"it targets {counted(answer['targeted'], 'device')} now"


def _print_advice(answer: dict[str, Any]) -> None:
    print_lines(*(f"  note: {note['message']}" for note in answer["advice"]))
