"""`twinfold device`: devices, their tags, and what they run."""

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from events.canonical import JsonObject
from events.terminal import complain, print_lines
from services.cli.client import ANY_ETAG, AnswerApi, Limit, PlainApi, ReadApi, Watch, pairs, quoted, show_json, table
from services.cli.commands import CommandGroup, argument, flag
from services.cli.inputs import read_text
from services.cli.preview_option import WriteApi, write

app = CommandGroup(no_args_is_help=True, help="Devices, their tags, and what they run.")

# `Api.pages` needs a limit; no fleet has that many devices.
_ALL = 1 << 40
_STATUS = {True: "enabled", False: "disabled"}

DeviceId = Annotated[str, argument("The device's id.")]


@app.command("list", example="device list --limit 20")
def list_(*, limit: Limit = 1000, api: ReadApi) -> None:
    """List the ids of the devices, one a line."""
    api.show_lines(api.pages("/v1/devices", limit=limit), empty="no devices")


@app.command(example="device show edge-1 --json")
def show(device_id: DeviceId, *, api: ReadApi) -> None:
    """Show a device's twin."""
    api.show(f"/twins/{quoted(device_id)}", _twin)


def _twin(twin: JsonObject) -> Table:
    rows = [(name, twin.get(name)) for name in ("deviceId", "status", "statusReason", "version", "etag")]
    rows.append(("edge", twin["capabilities"]["iotEdge"]))
    rows += (("parent", scope) for scope in twin.get("parentScopes", []))
    rows += ((f"tags.{name}", value) for name, value in sorted(twin.get("tags", {}).items()))
    return table(rows)


@app.command(example="device create edge-1 --tag site=north --tag floor=2")
def create(
    device_id: DeviceId,
    *,
    edge: Annotated[bool, flag("Whether it is an edge device.")] = True,
    enabled: Annotated[bool, flag("Whether it may connect.")] = True,
    tag: Annotated[list[str] | None, flag("A tag, as name=value; can be repeated.")] = None,
    api: PlainApi,
) -> None:
    """Register a device."""
    line = {
        "id": device_id,
        "importMode": "create",
        "status": _STATUS[enabled],
        "capabilities": {"iotEdge": edge},
        "tags": pairs(tag or []),
    }
    # One request: if a tag is refused, no device is registered without it.
    api.call("POST", "/devices", body=[line])
    print_lines(f"{device_id} is registered")


@app.command(example="device update edge-1 --no-enabled --status-reason stolen")
def update(
    device_id: DeviceId,
    *,
    edge: Annotated[bool | None, flag("Whether it is an edge device.")] = None,
    enabled: Annotated[bool | None, flag("Whether it may connect.")] = None,
    status_reason: Annotated[str | None, flag("Why it is enabled or not.")] = None,
    api: WriteApi,
) -> None:
    """Change whether a device is an edge device and whether it may connect."""
    path = f"/devices/{quoted(device_id)}"
    now = api.call("GET", path)
    body = {
        "deviceId": device_id,
        "status": now["status"] if enabled is None else _STATUS[enabled],
        "statusReason": now["statusReason"] if status_reason is None else status_reason,
        "capabilities": now["capabilities"] if edge is None else {"iotEdge": edge},
        # A body without keys would give the device new ones.
        "authentication": now["authentication"],
    }
    write(api, "PUT", path, body=body, headers=ANY_ETAG)
    print_lines(f"{device_id} is changed")


@app.command(example="device delete edge-1")
def delete(device_id: DeviceId, *, api: WriteApi) -> None:
    """Delete a device with its twin and modules."""
    write(api, "DELETE", f"/devices/{quoted(device_id)}", headers=ANY_ETAG)
    print_lines(f"{device_id} is deleted")


@app.command(example="device tag edge-1 environment=prod old=")
def tag(
    device_id: DeviceId, tags: Annotated[list[str], argument("name=value; `name=` removes the tag.")], *, api: WriteApi
) -> None:
    """Change tags of a device."""
    write(api, "PATCH", f"/twins/{quoted(device_id)}", body={"tags": pairs(tags, flag="TAGS")})
    print_lines(f"{device_id} is tagged")


@app.command(example="device keys edge-1 edge-2 --give")
def keys(
    device_ids: Annotated[list[str] | None, argument("Ids of devices.", metavar="[DEVICE]...")] = None,
    *,
    file: Annotated[str | None, flag("File with an id a line, or - for standard input.")] = None,
    everything: Annotated[bool, flag("All devices.", "--all")] = False,
    give: Annotated[bool, flag("Create keys for devices that have none.", "--give")] = False,
    api: AnswerApi,
) -> None:
    """Print the symmetric keys of devices, one device a line: id, primary key, secondary key.

    A device without keys, because it declined them or has certificates, is named on standard error. Reading keys is recorded in
    the log.
    """
    if sum((bool(device_ids), file is not None, everything)) != 1:
        raise typer.BadParameter("give ids of devices, --file or --all")
    keys_by_device = {}
    ids: Iterable[str] = device_ids or []
    if file is not None:
        ids = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    elif everything:
        ids = api.pages("/v1/devices", limit=_ALL)
    # Each line is printed at once, so that an interrupted run over a large fleet has shown its part.
    for device_id in ids:
        path = f"/devices/{quoted(device_id)}"
        identity = api.call("GET", path)
        if give and identity["authentication"]["type"] == "sas" and _keys_of(identity) is None:
            identity = api.call("PUT", path, body={**identity, "authentication": {"type": "sas"}}, headers=ANY_ETAG)
        key_pair = _keys_of(identity)
        if api.json:
            keys_by_device[device_id] = key_pair
        elif key_pair is None:
            complain(f"{device_id} has no symmetric keys; --give creates them if it has no certificate")
        else:
            print_lines(f"{device_id} {key_pair['primaryKey']} {key_pair['secondaryKey']}")
    if api.json:
        show_json(keys_by_device)


def _keys_of(identity: JsonObject) -> JsonObject | None:
    keys: JsonObject = identity["authentication"]["symmetricKey"]
    return keys if keys["primaryKey"] else None


@app.command(example="device effective edge-1 --watch")
def effective(device_id: DeviceId, *, watch: Watch = False, api: ReadApi) -> None:
    """Show what a device should run, from which deployments, and which deployments target it but are not applied."""
    path = f"/v1/devices/{quoted(device_id)}"

    def render(answer: JsonObject) -> RenderableType:
        return _effective(answer, api.call("GET", f"{path}/not-applied")["notApplied"])

    api.show(f"{path}/effective", render, watch=watch)


def _effective(answer: JsonObject, not_applied: list[JsonObject]) -> RenderableType:
    layers = " + ".join(answer["layers"]) or "nothing"
    lines = [f"{answer['deviceId']} is {answer['status']}; it runs {layers}"]
    if answer["reason"]:
        lines.append(f"over limit: {answer['reason']}")
    modules = answer["modules"].get("$edgeAgent", {}).get("modules", {})
    rows = (
        (name, spec.get("status", ""), spec.get("settings", {}).get("image", ""), answer["versions"].get(name, ""))
        for name, spec in sorted(modules.items())
    )
    reasons = (
        f"not {deployment['deployment']}: {deployment['why']}" + (f" ({deployment['by']})" if deployment["by"] else "")
        for deployment in not_applied
    )
    return Group(*map(Text, lines), table(rows, "module", "status", "image", "version"), *map(Text, reasons))
