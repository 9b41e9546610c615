"""The update service's paths of groups, and of the device classes within them."""

from fastapi import Request

from events.canonical import JsonObject
from events.device.times import time_text
from events.projection_store.groups import GroupProjection, class_of
from events.rollout.sets import NO_DEVICES, FleetSet
from events.update.commands import RemoveGroup
from events.update.names import UpdateId
from services.api.context.groups import Groups
from services.api.context.request import write
from services.api.device_update.lists import (
    CLASSES_DERIVED,
    Filter,
    OrderBy,
    best_of_class,
    class_of_update,
    compliance_answer,
    condition_of,
    device_update_router,
    list_page,
    present,
    read_filter,
    read_order,
    update_info,
)
from services.api.http.errors import NotFound, NotOffered

router = device_update_router("/management/groups")

_SUBGROUP = "/{group}/deviceClassSubgroups/{device_class}"
_ORDERS = {
    "groupId": "groupId",
    "deviceCount": "deviceCount",
    "createdDate": "createdDateTime",
    "subgroupsWithNewUpdatesAvailableCount": "subgroupsWithNewUpdatesAvailableCount",
    "subgroupsWithUpdatesInProgressCount": "subgroupsWithUpdatesInProgressCount",
    "subgroupsOnLatestUpdateCount": "subgroupsWithOnLatestUpdateCount",
}
_COMPATIBLE = "compatProperties/condition"


@router.get("")
def list_groups(request: Request, groups: Groups, orderby: OrderBy = None) -> JsonObject:
    """The groups; without an order, the default group is first."""
    order = read_order(orderby, _ORDERS)
    if order is None:
        return list_page(request, groups.names, lambda name: _group(name, groups))
    answers = (_group(name, groups) for name in groups.names)
    return list_page(request, sorted(answers, key=lambda group: group[order[0]], reverse=order[1]))


@router.get("/{group}")
def get_group(groups: Groups, group: str) -> JsonObject:
    """One group."""
    return _group(group, groups)


@router.delete("/{group}", status_code=204)
def delete_group(request: Request, groups: Groups, group: str) -> None:
    """Delete a group and its deployments. A group that devices are tagged with remains, without a history."""
    groups.members(group)
    if group in groups.groups:
        write(request, RemoveGroup(group))


@router.get("/{group}/updateCompliance")
def get_compliance(groups: Groups, group: str) -> JsonObject:
    """How many devices of a group have the newest update that fits them."""
    return compliance_answer(groups.compliance(groups.members(group)))


@router.get("/{group}/bestUpdates")
def list_best(request: Request, groups: Groups, group: str) -> JsonObject:
    """The newest updates for a group, each with the number of devices that do not have it yet."""

    def shown(best: tuple[UpdateId, FleetSet]) -> JsonObject:
        update, members = best
        return _needed(group, class_of(groups.updates[update].condition), update, members, groups)

    return list_page(request, list(groups.best(groups.members(group)).items()), shown)


@router.get("/{group}/deviceClassSubgroups")
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
    return compliance_answer(groups.compliance(_members(groups, group, device_class)))


@router.get(f"{_SUBGROUP}/bestUpdates")
def get_best(groups: Groups, group: str, device_class: str) -> JsonObject:
    """The newest update of a class, with the number of devices of a group that do not have it yet."""
    members, best = _members(groups, group, device_class), best_of_class(device_class, groups)
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
