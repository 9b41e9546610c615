"""The update service's paths of groups, and of the classes within them."""

from fastapi import Request

from events.canonical import JsonObject
from events.device.times import time_text
from events.rollout.sets import NOBODY, FleetSet
from events.update.commands import RemoveGroup
from events.update.names import UpdateId
from events.view_store.groups import GroupView, class_of
from services.api.context.groups import View
from services.api.context.request import author_of, room_of
from services.api.device_update.filters import read_filter, read_order
from services.api.device_update.lists import (
    CLASSES_FOLLOW,
    Filter,
    OrderBy,
    best_of_class,
    class_of_update,
    compliance_answer,
    condition_of,
    device_update_router,
    listed,
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
def list_groups(request: Request, view: View, orderby: OrderBy = None) -> JsonObject:
    """The groups, the default one first unless they are ordered."""
    order = read_order(orderby, _ORDERS)
    if order is None:
        return listed(request, view.names, lambda name: _group(name, view))
    found = (_group(name, view) for name in view.names)
    return listed(request, sorted(found, key=lambda one: one[order[0]], reverse=order[1]))


@router.get("/{group}")
def get_group(view: View, group: str) -> JsonObject:
    """One group."""
    return _group(group, view)


@router.delete("/{group}", status_code=204)
def delete_group(request: Request, view: View, group: str) -> None:
    """Forget a group and what was deployed to it; one that devices are tagged with stays, without a history."""
    view.members(group)
    if group in view.groups:
        room_of(request).do(RemoveGroup(group), author_of(request))


@router.get("/{group}/updateCompliance")
def get_compliance(view: View, group: str) -> JsonObject:
    """How the devices of a group stand to the newest updates that fit them."""
    return compliance_answer(view.compliance(view.members(group)))


@router.get("/{group}/bestUpdates")
def list_best(request: Request, view: View, group: str) -> JsonObject:
    """The newest updates for a group, with how many devices do not have them yet."""
    best = list(view.best(view.members(group)).items())
    return listed(
        request, best, lambda pair: _needed(group, class_of(view.updates[pair[0]].condition), pair[0], pair[1], view)
    )


@router.get("/{group}/deviceClassSubgroups")
def list_subgroups(request: Request, view: View, group: str, filter_: Filter = None) -> JsonObject:
    """The classes that devices of a group are in."""
    wanted = read_filter(filter_, (_COMPATIBLE,)).get(_COMPATIBLE)
    found = [one for one in _classes_of(group, view) if wanted in {None, view.classes[one]}]
    return listed(request, found, lambda class_id: _subgroup(group, class_id, view))


@router.get(_SUBGROUP)
def get_subgroup(view: View, group: str, device_class: str) -> JsonObject:
    """One class within a group."""
    condition_of(view, device_class)
    return _subgroup(group, device_class, view)


@router.delete(_SUBGROUP)
def delete_subgroup(view: View, group: str, device_class: str) -> None:
    """Classes follow from updates."""
    _members(view, group, device_class)
    raise NotOffered(CLASSES_FOLLOW)


@router.get(f"{_SUBGROUP}/updateCompliance")
def get_subgroup_compliance(view: View, group: str, device_class: str) -> JsonObject:
    """How a class within a group stands to the newest updates."""
    return compliance_answer(view.compliance(_members(view, group, device_class)))


@router.get(f"{_SUBGROUP}/bestUpdates")
def get_best(view: View, group: str, device_class: str) -> JsonObject:
    """The newest update of a class, with how many devices of a group do not have it yet."""
    members, best = _members(view, group, device_class), best_of_class(device_class, view)
    if best is None:
        raise NotFound(f"there is no update for the class {device_class[:80]!r}")
    return _needed(group, device_class, best, members, view)


def _members(view: GroupView, group: str, device_class: str) -> FleetSet:
    return view.members(group) & view.devices(condition_of(view, device_class))


def _needed(group: str, device_class: str, update: UpdateId, members: FleetSet, view: GroupView) -> JsonObject:
    return {
        "groupId": group,
        "deviceClassId": device_class,
        "update": update_info(update, view),
        "deviceCount": len(members - view.installed.get(update, NOBODY)),
    }


def _group(name: str, view: GroupView) -> JsonObject:
    """A group, with its device classes by how they stand to their newest updates."""
    document = view.groups.get(name)
    classes = [view.compliance(_members(view, name, class_id)) for class_id in _classes_of(name, view)]
    return {
        "groupId": name,
        "groupType": "DefaultNoTag" if name == "$default" else "IoTHubTag",
        "createdDateTime": time_text(0 if document is None else document.created_at),
        "deviceCount": len(view.members(name)),
        "deployments": [one.deployment.id for one in view.carried(name)],
        "subgroupsWithNewUpdatesAvailableCount": sum(bool(one.outdated) for one in classes),
        "subgroupsWithUpdatesInProgressCount": sum(bool(one.under_way) for one in classes),
        "subgroupsWithOnLatestUpdateCount": sum(not one.outdated and not one.under_way for one in classes),
    }


def _classes_of(group: str, view: GroupView) -> list[str]:
    """The classes that devices of a group are in."""
    members = view.members(group)
    return [class_id for class_id, condition in view.classes.items() if members & view.devices(condition)]


def _subgroup(group: str, class_id: str, view: GroupView) -> JsonObject:
    """Those of a group who are in a class."""
    document = view.groups.get(group)
    active = next(
        (one for one in view.carried(group) if one.is_active and class_of_update(one, view) == class_id), None
    )
    return {
        "groupId": group,
        "deviceClassId": class_id,
        "createdDateTime": time_text(0 if document is None else document.created_at),
        "deviceCount": len(_members(view, group, class_id)),
        **({} if active is None else {"deploymentId": active.deployment.id}),
    }
