"""Parents and children: which device an edge device is the gateway of (contract/hub.md §1.5, contract/device.md §2)."""

import re
from collections.abc import Mapping

from events.device.errors import (
    DeviceScopeInvalid,
    HierarchyCyclic,
    HierarchyTooDeep,
    ParentNotEdgeCapable,
    ParentNotFound,
)
from events.device.state import DeviceDocument
from events.device.times import ticks

LAYERS_MAX = 5
"""How many layers of edge devices can be below an edge device (IoT Edge, limits and restrictions)."""

SCOPE_CHARACTERS_MAX = 256
"""A scope is a prefix, a device id of at most 128 characters, and a number."""

_SCOPE = re.compile(r"ms-azure-iot-edge://(.{1,128})-[0-9]{1,20}")

Documents = Mapping[str, DeviceDocument | None]
"""Devices by id; `None` where there is none."""


def generation_id(document: DeviceDocument) -> str:
    """When the device was registered in ticks of 100 ns since the year 1, as the hub counts."""
    return str(ticks(max(document.registered_at, 0)) + document.generation)


def own_scope(device_id: str, document: DeviceDocument) -> str:
    """The scope that children of a device name, if it is an edge device. It never changes within a registration."""
    return f"ms-azure-iot-edge://{device_id}-{generation_id(document)}"


def device_scope(device_id: str, document: DeviceDocument) -> str | None:
    """`deviceScope`: of an edge device its own, of any other device its parent's; `None` where it has none."""
    return own_scope(device_id, document) if document.edge else document.parent_scope or None


def parent_scopes(document: DeviceDocument) -> list[str]:
    """`parentScopes`: the scope of the parent, if there is one."""
    return [document.parent_scope] if document.parent_scope else []


def device_of_scope(scope: str) -> str | None:
    """The device that a scope is of; `None` where it is no scope."""
    found = _SCOPE.fullmatch(scope)
    return None if found is None else found[1]


def parent_asked(
    device_id: str,
    before: DeviceDocument | None,
    *,
    edge: bool,
    device_scope: str | None,
    parent_scopes: tuple[str, ...] | None,
) -> str:
    """The scope of the parent that a device is to have, empty for none; `None` leaves a member as it is.

    A client that sends an identity back changes one of the two members, and echoes the other. So the one that differs from
    what the device has counts. An edge device has its parent in `parentScopes` alone.

    Raises:
        DeviceScopeInvalid: the members contradict each other, or an edge device would get another scope.
    """
    if parent_scopes is not None and len(parent_scopes) > 1:
        raise DeviceScopeInvalid(device_id, "parentScopes", "has at most one scope, as a device has at most one parent")
    current = "" if before is None else before.parent_scope
    named = None if parent_scopes is None else next(iter(parent_scopes), "")
    if before is not None and device_scope == own_scope(device_id, before):
        device_scope = None
    if edge:
        if device_scope not in {None, "", current}:
            raise DeviceScopeInvalid(
                device_id,
                "deviceScope",
                "of an edge device is its own and never changes; name its parent in parentScopes",
            )
        return current if named is None else named
    if device_scope and not named:
        named = None  # Clients leave the list empty for the hub to fill in.
    changes = {scope for scope in (device_scope, named) if scope is not None and scope != current}
    if len(changes) > 1:
        raise DeviceScopeInvalid(device_id, "deviceScope", "and parentScopes name different parents; send one of them")
    return next(iter(changes), current)


def check_parent(device_id: str, parent_scope: str, documents: Documents, *, edge: bool) -> None:
    """Refuse a parent that a device cannot have. `documents` holds the parent and all that is above it.

    Raises:
        DeviceScopeInvalid: it is no scope.
        ParentNotFound, ParentNotEdgeCapable: there is no such edge device.
        HierarchyCyclic: the device would be above itself.
        HierarchyTooDeep: an edge device would be more than five layers below the top, or another below such a one.
    """
    layers_max = LAYERS_MAX if edge else LAYERS_MAX + 1
    above: list[str] = []
    scope = parent_scope
    while scope:
        ancestor = device_of_scope(scope)
        if ancestor == device_id:
            raise HierarchyCyclic(device_id, (*above, device_id))
        document = None if ancestor is None else documents.get(ancestor)
        if not above:
            _check_direct(device_id, scope, ancestor, document)
        if ancestor is None or document is None or document.retired or own_scope(ancestor, document) != scope:
            break  # What is above has left, or was registered again: the hierarchy ends here.
        above.append(ancestor)
        if len(above) > layers_max:
            raise HierarchyTooDeep(device_id, above[0], LAYERS_MAX)
        scope = document.parent_scope


def _check_direct(device_id: str, scope: str, parent: str | None, document: DeviceDocument | None) -> None:
    if parent is None:
        raise DeviceScopeInvalid(
            device_id, "deviceScope", "and parentScopes name a parent by its deviceScope, ms-azure-iot-edge://ID-NUMBER"
        )
    if document is None or document.retired or own_scope(parent, document) != scope:
        raise ParentNotFound(device_id, scope)
    if not document.edge:
        raise ParentNotEdgeCapable(device_id, parent)
