"""The update service's paths of devices, their classes and their groups, and of the classes within groups."""

from collections.abc import Callable, Mapping, Sequence

from fastapi import Request

from events.canonical import JsonObject
from events.device.times import time_text
from events.projection_store.groups import DEFAULT_CLASS, Compliance, DeviceState, GroupProjection, class_of, is_among
from events.rollout.sets import NO_DEVICES, FleetSet
from events.update.commands import RemoveGroup
from events.update.names import UpdateId
from services.api.context.groups import Groups, first_with, state_of
from services.api.context.request import write
from services.api.device_update.lists import (
    CLASSES_DERIVED,
    Filter,
    OrderBy,
    class_of_update,
    condition_of,
    device_location,
    device_page,
    device_update_router,
    list_page,
    present,
    read_filter,
    read_order,
    update_info,
)
from services.api.http.errors import NotFound, NotOffered

router = device_update_router("/management")

_SUBGROUP = "/groups/{group}/deviceClassSubgroups/{device_class}"
_ORDERS = {
    "groupId": "groupId",
    "deviceCount": "deviceCount",
    "createdDate": "createdDateTime",
    "subgroupsWithNewUpdatesAvailableCount": "subgroupsWithNewUpdatesAvailableCount",
    "subgroupsWithUpdatesInProgressCount": "subgroupsWithUpdatesInProgressCount",
    "subgroupsOnLatestUpdateCount": "subgroupsWithOnLatestUpdateCount",
}
_COMPATIBLE = "compatProperties/condition"


@router.get("/deviceClasses")
def list_classes(request: Request, groups: Groups, filter_: Filter = None) -> JsonObject:
    """The device classes: one for each compatibility of updates."""
    selection = read_filter(filter_, ("friendlyName",))
    classes = [pair for pair in groups.classes.items() if selection.get("friendlyName", pair[1]) == pair[1]]
    return list_page(request, classes, lambda pair: _class(pair[0], pair[1], groups))


@router.get("/deviceClasses/{device_class}")
def get_class(groups: Groups, device_class: str) -> JsonObject:
    """One device class."""
    return _class(device_class, condition_of(groups, device_class), groups)


@router.get("/deviceClasses/{device_class}/installableUpdates")
def list_installable(request: Request, groups: Groups, device_class: str) -> JsonObject:
    """The updates of a class, the newest first."""
    condition = condition_of(groups, device_class)
    updates = [update.update for update in groups.updates.values() if update.condition == condition]
    return list_page(request, updates, lambda update: update_info(update, groups))


@router.patch("/deviceClasses/{device_class}")
@router.delete("/deviceClasses/{device_class}")
def change_class(groups: Groups, device_class: str) -> None:
    """Reject a change of a class."""
    condition_of(groups, device_class)
    raise NotOffered(CLASSES_DERIVED)


@router.get("/devices")
def list_devices(request: Request, groups: Groups, filter_: Filter = None) -> JsonObject:
    """Edge-capable devices with their updates: all, or those of a group, a class, or a state."""
    selection = read_filter(filter_, ("groupId", "deviceClassId", "deploymentStatus"))
    members, states = groups.devices("*"), _states(groups)
    if "groupId" in selection:
        group = str(selection["groupId"])
        members = members & groups.members(group) if group in groups.names else NO_DEVICES
    if "deviceClassId" in selection:
        condition = groups.classes.get(str(selection["deviceClassId"]))
        members = NO_DEVICES if condition is None else members & groups.devices(condition)
    if "deploymentStatus" in selection:
        # The state of a device is that in its newest deployment; `null` selects the devices without a deployment.
        state = None if selection["deploymentStatus"] is None else state_of(selection["deploymentStatus"])
        in_state, seen = NO_DEVICES, NO_DEVICES
        for by_state in states:
            in_state |= NO_DEVICES if state is None else by_state[state] - seen
            seen |= FleetSet.union(by_state.values())
        members = members - seen if state is None else members & in_state
    return device_page(request, groups, members, _device_answers(groups, states))


@router.get("/devices/{device}")
def get_device(request: Request, groups: Groups, device: str) -> JsonObject:
    """One edge-capable device with its updates."""
    location = device_location(request, device)
    if location is None or not is_among(location, groups.devices("*")):
        raise NotFound(f"there is no edge-capable device {device[:140]!r}")
    return _device_answers(groups, _states(groups))(device, location)


@router.api_route("/devices/{_rest:path}", methods=["GET"])
def get_device_module() -> None:
    """Reject a request for a module."""
    raise NotOffered("updates are for whole devices, not for modules")


@router.get("/updateCompliance")
def get_compliance(groups: Groups) -> JsonObject:
    """How many devices have the newest update that fits them."""
    return _compliance(groups.compliance(groups.devices("*")))


@router.get("/deviceDiagnostics/{_rest:path}")
@router.put("/deviceDiagnostics/{_rest:path}")
def diagnostics() -> None:
    """Reject a request for logs or health of devices."""
    raise NotOffered("logs and health checks of devices are not collected")


def _compliance(compliance: Compliance) -> JsonObject:
    """How many devices have the newest update, and how many are on their way to it."""
    counts = {
        "onLatestUpdateDeviceCount": len(compliance.latest),
        "newUpdatesAvailableDeviceCount": len(compliance.outdated),
        "updatesInProgressDeviceCount": len(compliance.under_way),
    }
    return {"totalDeviceCount": sum(counts.values()), **counts}


def _best_of_class(class_id: str, groups: GroupProjection) -> UpdateId | None:
    """The newest update of a class; `None` if it has none."""
    # Updates are sorted by version, the newest first.
    return next(
        (document.update for document in groups.updates.values() if class_of(document.condition) == class_id), None
    )


def _class(class_id: str, condition: str, groups: GroupProjection) -> JsonObject:
    best = _best_of_class(class_id, groups)
    return present(
        deviceClassId=class_id,
        friendlyName=condition,
        deviceClassProperties={"compatProperties": {"condition": condition}},
        bestCompatibleUpdate=None if best is None else update_info(best, groups),
    )


def _states(groups: GroupProjection) -> list[dict[DeviceState, FleetSet]]:
    """The devices of each deployment by state, the last created deployment first."""
    return [groups.states(deployed) for deployed in groups.every_deployed_update]


def _device_answers(
    groups: GroupProjection, states: Sequence[Mapping[DeviceState, FleetSet]]
) -> Callable[[str, tuple[int, int]], JsonObject]:
    """The answer about a device by its id and location, without members that do not apply to it."""
    # The sets are computed once for all devices of a page.
    best_updates = groups.best(groups.devices("*"))
    members = [(name, groups.members(name)) for name in groups.names]
    brought = [(deployed, groups.having(deployed.update_deployment)) for deployed in groups.every_deployed_update]

    def answer(device_id: str, location: tuple[int, int]) -> JsonObject:
        names = [name for name, devices in members if is_among(location, devices)]
        attempted = next((deployed for deployed, having in brought if is_among(location, having)), None)
        installed, best = first_with(location, groups.installed), first_with(location, best_updates)
        state = next(filter(None, (first_with(location, by_state) for by_state in states)), None)
        return present(
            deviceId=device_id,
            deviceClassId=DEFAULT_CLASS if best is None else class_of(groups.updates[best].condition),
            onLatestUpdate=best is None or best == installed,
            # A device without the tag ADUGroup is in `$default`, and can be in a group that is defined by a condition as well.
            groupId=next((name for name in names if name != "$default" or len(names) == 1), None),
            deploymentStatus=None if state is None else state.value,
            installedUpdate=None if installed is None else update_info(installed, groups),
            lastAttemptedUpdate=None if attempted is None else update_info(attempted.deployment.update, groups),
            lastDeploymentId=None if attempted is None else attempted.deployment.id,
        )

    return answer


# -- groups


@router.get("/groups")
def list_groups(request: Request, groups: Groups, orderby: OrderBy = None) -> JsonObject:
    """The groups; without an order, the default group is first."""
    order = read_order(orderby, _ORDERS)
    if order is None:
        return list_page(request, groups.names, lambda name: _group(name, groups))
    answers = (_group(name, groups) for name in groups.names)
    return list_page(request, sorted(answers, key=lambda group: group[order[0]], reverse=order[1]))


@router.get("/groups/{group}")
def get_group(groups: Groups, group: str) -> JsonObject:
    """One group."""
    return _group(group, groups)


@router.delete("/groups/{group}", status_code=204)
def delete_group(request: Request, groups: Groups, group: str) -> None:
    """Delete a group and its deployments. A group that devices are tagged with remains, without a history."""
    groups.members(group)
    if group in groups.groups:
        write(request, RemoveGroup(group))


@router.get("/groups/{group}/updateCompliance")
def get_group_compliance(groups: Groups, group: str) -> JsonObject:
    """How many devices of a group have the newest update that fits them."""
    return _compliance(groups.compliance(groups.members(group)))


@router.get("/groups/{group}/bestUpdates")
def list_best(request: Request, groups: Groups, group: str) -> JsonObject:
    """The newest updates for a group, each with the number of devices that do not have it yet."""

    def shown(best: tuple[UpdateId, FleetSet]) -> JsonObject:
        update, members = best
        return _needed(group, class_of(groups.updates[update].condition), update, members, groups)

    return list_page(request, list(groups.best(groups.members(group)).items()), shown)


@router.get("/groups/{group}/deviceClassSubgroups")
def list_subgroups(request: Request, groups: Groups, group: str, filter_: Filter = None) -> JsonObject:
    """The classes that devices of a group are in."""
    condition = read_filter(filter_, (_COMPATIBLE,)).get(_COMPATIBLE)
    classes = [class_id for class_id in _classes_of(group, groups) if condition in {None, groups.classes[class_id]}]
    return list_page(request, classes, lambda class_id: _subgroup(group, class_id, groups))


@router.get(_SUBGROUP)
def get_subgroup(groups: Groups, group: str, device_class: str) -> JsonObject:
    """One class within a group."""
    condition_of(groups, device_class)
    return _subgroup(group, device_class, groups)


@router.delete(_SUBGROUP)
def delete_subgroup(groups: Groups, group: str, device_class: str) -> None:
    """Reject the deletion of a class."""
    _members(groups, group, device_class)
    raise NotOffered(CLASSES_DERIVED)


@router.get(f"{_SUBGROUP}/updateCompliance")
def get_subgroup_compliance(groups: Groups, group: str, device_class: str) -> JsonObject:
    """How many devices of a class within a group have the newest update."""
    return _compliance(groups.compliance(_members(groups, group, device_class)))


@router.get(f"{_SUBGROUP}/bestUpdates")
def get_best(groups: Groups, group: str, device_class: str) -> JsonObject:
    """The newest update of a class, with the number of devices of a group that do not have it yet."""
    members, best = _members(groups, group, device_class), _best_of_class(device_class, groups)
    if best is None:
        raise NotFound(f"there is no update for the class {device_class[:80]!r}")
    return _needed(group, device_class, best, members, groups)


def _members(groups: GroupProjection, group: str, device_class: str) -> FleetSet:
    return groups.members(group) & groups.devices(condition_of(groups, device_class))


def _needed(group: str, device_class: str, update: UpdateId, members: FleetSet, groups: GroupProjection) -> JsonObject:
    return {
        "groupId": group,
        "deviceClassId": device_class,
        "update": update_info(update, groups),
        "deviceCount": len(members - groups.installed.get(update, NO_DEVICES)),
    }


def _group(name: str, groups: GroupProjection) -> JsonObject:
    document = groups.groups.get(name)
    compliances = [groups.compliance(_members(groups, name, class_id)) for class_id in _classes_of(name, groups)]
    return {
        "groupId": name,
        "groupType": "DefaultNoTag" if name == "$default" else "IoTHubTag",
        "createdDateTime": time_text(0 if document is None else document.created_at),
        "deviceCount": len(groups.members(name)),
        "deployments": [deployed.deployment.id for deployed in groups.deployed_updates(name)],
        "subgroupsWithNewUpdatesAvailableCount": sum(bool(each.outdated) for each in compliances),
        "subgroupsWithUpdatesInProgressCount": sum(bool(each.under_way) for each in compliances),
        "subgroupsWithOnLatestUpdateCount": sum(not each.outdated and not each.under_way for each in compliances),
    }


def _classes_of(group: str, groups: GroupProjection) -> list[str]:
    members = groups.members(group)
    return [class_id for class_id, condition in groups.classes.items() if members & groups.devices(condition)]


def _subgroup(group: str, class_id: str, groups: GroupProjection) -> JsonObject:
    document = groups.groups.get(group)
    active = (deployed for deployed in groups.deployed_updates(group) if deployed.is_active)
    names = (deployed.deployment.id for deployed in active if class_of_update(deployed, groups) == class_id)
    return present(
        groupId=group,
        deviceClassId=class_id,
        createdDateTime=time_text(0 if document is None else document.created_at),
        deviceCount=len(_members(groups, group, class_id)),
        deploymentId=next(names, None),
    )
