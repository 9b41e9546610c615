"""The events of a device, its twin and its modules. Subject: `device` or `device/module`."""

import msgspec
from msgspec import UNSET, UnsetType

from events.canonical import JsonObject

# `authentication` is the hub's object (contract/hub.md §1.2) with a `{"$secret": id}` for each key; it is absent without keys,
# and in events from before it existed. `parent_scope` is the `deviceScope` of the parent; it is absent without a parent.


class DeviceRegistered(msgspec.Struct, frozen=True, tag="DeviceRegistered", forbid_unknown_fields=True):
    """A device joined the fleet. Each registration is a new generation, with a new ordinal in its partition."""

    edge: bool = True
    enabled: bool = True
    status_reason: str | None = None
    authentication: JsonObject | UnsetType = UNSET
    parent_scope: str | UnsetType = UNSET


class DeviceUpdated(msgspec.Struct, frozen=True, tag="DeviceUpdated", forbid_unknown_fields=True):
    """The identity changed; the event has all its values."""

    edge: bool
    enabled: bool
    status_reason: str | None = None
    authentication: JsonObject | UnsetType = UNSET
    parent_scope: str | UnsetType = UNSET


class DeviceRetired(msgspec.Struct, frozen=True, tag="DeviceRetired", forbid_unknown_fields=True):
    """The device left the fleet, with its twin and its modules."""


class ModuleCreated(msgspec.Struct, frozen=True, tag="ModuleCreated", forbid_unknown_fields=True):
    """A module identity was created by hand. Subject: the device."""

    module_id: str
    managed_by: str | None = None
    authentication: JsonObject | UnsetType = UNSET


class ModuleUpdated(msgspec.Struct, frozen=True, tag="ModuleUpdated", forbid_unknown_fields=True):
    """The identity of a module made by hand, or of a system module, was replaced. Subject: the device."""

    module_id: str
    managed_by: str | None = None
    authentication: JsonObject | UnsetType = UNSET


class ModuleDeleted(msgspec.Struct, frozen=True, tag="ModuleDeleted", forbid_unknown_fields=True):
    """A module identity made by hand was deleted. Subject: the device."""

    module_id: str


class TwinPatched(msgspec.Struct, frozen=True, tag="TwinPatched", forbid_unknown_fields=True):
    """Merge patches (RFC 7386) to the tags, the desired properties or both. `None` leaves a part unchanged."""

    tags: JsonObject | None = None
    desired: JsonObject | None = None


class TwinReplaced(msgspec.Struct, frozen=True, tag="TwinReplaced", forbid_unknown_fields=True):
    """Tags and desired properties were replaced."""

    tags: JsonObject
    desired: JsonObject


class ConfigurationSet(msgspec.Struct, frozen=True, tag="ConfigurationSet", forbid_unknown_fields=True):
    """A configuration was set on one device by hand; it writes the modules that it names.

    `content` is as in `DeploymentCreated`. The next automatic change replaces it (DESIGN §7).
    """

    content: JsonObject


class PropertiesReported(msgspec.Struct, frozen=True, tag="PropertiesReported", forbid_unknown_fields=True):
    """A merge patch (RFC 7386) to the reported properties, by the device or module itself."""

    patch: JsonObject


class DesiredDelivered(msgspec.Struct, frozen=True, tag="DesiredDelivered", forbid_unknown_fields=True):
    """The device acknowledged the desired properties of modules. Subject: the device.

    `versions`: the version by module (`versions` of the assignment counts the changes); `$device` is the device's own twin. The
    system modules acknowledge in their reported properties instead.
    """

    versions: dict[str, int]


DeviceEvent = (
    DeviceRegistered
    | DeviceUpdated
    | DeviceRetired
    | ModuleCreated
    | ModuleUpdated
    | ModuleDeleted
    | TwinPatched
    | TwinReplaced
    | ConfigurationSet
    | PropertiesReported
    | DesiredDelivered
)
