"""The commands on devices, modules and twins."""

from typing import Any, Literal

import msgspec
from typing_extensions import override

from events.device.identifiers import module_subject


class _Keyed(msgspec.Struct, frozen=True):
    """A command that can hold keys; its representation hides them."""

    @override
    def __repr__(self) -> str:
        members = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({members})"

    @override
    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, ... if name == "authentication" else getattr(self, name)) for name in self.__struct_fields__]


class RegisterDevice(_Keyed, frozen=True):
    """Register a device; a retired device gets a new generation.

    `authentication` is the hub's object (contract/hub.md §1.5): `{"type": "sas", "symmetricKey": {"primaryKey": …}}` and so on.
    `None` asks for new keys, which the API and producers of `open_producer` generate; `KEYS_DECLINED` asks for no keys.
    The parent, by its `deviceScope`, is in `parent_scopes` for an edge device, and in `device_scope` for other devices.
    """

    device_id: str
    edge: bool = True
    enabled: bool = True
    status_reason: str | None = None
    authentication: dict[str, Any] | None = None
    device_scope: str | None = None
    parent_scopes: tuple[str, ...] | None = None


class UpdateDevice(_Keyed, frozen=True):
    """Update the identity; `None` leaves a value unchanged. `if_match` is the identity's etag, `*`, or no condition.

    An empty `device_scope`, or empty `parent_scopes` of an edge device, removes the parent.
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
    """Retire a device, with its twin and modules. `if_match`: as in `UpdateDevice`."""

    device_id: str
    if_match: str | None = None


class CreateModule(_Keyed, frozen=True):
    """Create a module identity by hand. `authentication`: as in `RegisterDevice`."""

    device_id: str
    module_id: str
    managed_by: str | None = None
    authentication: dict[str, Any] | None = None


class UpdateModule(_Keyed, frozen=True):
    """Replace a module identity (contract/hub.md §1.5). `if_match` is the identity's etag, `*`, or no condition.

    Without `authentication` it keeps its keys. This is the way to give keys to a system module; its owner is always `iotEdge`.
    """

    device_id: str
    module_id: str
    managed_by: str | None = None
    authentication: dict[str, Any] | None = None
    if_match: str | None = None


class DeleteModule(msgspec.Struct, frozen=True):
    """Delete a module identity made by hand. `if_match`: as in `UpdateModule`."""

    device_id: str
    module_id: str
    if_match: str | None = None


class PatchTags(msgspec.Struct, frozen=True):
    """Merge-patch a device's tags; null removes a tag."""

    device_id: str
    tags: dict[str, Any]


class PatchTwin(msgspec.Struct, frozen=True):
    """Merge-patch tags, desired properties or both, of a device or one of its modules.

    `None` leaves a part unchanged; the parts in `clear` are emptied before the patch. `if_match` is the twin's etag, `*`, or `None`
    for no condition.
    """

    device_id: str
    module_id: str | None = None
    tags: dict[str, Any] | None = None
    desired: dict[str, Any] | None = None
    if_match: str | None = None
    clear: tuple[Literal["tags", "desired"], ...] = ()


class ReplaceTwin(msgspec.Struct, frozen=True):
    """Replace tags and desired properties."""

    device_id: str
    module_id: str | None = None
    tags: dict[str, Any] = {}
    desired: dict[str, Any] = {}
    if_match: str | None = None


class SetConfiguration(msgspec.Struct, frozen=True):
    """Set a configuration on one edge device by hand (contract/hub.md §1.1, applyConfigurationContent).

    It writes the modules that it names once; the next automatic change of the assignment replaces it.
    """

    device_id: str
    content: dict[str, Any]


class ReportProperties(msgspec.Struct, frozen=True):
    """Merge-patch reported properties, in the name of the device or module."""

    device_id: str
    patch: dict[str, Any]
    module_id: str | None = None


class AcknowledgeDesired(msgspec.Struct, frozen=True):
    """Acknowledge that a device has the desired properties of modules; `versions` is as in `DesiredDelivered`."""

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


def subject_of(command: DeviceCommand) -> str:
    """Returns the subject of a command's event."""
    module_id = getattr(command, "module_id", None)
    if module_id is None or isinstance(command, CreateModule | UpdateModule | DeleteModule):
        return command.device_id
    return module_subject(command.device_id, module_id)
