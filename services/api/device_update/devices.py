"""The update service's paths of devices and device classes."""

import functools
from collections.abc import Callable

from fastapi import Request, Response

from events.canonical import JsonObject
from events.projection_store.groups import DEFAULT_CLASS, DeviceState, GroupProjection, class_of, is_among
from events.rollout.sets import NO_DEVICES, FleetSet
from services.api.context.groups import Groups, state_of
from services.api.context.request import context_of
from services.api.device_update.filters import read_filter
from services.api.device_update.lists import (
    CLASSES_DERIVED,
    PREFIX,
    Filter,
    IfNoneMatch,
    accepted,
    answer_with_etag,
    best_of_class,
    compliance_answer,
    condition_of,
    device_location,
    device_page,
    device_update_router,
    list_page,
    operation_done,
    present,
    selects_running,
    update_info,
)
from services.api.http.errors import NotFound, NotOffered

router = device_update_router("/management")

_OPERATION = "import-devices"


@router.get("/deviceClasses")
def list_classes(request: Request, group_projection: Groups, filter_: Filter = None) -> JsonObject:
    """The device classes: one for each compatibility of updates."""
    selection = read_filter(filter_, ("friendlyName",))
    classes = [pair for pair in group_projection.classes.items() if selection.get("friendlyName", pair[1]) == pair[1]]
    return list_page(request, classes, lambda pair: _class(pair[0], pair[1], group_projection))


@router.get("/deviceClasses/{device_class}")
def get_class(group_projection: Groups, device_class: str) -> JsonObject:
    """One device class."""
    return _class(device_class, condition_of(group_projection, device_class), group_projection)


@router.get("/deviceClasses/{device_class}/installableUpdates")
def list_installable(request: Request, group_projection: Groups, device_class: str) -> JsonObject:
    """The updates of a class, the newest first."""
    condition = condition_of(group_projection, device_class)
    updates = [update.update for update in group_projection.updates.values() if update.condition == condition]
    return list_page(request, updates, lambda update: update_info(update, group_projection))


@router.patch("/deviceClasses/{device_class}")
@router.delete("/deviceClasses/{device_class}")
def change_class(group_projection: Groups, device_class: str) -> None:
    """Reject a change of a class."""
    condition_of(group_projection, device_class)
    raise NotOffered(CLASSES_DERIVED)


@router.get("/devices")
def list_devices(request: Request, group_projection: Groups, filter_: Filter = None) -> JsonObject:
    """Edge-capable devices with their updates: all, or those of a group, a class, or a state."""
    selection = read_filter(filter_, ("groupId", "deviceClassId", "deploymentStatus"))
    devices, members = _Devices(group_projection), group_projection.devices("*")
    if "groupId" in selection:
        group = str(selection["groupId"])
        members = members & group_projection.members(group) if group in group_projection.names else NO_DEVICES
    if "deviceClassId" in selection:
        condition = group_projection.classes.get(str(selection["deviceClassId"]))
        members = NO_DEVICES if condition is None else members & group_projection.devices(condition)
    if "deploymentStatus" in selection:
        state = selection["deploymentStatus"]
        members &= devices.of_state(None if state is None else state_of(state))
    return device_page(request, group_projection, members, devices.device)


@router.get("/devices/{device}")
def get_device(request: Request, group_projection: Groups, device: str) -> JsonObject:
    """One edge-capable device with its updates."""
    location = device_location(request, device)
    if location is None or not is_among(location, group_projection.devices("*")):
        raise NotFound(f"there is no edge-capable device {device[:140]!r}")
    return _Devices(group_projection).device(device, location)


@router.api_route("/devices/{_rest:path}", methods=["GET"])
def get_device_module() -> None:
    """Reject a request for a module."""
    raise NotOffered("updates are for whole devices, not for modules")


@router.post("/devices:import", status_code=202)
def import_devices(request: Request, instance: str) -> Response:
    """Answer an import of devices, which has nothing to do: registered devices are known."""
    return accepted(request, f"{PREFIX}/{instance}/management/operations/{_OPERATION}")


@router.get("/operations")
def list_operations(request: Request, filter_: Filter = None) -> JsonObject:
    """An empty list, as no operation is running: each is done before it is answered."""
    selects_running(filter_)
    return list_page(request, [])


@router.get("/operations/{operation}")
def get_operation(request: Request, operation: str, if_none_match: IfNoneMatch = None) -> Response:
    """The result of an import of devices, which is always done."""
    if operation != _OPERATION:
        raise NotFound(f"there is no operation {operation[:80]!r}")
    return answer_with_etag(operation_done(operation, None, at=context_of(request).clock()), if_none_match)


@router.get("/updateCompliance")
def get_compliance(group_projection: Groups) -> JsonObject:
    """How many devices have the newest update that fits them."""
    return compliance_answer(group_projection.compliance(group_projection.devices("*")))


@router.get("/deviceDiagnostics/{_rest:path}")
@router.put("/deviceDiagnostics/{_rest:path}")
def diagnostics() -> None:
    """Reject a request for logs or health of devices."""
    raise NotOffered("logs and health checks of devices are not collected")


def _class(class_id: str, condition: str, group_projection: GroupProjection) -> JsonObject:
    best = best_of_class(class_id, group_projection)
    return present(
        deviceClassId=class_id,
        friendlyName=condition,
        deviceClassProperties={"compatProperties": {"condition": condition}},
        bestCompatibleUpdate=None if best is None else update_info(best, group_projection),
    )


class _Devices:
    """Answers about devices; the sets are computed once for all of them."""

    def __init__(self, group_projection: GroupProjection) -> None:
        self._group_projection = group_projection
        self._groups = [(name, group_projection.members(name)) for name in group_projection.names]
        self._deployed_updates = [
            (deployed_update, group_projection.states(deployed_update))
            for deployed_update in group_projection.every_deployed_update
        ]
        self._brought = [
            (deployed_update, group_projection.having(deployed_update.update_deployment))
            for deployed_update in group_projection.every_deployed_update
        ]
        self._best = group_projection.best(group_projection.devices("*"))

    def device(self, device_id: str, location: tuple[int, int]) -> JsonObject:
        """One device; members that do not apply to it are missing."""
        group_projection, among = self._group_projection, functools.partial(is_among, location)
        groups = [name for name, members in self._groups if among(members)]
        attempted = next(
            (deployed_update.deployment for deployed_update, having in self._brought if among(having)), None
        )
        installed = next((update_ for update_, members in group_projection.installed.items() if among(members)), None)
        best = next((update_ for update_, members in self._best.items() if among(members)), None)
        state = self._state(among)
        return present(
            deviceId=device_id,
            deviceClassId=DEFAULT_CLASS if best is None else class_of(group_projection.updates[best].condition),
            onLatestUpdate=best is None or best == installed,
            groupId=_preferred(groups) if groups else None,
            deploymentStatus=None if state is None else state.value,
            installedUpdate=None if installed is None else update_info(installed, group_projection),
            lastAttemptedUpdate=None if attempted is None else update_info(attempted.update, group_projection),
            lastDeploymentId=None if attempted is None else attempted.id,
        )

    def _state(self, among: Callable[[FleetSet], bool]) -> DeviceState | None:
        for _, states in self._deployed_updates:
            for state, members in states.items():
                if among(members):
                    return state
        return None

    def of_state(self, state: DeviceState | None) -> FleetSet:
        """The devices whose newest deployment has this state; for `None`, those without a deployment."""
        members, seen = FleetSet({}), FleetSet({})
        for _, states in self._deployed_updates:
            everyone = FleetSet.union(states.values())
            members |= FleetSet({}) if state is None else states[state] - seen
            seen |= everyone
        return self._group_projection.devices("*") - seen if state is None else members


def _preferred(groups: list[str]) -> str:
    # A device without the tag ADUGroup is in `$default`, and can be in a group that is defined by a condition as well.
    return groups[0] if len(groups) == 1 else next(name for name in groups if name != "$default")
