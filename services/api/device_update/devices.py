"""The update service's paths of devices and their classes."""

from fastapi import Request, Response

from events.canonical import JsonObject
from events.rollout.sets import NOBODY
from events.view_store.groups import is_among
from services.api.context.groups import View, state_of
from services.api.context.request import room_of
from services.api.device_update import shapes
from services.api.device_update.filters import read_filter
from services.api.device_update.lists import (
    PREFIX,
    Filter,
    IfNoneMatch,
    begun,
    condition_of,
    devices_listed,
    listed,
    only_running,
    place_of,
    unless_known,
)
from services.api.device_update.router import device_update_router
from services.api.http.errors import NotFound, NotOffered

router = device_update_router("/management")

_OPERATION = "import-devices"


@router.get("/deviceClasses")
def list_classes(request: Request, view: View, filter_: Filter = None) -> JsonObject:
    """The classes of devices: one for each compatibility."""
    wanted = read_filter(filter_, ("friendlyName",))
    found = [pair for pair in view.classes.items() if wanted.get("friendlyName", pair[1]) == pair[1]]
    return listed(request, found, lambda pair: shapes.device_class(pair[0], pair[1], view))


@router.get("/deviceClasses/{device_class}")
def get_class(view: View, device_class: str) -> JsonObject:
    """One class of devices."""
    return shapes.device_class(device_class, condition_of(view, device_class), view)


@router.get("/deviceClasses/{device_class}/installableUpdates")
def list_installable(request: Request, view: View, device_class: str) -> JsonObject:
    """The updates of a class, the newest first."""
    condition = condition_of(view, device_class)
    found = [one.update for one in view.updates.values() if one.condition == condition]
    return listed(request, found, lambda update: shapes.update_info(update, view))


@router.patch("/deviceClasses/{device_class}")
@router.delete("/deviceClasses/{device_class}")
def change_class(view: View, device_class: str) -> None:
    """Classes follow from updates."""
    condition_of(view, device_class)
    raise NotOffered(shapes.CLASSES_FOLLOW)


@router.get("/devices")
def list_devices(request: Request, view: View, filter_: Filter = None) -> JsonObject:
    """Edge-capable devices with what they have: all, or those of a group, a class, or a state."""
    wanted = read_filter(filter_, ("groupId", "deviceClassId", "deploymentStatus"))
    devices, members = shapes.Devices(view), view.devices("*")
    if "groupId" in wanted:
        group = str(wanted["groupId"])
        members = members & view.members(group) if group in view.names else NOBODY
    if "deviceClassId" in wanted:
        condition = view.classes.get(str(wanted["deviceClassId"]))
        members = NOBODY if condition is None else members & view.devices(condition)
    if "deploymentStatus" in wanted:
        state = wanted["deploymentStatus"]
        members &= devices.of_state(None if state is None else state_of(state))
    return devices_listed(request, view, members, devices.device)


@router.get("/devices/{device}")
def get_device(request: Request, view: View, device: str) -> JsonObject:
    """One edge-capable device with what it has."""
    place = place_of(request, device)
    if place is None or not is_among(place, view.devices("*")):
        raise NotFound(f"there is no edge-capable device {device[:140]!r}")
    return shapes.Devices(view).device(device, place)


@router.api_route("/devices/{_rest:path}", methods=["GET"])
def get_device_module() -> None:
    """Updates are for devices."""
    raise NotOffered("updates are for whole devices, not for modules")


@router.post("/devices:import", status_code=202)
def import_devices(request: Request, instance: str) -> Response:
    """Nothing is left to import: whoever is registered is known."""
    return begun(request, f"{PREFIX}/{instance}/management/operations/{_OPERATION}")


@router.get("/operations")
def list_operations(request: Request, filter_: Filter = None) -> JsonObject:
    """There are none."""
    only_running(filter_)
    return listed(request, [])


@router.get("/operations/{operation}")
def get_operation(request: Request, operation: str, if_none_match: IfNoneMatch = None) -> Response:
    """What became of an import of devices: it was done before it was asked for."""
    if operation != _OPERATION:
        raise NotFound(f"there is no operation {operation[:80]!r}")
    return unless_known(shapes.operation(operation, None, at=room_of(request).clock()), if_none_match)


@router.get("/updateCompliance")
def get_compliance(view: View) -> JsonObject:
    """How all devices stand to the newest updates that fit them."""
    return shapes.compliance(view.compliance(view.devices("*")))


@router.get("/deviceDiagnostics/{_rest:path}")
@router.put("/deviceDiagnostics/{_rest:path}")
def diagnostics() -> None:
    """Logs and health of devices are not collected."""
    raise NotOffered("logs and health checks of devices are not collected")
