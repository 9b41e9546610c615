"""What can be asked of a device."""

from typing import Any, Literal

import msgspec
from typing_extensions import override


class _Keyed(msgspec.Struct, frozen=True):
    """A command that may hold keys, which do not show when it is printed."""

    @override
    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"

    @override
    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, ... if name == "authentication" else getattr(self, name)) for name in self.__struct_fields__]


class RegisterDevice(_Keyed, frozen=True):
    """Let a device join; one that was retired joins as a new generation.

    `authentication` is the hub's object (contract/hub.md §1.5): `{"type": "sas", "symmetricKey": {"primaryKey": …}}` and so on.
    `None` asks for new keys, which producers of `open_producer` and the API make; `KEYS_DECLINED` for none.
    The parent of an edge device is in `parent_scopes`, that of another in `device_scope`, by its `deviceScope`.
    """

    device_id: str
    edge: bool = True
    enabled: bool = True
    status_reason: str | None = None
    authentication: dict[str, Any] | None = None
    device_scope: str | None = None
    parent_scopes: tuple[str, ...] | None = None


class UpdateDevice(_Keyed, frozen=True):
    """Change the identity; `None` leaves a value as it is. `if_match` is the identity's etag, `*`, or no condition.

    An empty `device_scope`, or of an edge device empty `parent_scopes`, takes the parent away.
    """

    device_id: str
    edge: bool | None = None
    enabled: bool | None = None
    status_reason: str | None = None
    if_match: str | None = None
    authentication: dict[str, Any] | None = None
    device_scope: str | None = None
    parent_scopes: tuple[str, ...] | None = None


class RetireDevice(msgspec.Struct, frozen=True):
    """Let a device go, with its twin and modules. `if_match`: as in `UpdateDevice`."""

    device_id: str
    if_match: str | None = None


class CreateModule(_Keyed, frozen=True):
    """Make a module identity by hand. `authentication`: as in `RegisterDevice`."""

    device_id: str
    module_id: str
    managed_by: str | None = None
    authentication: dict[str, Any] | None = None


class UpdateModule(_Keyed, frozen=True):
    """Make a module identity exactly this (contract/hub.md §1.5). `if_match` is the identity's etag, `*`, or no condition.

    Without `authentication` it keeps the keys that it has. A system module, which comes and goes with its device, gets keys of
    its own so; its owner is always `iotEdge`.
    """

    device_id: str
    module_id: str
    managed_by: str | None = None
    authentication: dict[str, Any] | None = None
    if_match: str | None = None


class DeleteModule(msgspec.Struct, frozen=True):
    """Remove a module identity made by hand. `if_match`: as in `UpdateModule`."""

    device_id: str
    module_id: str
    if_match: str | None = None


class PatchTags(msgspec.Struct, frozen=True):
    """Merge-patch a device's tags; null removes one."""

    device_id: str
    tags: dict[str, Any]


class PatchTwin(msgspec.Struct, frozen=True):
    """Merge-patch tags, desired properties or both, of a device or one of its modules.

    `None` leaves a part as it is; the parts in `clear` lose all they have. `if_match` is an etag as the twin shows it, `*`, or
    `None` for no condition.
    """

    device_id: str
    module_id: str | None = None
    tags: dict[str, Any] | None = None
    desired: dict[str, Any] | None = None
    if_match: str | None = None
    clear: tuple[Literal["tags", "desired"], ...] = ()


class ReplaceTwin(msgspec.Struct, frozen=True):
    """Make tags and desired properties exactly these."""

    device_id: str
    module_id: str | None = None
    tags: dict[str, Any] = {}
    desired: dict[str, Any] = {}
    if_match: str | None = None


class SetConfiguration(msgspec.Struct, frozen=True):
    """Set a configuration on one edge device by hand (contract/hub.md §1.1, applyConfigurationContent).

    It writes the modules that it names, once; the next automatic change replaces it.
    """

    device_id: str
    content: dict[str, Any]


class ReportProperties(msgspec.Struct, frozen=True):
    """Merge-patch reported properties, as the device or module itself does."""

    device_id: str
    patch: dict[str, Any]
    module_id: str | None = None


class AcknowledgeDesired(msgspec.Struct, frozen=True):
    """Say that a device has sections of what configurations give it; `versions` is as in `DesiredDelivered`."""

    device_id: str
    versions: dict[str, int]


DeviceCommand = (
    RegisterDevice
    | UpdateDevice
    | RetireDevice
    | CreateModule
    | UpdateModule
    | DeleteModule
    | PatchTags
    | PatchTwin
    | ReplaceTwin
    | SetConfiguration
    | ReportProperties
    | AcknowledgeDesired
)
