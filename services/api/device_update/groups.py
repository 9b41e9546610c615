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
from services.api.device_update.filters import read_filter, read_order
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
def list_groups(request: Request, group_projection: Groups, orderby: OrderBy = None) -> JsonObject:
    """The groups; without an order, the default group is first."""
    order = read_order(orderby, _ORDERS)
    if order is None:
        return list_page(request, group_projection.names, lambda name: _group(name, group_projection))
    groups = (_group(name, group_projection) for name in group_projection.names)
    return list_page(request, sorted(groups, key=lambda group: group[order[0]], reverse=order[1]))


@router.get("/{group}")
def get_group(group_projection: Groups, group: str) -> JsonObject:
    """One group."""
    return _group(group, group_projection)


@router.delete("/{group}", status_code=204)
def delete_group(request: Request, group_projection: Groups, group: str) -> None:
    """Delete a group and its deployments. A group that devices are tagged with remains, without a history."""
    group_projection.members(group)
    if group in group_projection.groups:
        write(request, RemoveGroup(group))


@router.get("/{group}/updateCompliance")
def get_compliance(group_projection: Groups, group: str) -> JsonObject:
    """How many devices of a group have the newest update that fits them."""
    return compliance_answer(group_projection.compliance(group_projection.members(group)))


@router.get("/{group}/bestUpdates")
def list_best(request: Request, group_projection: Groups, group: str) -> JsonObject:
    """The newest updates for a group, each with the number of devices that do not have it yet."""
    best = list(group_projection.best(group_projection.members(group)).items())
    return list_page(
        request,
        best,
        lambda pair: _needed(
            group, class_of(group_projection.updates[pair[0]].condition), pair[0], pair[1], group_projection
        ),
    )


@router.get("/{group}/deviceClassSubgroups")
def list_subgroups(request: Request, group_projection: Groups, group: str, filter_: Filter = None) -> JsonObject:
    """The classes that devices of a group are in."""
    condition = read_filter(filter_, (_COMPATIBLE,)).get(_COMPATIBLE)
    classes = [
        class_id
        for class_id in _classes_of(group, group_projection)
        if condition in {None, group_projection.classes[class_id]}
    ]
    return list_page(request, classes, lambda class_id: _subgroup(group, class_id, group_projection))


@router.get(_SUBGROUP)
def get_subgroup(group_projection: Groups, group: str, device_class: str) -> JsonObject:
    """One class within a group."""
    condition_of(group_projection, device_class)
    return _subgroup(group, device_class, group_projection)


@router.delete(_SUBGROUP)
def delete_subgroup(group_projection: Groups, group: str, device_class: str) -> None:
    """Reject the deletion of a class."""
    _members(group_projection, group, device_class)
    raise NotOffered(CLASSES_DERIVED)


@router.get(f"{_SUBGROUP}/updateCompliance")
def get_subgroup_compliance(group_projection: Groups, group: str, device_class: str) -> JsonObject:
    """How many devices of a class within a group have the newest update."""
    return compliance_answer(group_projection.compliance(_members(group_projection, group, device_class)))


@router.get(f"{_SUBGROUP}/bestUpdates")
def get_best(group_projection: Groups, group: str, device_class: str) -> JsonObject:
    """The newest update of a class, with the number of devices of a group that do not have it yet."""
    members, best = _members(group_projection, group, device_class), best_of_class(device_class, group_projection)
    if best is None:
        raise NotFound(f"there is no update for the class {device_class[:80]!r}")
    return _needed(group, device_class, best, members, group_projection)


def _members(group_projection: GroupProjection, group: str, device_class: str) -> FleetSet:
    return group_projection.members(group) & group_projection.devices(condition_of(group_projection, device_class))


def _needed(
    group: str, device_class: str, update: UpdateId, members: FleetSet, group_projection: GroupProjection
) -> JsonObject:
    return {
        "groupId": group,
        "deviceClassId": device_class,
        "update": update_info(update, group_projection),
        "deviceCount": len(members - group_projection.installed.get(update, NO_DEVICES)),
    }


def _group(name: str, group_projection: GroupProjection) -> JsonObject:
    document = group_projection.groups.get(name)
    compliances = [
        group_projection.compliance(_members(group_projection, name, class_id))
        for class_id in _classes_of(name, group_projection)
    ]
    return {
        "groupId": name,
        "groupType": "DefaultNoTag" if name == "$default" else "IoTHubTag",
        "createdDateTime": time_text(0 if document is None else document.created_at),
        "deviceCount": len(group_projection.members(name)),
        "deployments": [deployed_update.deployment.id for deployed_update in group_projection.deployed_updates(name)],
        "subgroupsWithNewUpdatesAvailableCount": sum(bool(each.outdated) for each in compliances),
        "subgroupsWithUpdatesInProgressCount": sum(bool(each.under_way) for each in compliances),
        "subgroupsWithOnLatestUpdateCount": sum(not each.outdated and not each.under_way for each in compliances),
    }


def _classes_of(group: str, group_projection: GroupProjection) -> list[str]:
    members = group_projection.members(group)
    return [
        class_id
        for class_id, condition in group_projection.classes.items()
        if members & group_projection.devices(condition)
    ]


def _subgroup(group: str, class_id: str, group_projection: GroupProjection) -> JsonObject:
    document = group_projection.groups.get(group)
    active = next(
        (
            deployed_update
            for deployed_update in group_projection.deployed_updates(group)
            if deployed_update.is_active and class_of_update(deployed_update, group_projection) == class_id
        ),
        None,
    )
    return present(
        groupId=group,
        deviceClassId=class_id,
        createdDateTime=time_text(0 if document is None else document.created_at),
        deviceCount=len(_members(group_projection, group, class_id)),
        deploymentId=None if active is None else active.deployment.id,
    )
