"""What can happen to a device, its twin and its modules. Subject: `device` or `device/module`."""

import msgspec

from events.canonical import JsonObject


class DeviceRegistered(msgspec.Struct, frozen=True, tag="DeviceRegistered", forbid_unknown_fields=True):
    """A device joined the fleet. Each registration is a new generation, with a new ordinal in its partition."""

    edge: bool = True
    enabled: bool = True
    status_reason: str | None = None


class DeviceUpdated(msgspec.Struct, frozen=True, tag="DeviceUpdated", forbid_unknown_fields=True):
    """The identity changed; the values are all those it has now."""

    edge: bool
    enabled: bool
    status_reason: str | None = None


class DeviceRetired(msgspec.Struct, frozen=True, tag="DeviceRetired", forbid_unknown_fields=True):
    """The device left the fleet, with its twin and its modules."""


class ModuleCreated(msgspec.Struct, frozen=True, tag="ModuleCreated", forbid_unknown_fields=True):
    """A module identity was made by hand. Subject: the device, whose registry it is part of."""

    module_id: str
    managed_by: str | None = None


class ModuleDeleted(msgspec.Struct, frozen=True, tag="ModuleDeleted", forbid_unknown_fields=True):
    """A module identity made by hand is gone. Subject: the device."""

    module_id: str


class TwinPatched(msgspec.Struct, frozen=True, tag="TwinPatched", forbid_unknown_fields=True):
    """Merge patches (RFC 7386) to the tags, the desired properties or both. `None` leaves a part alone."""

    tags: JsonObject | None = None
    desired: JsonObject | None = None


class TwinReplaced(msgspec.Struct, frozen=True, tag="TwinReplaced", forbid_unknown_fields=True):
    """Tags and desired properties are now exactly these."""

    tags: JsonObject
    desired: JsonObject


class PropertiesReported(msgspec.Struct, frozen=True, tag="PropertiesReported", forbid_unknown_fields=True):
    """A merge patch (RFC 7386) to the reported properties, by the device or module itself."""

    patch: JsonObject


DeviceFact = (
    DeviceRegistered
    | DeviceUpdated
    | DeviceRetired
    | ModuleCreated
    | ModuleDeleted
    | TwinPatched
    | TwinReplaced
    | PropertiesReported
)
