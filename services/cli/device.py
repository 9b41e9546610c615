"""`twinfold device`: devices, their tags, and what they run."""

from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from events.terminal import complain, print_lines
from services.cli.client import Api, ApiUrl, AsJson, At, Limit, Watch, pairs, quoted, show_answer, show_json, show_lines
from services.cli.inputs import read_text
from services.cli.preview_option import Preview, PreviewChoice, Token, write

app = typer.Typer(no_args_is_help=True, help="Devices, their tags, and what they run.")

# `Api.pages` needs a limit; no fleet has that many devices.
_ALL = 1 << 40

DeviceId = Annotated[str, typer.Argument(help="The device's id.")]
Edge = Annotated[bool | None, typer.Option(help="Whether it is an edge device.")]
Enabled = Annotated[bool | None, typer.Option(help="Whether it may connect.")]
StatusReason = Annotated[str | None, typer.Option(help="Why it is enabled or not.")]


@app.command("list")
def list_(*, limit: Limit = 1000, at: At = None, api_url: ApiUrl = None, json: AsJson = False) -> None:
    """List the ids of the devices, one a line.

    Example: twinfold device list --limit 20
    """
    show_lines(Api(api_url, at=at).pages("/v1/devices", limit=limit), json=json, empty="no devices")


@app.command()
def show(device_id: DeviceId, *, at: At = None, api_url: ApiUrl = None, json: AsJson = False) -> None:
    """Show a device's twin.

    Example: twinfold device show edge-1 --json
    """
    show_answer(lambda: Api(api_url, at=at).call("GET", f"/twins/{quoted(device_id)}"), _twin, json=json)


def _twin(twin: dict[str, Any]) -> Table:
    table = Table(show_header=False)
    for name in ("deviceId", "status", "statusReason", "version", "etag"):
        table.add_row(name, str(twin.get(name)))
    table.add_row("edge", str(twin["capabilities"]["iotEdge"]))
    for scope in twin.get("parentScopes", []):
        table.add_row("parent", scope)
    for name, value in sorted(twin.get("tags", {}).items()):
        table.add_row(f"tags.{name}", str(value))
    return table


@app.command()
def create(
    device_id: DeviceId,
    *,
    edge: Annotated[bool, typer.Option(help="Whether it is an edge device.")] = True,
    enabled: Annotated[bool, typer.Option(help="Whether it may connect.")] = True,
    tag: Annotated[list[str] | None, typer.Option(help="A tag, as name=value; can be repeated.")] = None,
    api_url: ApiUrl = None,
) -> None:
    """Register a device.

    Example: twinfold device create edge-1 --tag site=north --tag floor=2
    """
    line = {
        "id": device_id,
        "importMode": "create",
        "status": _status(enabled=enabled),
        "capabilities": {"iotEdge": edge},
        "tags": pairs(tag or []),
    }
    # One request: if a tag is refused, no device is registered without it.
    Api(api_url).call("POST", "/devices", body=[line])
    print_lines(f"{device_id} is registered")


@app.command()
def update(
    device_id: DeviceId,
    *,
    edge: Edge = None,
    enabled: Enabled = None,
    status_reason: StatusReason = None,
    preview: Preview = False,
    preview_token: Token = None,
    api_url: ApiUrl = None,
) -> None:
    """Change whether a device is an edge device and whether it may connect.

    Example: twinfold device update edge-1 --no-enabled --status-reason stolen
    """
    api = Api(api_url)
    now = api.call("GET", f"/devices/{quoted(device_id)}")
    body = {
        "deviceId": device_id,
        "status": now["status"] if enabled is None else _status(enabled=enabled),
        "statusReason": now["statusReason"] if status_reason is None else status_reason,
        "capabilities": now["capabilities"] if edge is None else {"iotEdge": edge},
        # A body without keys would give the device new ones.
        "authentication": now["authentication"],
    }
    write(api, "PUT", f"/devices/{quoted(device_id)}", PreviewChoice(preview, preview_token), body=body, any_etag=True)
    print_lines(f"{device_id} is changed")


@app.command()
def delete(
    device_id: DeviceId, *, preview: Preview = False, preview_token: Token = None, api_url: ApiUrl = None
) -> None:
    """Delete a device with its twin and modules.

    Example: twinfold device delete edge-1
    """
    write(Api(api_url), "DELETE", f"/devices/{quoted(device_id)}", PreviewChoice(preview, preview_token), any_etag=True)
    print_lines(f"{device_id} is deleted")


@app.command()
def tag(
    device_id: DeviceId,
    tags: Annotated[list[str], typer.Argument(help="name=value; `name=` removes the tag.")],
    *,
    preview: Preview = False,
    preview_token: Token = None,
    api_url: ApiUrl = None,
) -> None:
    """Change tags of a device.

    Example: twinfold device tag edge-1 environment=prod old=
    """
    write(
        Api(api_url),
        "PATCH",
        f"/twins/{quoted(device_id)}",
        PreviewChoice(preview, preview_token),
        body={"tags": pairs(tags, flag="TAGS")},
    )
    print_lines(f"{device_id} is tagged")


@app.command()
def keys(
    device_ids: Annotated[list[str] | None, typer.Argument(metavar="[DEVICE]...", help="Ids of devices.")] = None,
    *,
    file: Annotated[str | None, typer.Option(help="File with an id a line, or - for standard input.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All devices.")] = False,
    give: Annotated[bool, typer.Option("--give", help="Create keys for devices that have none.")] = False,
    api_url: ApiUrl = None,
    json: AsJson = False,
) -> None:
    """Print the symmetric keys of devices, one device a line: id, primary key, secondary key.

    A device without keys, because it declined them or has certificates, is named on standard error. Reading keys is recorded in
    the log.

    Example: twinfold device keys edge-1 edge-2 --give
    """
    if sum((bool(device_ids), file is not None, everything)) != 1:
        raise typer.BadParameter("give ids of devices, --file or --all")
    api, keys_by_device = Api(api_url), {}
    ids: Iterable[str] = device_ids or []
    if file is not None:
        ids = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    elif everything:
        ids = api.pages("/v1/devices", limit=_ALL)
    # Each line is printed at once, so that an interrupted run over a large fleet has shown its part.
    for device_id in ids:
        key_pair = _keys_of(api, device_id, give=give)
        if json:
            keys_by_device[device_id] = key_pair
        elif key_pair is None:
            complain(f"{device_id} has no symmetric keys; --give creates them if it has no certificate")
        else:
            print_lines(f"{device_id} {key_pair['primaryKey']} {key_pair['secondaryKey']}")
    if json:
        show_json(keys_by_device)


def _keys_of(api: Api, device_id: str, *, give: bool) -> dict[str, Any] | None:
    path = f"/devices/{quoted(device_id)}"
    identity = api.call("GET", path)
    if give and identity["authentication"]["type"] == "sas" and not _has_keys(identity):
        identity = api.call("PUT", path, body={**identity, "authentication": {"type": "sas"}}, any_etag=True)
    return identity["authentication"]["symmetricKey"] if _has_keys(identity) else None


def _has_keys(identity: dict[str, Any]) -> bool:
    return bool(identity["authentication"]["symmetricKey"]["primaryKey"])


@app.command()
def effective(
    device_id: DeviceId, *, watch: Watch = False, at: At = None, api_url: ApiUrl = None, json: AsJson = False
) -> None:
    """Show what a device should run, from which deployments, and which deployments target it but are not applied.

    Example: twinfold device effective edge-1 --watch
    """
    api, path = Api(api_url, at=at), f"/v1/devices/{quoted(device_id)}"
    show_answer(
        lambda: api.call("GET", f"{path}/effective"),
        lambda answer: _effective(answer, api.call("GET", f"{path}/not-applied")["notApplied"]),
        json=json,
        watch=watch,
    )


def _effective(answer: dict[str, Any], not_applied: list[dict[str, Any]]) -> RenderableType:
    layers = " + ".join(answer["layers"]) or "nothing"
    lines = [f"{answer['deviceId']} is {answer['status']}; it runs {layers}"]
    if answer["reason"]:
        lines.append(f"over limit: {answer['reason']}")
    table = Table("module", "status", "image", "version")
    agent = answer["modules"].get("$edgeAgent", {})
    for name, spec in sorted({**agent.get("modules", {})}.items()):
        image = spec.get("settings", {}).get("image", "")
        table.add_row(name, spec.get("status", ""), image, str(answer["versions"].get(name, "")))
    reasons = [
        f"not {deployment['deployment']}: {deployment['why']}" + (f" ({deployment['by']})" if deployment["by"] else "")
        for deployment in not_applied
    ]
    return Group(*map(Text, lines), table, *map(Text, reasons))


def _status(*, enabled: bool) -> str:
    return "enabled" if enabled else "disabled"
