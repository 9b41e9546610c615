"""Parents and children: the devices that an edge device is the gateway for (contract/hub.md §1.5, contract/device.md §2)."""

import re
from collections.abc import Mapping

from events.device import errors
from events.device.commands import RegisterDevice, UpdateDevice
from events.device.state import DeviceDocument
from events.device.times import ticks

LAYERS_MAX = 5
"""The most layers of edge devices below an edge device (IoT Edge, limits and restrictions)."""

SCOPE_CHARACTERS_MAX = 256
"""A scope is a prefix, a device id of at most 128 characters, and a number."""

_SCOPE = re.compile(r"ms-azure-iot-edge://(.{1,128})-[0-9]{1,20}")

Documents = Mapping[str, DeviceDocument | None]
"""Devices by id; `None` for a missing device."""


def generation_id(document: DeviceDocument) -> str:
    """Returns an id of the registration: its time in ticks of 100 ns since the year 1, as the hub has it."""
    # Plus the generation: two registrations can have the same millisecond.
    return str(ticks(max(document.registered_at, 0)) + document.generation)


def own_scope(device_id: str, document: DeviceDocument) -> str:
    """Returns the scope by which children name an edge device. It never changes within a registration."""
    return f"ms-azure-iot-edge://{device_id}-{generation_id(document)}"


def device_scope(device_id: str, document: DeviceDocument) -> str | None:
    """Returns `deviceScope`: the own scope of an edge device, the parent's scope of other devices; `None` without a parent."""
    return own_scope(device_id, document) if document.edge else document.parent_scope or None


def parent_scopes(document: DeviceDocument) -> list[str]:
    """Returns `parentScopes`: the scope of the parent, or an empty list."""
    return [document.parent_scope] if document.parent_scope else []


def device_of_scope(scope: str) -> str | None:
    """Returns the device id in a scope; `None` if the text is not a scope."""
    match = _SCOPE.fullmatch(scope)
    return None if match is None else match[1]


def parent_after(
    command: RegisterDevice | UpdateDevice, device: DeviceDocument | None, documents: Documents, *, edge: bool
) -> str:
    """Returns the scope of the parent after a command, empty for no parent.

    `edge` is the capability after the command; `documents` has the named parent and its ancestors.

    Raises:
        DeviceScopeInvalid: the members contradict each other, an edge device would get another scope, or a text is not a scope.
        ParentNotFound, ParentNotEdgeCapable: the scope is not that of an edge device.
        HierarchyCyclic: the device would be its own ancestor.
        HierarchyTooDeep: an edge device would be more than 5 layers below the top, another device more than 6.
    """
    after = _requested_parent(command, device, edge=edge)
    before = ("", edge) if device is None else (device.parent_scope, device.edge)
    # An unchanged parent is not checked again: it may have been retired since, and an unrelated update must still work.
    if after and (after != before[0] or (edge and not before[1])):
        _check_parent(command.device_id, after, documents, edge=edge)
    return after


def _requested_parent(command: RegisterDevice | UpdateDevice, before: DeviceDocument | None, *, edge: bool) -> str:
    device_id, device_scope, parent_scopes = command.device_id, command.device_scope, command.parent_scopes
    if parent_scopes is not None and len(parent_scopes) > 1:
        rule = "has at most one scope, because a device has at most one parent"
        raise errors.DeviceScopeInvalid(device_id, "parentScopes", rule)
    # A member that is `None` asks for no change.
    current = "" if before is None else before.parent_scope
    named = None if parent_scopes is None else next(iter(parent_scopes), "")
    if before is not None and device_scope == own_scope(device_id, before):
        device_scope = None
    if edge:
        if device_scope not in {None, "", current}:
            rule = "of an edge device never changes; name its parent in parentScopes"
            raise errors.DeviceScopeInvalid(device_id, "deviceScope", rule)
        return current if named is None else named
    if device_scope and not named:
        # Clients leave the list empty, and the hub fills it in.
        named = None
    # A client that sends an identity back changes one of the two members and echoes the other: the changed one counts.
    changes = {scope for scope in (device_scope, named) if scope is not None and scope != current}
    if len(changes) > 1:
        rule = "and parentScopes name different parents; send one of them"
        raise errors.DeviceScopeInvalid(device_id, "deviceScope", rule)
    return next(iter(changes), current)


def _check_parent(device_id: str, parent_scope: str, documents: Documents, *, edge: bool) -> None:
    # Other devices can be below the fifth layer of edge devices (docs/guides/clients.md).
    layers_max = LAYERS_MAX if edge else LAYERS_MAX + 1
    above: list[str] = []
    scope = parent_scope
    while scope:
        ancestor = device_of_scope(scope)
        if ancestor == device_id:
            raise errors.HierarchyCyclic(device_id, (*above, device_id))
        if ancestor is None and not above:
            rule = "and parentScopes name a parent by its deviceScope, ms-azure-iot-edge://ID-NUMBER"
            raise errors.DeviceScopeInvalid(device_id, "deviceScope", rule)
        document = None if ancestor is None else documents.get(ancestor)
        if ancestor is None or document is None or document.retired or own_scope(ancestor, document) != scope:
            if not above:
                raise errors.ParentNotFound(device_id, scope)
            # The ancestor was retired, or registered again with a new scope: the hierarchy ends here.
            break
        if not above and not document.edge:
            raise errors.ParentNotEdgeCapable(device_id, ancestor)
        above.append(ancestor)
        if len(above) > layers_max:
            raise errors.HierarchyTooDeep(device_id, above[0], LAYERS_MAX)
        scope = document.parent_scope
