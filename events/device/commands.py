"""What can be asked of a device."""

from typing import Any

import msgspec


class RegisterDevice(msgspec.Struct, frozen=True):
    """Let a device join; one that was retired joins as a new generation."""

    device_id: str
    edge: bool = True
    enabled: bool = True
    status_reason: str | None = None


class UpdateDevice(msgspec.Struct, frozen=True):
    """Change the identity; `None` leaves a value as it is. `if_match` is the identity's etag, `*`, or no condition."""

    device_id: str
    edge: bool | None = None
    enabled: bool | None = None
    status_reason: str | None = None
    if_match: str | None = None


class RetireDevice(msgspec.Struct, frozen=True):
    """Let a device go, with its twin and modules. `if_match`: as in `UpdateDevice`."""

    device_id: str
    if_match: str | None = None


class CreateModule(msgspec.Struct, frozen=True):
    """Make a module identity by hand."""

    device_id: str
    module_id: str
    managed_by: str | None = None


class DeleteModule(msgspec.Struct, frozen=True):
    """Remove a module identity made by hand."""

    device_id: str
    module_id: str


class PatchTags(msgspec.Struct, frozen=True):
    """Merge-patch a device's tags; null removes one."""

    device_id: str
    tags: dict[str, Any]


class PatchTwin(msgspec.Struct, frozen=True):
    """Merge-patch tags, desired properties or both, of a device or one of its modules (which have no tags here).

    `if_match` is an etag as the twin shows it, `*`, or `None` for no condition.
    """

    device_id: str
    module_id: str | None = None
    tags: dict[str, Any] | None = None
    desired: dict[str, Any] | None = None
    if_match: str | None = None


class ReplaceTwin(msgspec.Struct, frozen=True):
    """Make tags and desired properties exactly these."""

    device_id: str
    module_id: str | None = None
    tags: dict[str, Any] = {}
    desired: dict[str, Any] = {}
    if_match: str | None = None


class ReportProperties(msgspec.Struct, frozen=True):
    """Merge-patch reported properties, as the device or module itself does."""

    device_id: str
    patch: dict[str, Any]
    module_id: str | None = None


DeviceCommand = (
    RegisterDevice
    | UpdateDevice
    | RetireDevice
    | CreateModule
    | DeleteModule
    | PatchTags
    | PatchTwin
    | ReplaceTwin
    | ReportProperties
)
