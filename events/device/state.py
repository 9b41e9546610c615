"""The replay of a device's events, and of a module's: the documents that stand as snapshots beside the log."""

from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from events import canonical
from events.canonical import JsonObject
from events.device.events import (
    ConfigurationSet,
    DesiredDelivered,
    DeviceEvent,
    DeviceRegistered,
    DeviceRetired,
    DeviceUpdated,
    ModuleCreated,
    ModuleDeleted,
    ModuleUpdated,
    PropertiesReported,
    TwinPatched,
    TwinReplaced,
)
from events.device.identifiers import SYSTEM_MODULES
from events.device.stamps import Stamp, restamped
from events.properties import merge_patch

EMPTY = msgspec.Raw(b"{}")
NEVER = -1
"""No time of the log: those are not negative, but 0 can be one in virtual time."""

TWIN_VERSION_AT_BIRTH = 2
"""Of a new twin; its desired and reported `$version` are 1 (contract/hub.md §1.6)."""


_CHANGES_MAX = 2**32
"""More than a module's twin is changed in its life: how far etags of one and of the next twin of the same id are apart."""


class ModuleIdentity(msgspec.Struct, frozen=True):
    """A module made by hand; `etag` is the device's version that made it so."""

    etag: int
    managed_by: str | None = None
    authentication: JsonObject | UnsetType = UNSET


SYSTEM_OWNER = "iotEdge"
"""Who manages the system modules, as the hub says of them."""

CONFIGURED_IDENTITY = ModuleIdentity(1, SYSTEM_OWNER)
"""Of a system module, or of one that a configuration alone names, as long as nothing was written of it."""


class DeviceDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """A device as its events made it. Sections stay canonical JSON until somebody needs them.

    `version` counts the subject's events. `generation` counts registrations, and `modules_deleted` modules made by hand that
    were deleted, in all generations; a retired device keeps a document without
    sections, so that versions and etags go on. `*_at` are milliseconds, `*_stamps` trees as in `stamps`.
    """

    version: int
    generation: int
    retired: bool = False
    edge: bool = True
    enabled: bool = True
    status_reason: str | None = None
    identity_etag: int = 1
    twin_etag: int = 1
    twin_version: int = TWIN_VERSION_AT_BIRTH
    desired_version: int = 1
    reported_version: int = 1
    registered_at: int = NEVER
    status_updated_at: int = NEVER
    desired_at: int = NEVER
    reported_at: int = NEVER
    tags: msgspec.Raw = EMPTY
    desired: msgspec.Raw = EMPTY
    reported: msgspec.Raw = EMPTY
    desired_stamps: msgspec.Raw = EMPTY
    reported_stamps: msgspec.Raw = EMPTY
    modules: dict[str, ModuleIdentity] = {}
    modules_deleted: int = 0
    authentication: JsonObject | UnsetType = UNSET
    parent_scope: str = ""
    """The `deviceScope` of the parent; empty where there is none."""


class ModuleDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """A module twin as its own events made it; what deployments desire of it stands in the projections, not here.

    It belongs to one generation of its device: with another it counts as absent.
    """

    version: int
    generation: int
    twin_etag: int = 1
    twin_version: int = TWIN_VERSION_AT_BIRTH
    desired_version: int = 1
    reported_version: int = 1
    desired_at: int = NEVER
    reported_at: int = NEVER
    tags: msgspec.Raw = EMPTY
    desired: msgspec.Raw = EMPTY
    reported: msgspec.Raw = EMPTY
    desired_stamps: msgspec.Raw = EMPTY
    reported_stamps: msgspec.Raw = EMPTY


Document = TypeVar("Document", DeviceDocument, ModuleDocument)

_encoder = msgspec.json.Encoder(order="deterministic")
_objects = msgspec.json.Decoder(dict[str, Any])


_devices = msgspec.json.Decoder(DeviceDocument)
_modules = msgspec.json.Decoder(ModuleDocument)


def encode(document: DeviceDocument | ModuleDocument) -> bytes:
    """Canonical bytes of a document."""
    return _encoder.encode(document)


def decode_device(data: bytes) -> DeviceDocument:
    """Read what `encode` wrote of a device."""
    return _devices.decode(data)


def decode_module(data: bytes) -> ModuleDocument:
    """Read what `encode` wrote of a module."""
    return _modules.decode(data)


def section(raw: msgspec.Raw) -> dict[str, Any]:
    """A section as an object of its own."""
    return {} if raw is EMPTY else _objects.decode(raw)


def identity_of(document: DeviceDocument, module_id: str) -> ModuleIdentity | None:
    """The identity of a module made by hand, or of a system module of an edge device, which has one from the start."""
    identity = document.modules.get(module_id)
    return CONFIGURED_IDENTITY if identity is None and document.edge and module_id in SYSTEM_MODULES else identity


def evolve_device(document: DeviceDocument | None, event: DeviceEvent, *, version: int, at: int) -> DeviceDocument:
    """The device after one more event of its subject."""
    if isinstance(event, DeviceRegistered):
        return _registered(document, event, version=version, at=at)
    assert document is not None
    match event:
        case TwinPatched() | TwinReplaced() | PropertiesReported():
            return _evolve_twin(document, event, version=version, at=at)
        case DeviceUpdated():
            return msgspec.structs.replace(
                document,
                version=version,
                edge=event.edge,
                enabled=event.enabled,
                status_reason=event.status_reason,
                identity_etag=document.identity_etag + 1,
                authentication=document.authentication if event.authentication is UNSET else event.authentication,
                status_updated_at=at if event.enabled != document.enabled else document.status_updated_at,
                modules=document.modules if event.edge else _without(document.modules, *SYSTEM_MODULES),
                parent_scope="" if event.parent_scope is UNSET else event.parent_scope,
            )
        case ConfigurationSet() | DesiredDelivered():
            return msgspec.structs.replace(document, version=version)
        case DeviceRetired():
            return DeviceDocument(
                version,
                document.generation,
                retired=True,
                identity_etag=document.identity_etag + 1,
                twin_etag=document.twin_etag,
                modules_deleted=document.modules_deleted,
            )
        case ModuleCreated() | ModuleUpdated():
            identity = ModuleIdentity(version, event.managed_by, event.authentication)
            return msgspec.structs.replace(
                document, version=version, modules={**document.modules, event.module_id: identity}
            )
        case ModuleDeleted():
            left = _without(document.modules, event.module_id)
            deleted = document.modules_deleted + 1
            return msgspec.structs.replace(document, version=version, modules=left, modules_deleted=deleted)


def _without(modules: dict[str, ModuleIdentity], *names: str) -> dict[str, ModuleIdentity]:
    return {name: identity for name, identity in modules.items() if name not in names}


def _registered(document: DeviceDocument | None, event: DeviceRegistered, *, version: int, at: int) -> DeviceDocument:
    former = document or DeviceDocument(0, 0, identity_etag=0, twin_etag=0)
    return DeviceDocument(
        version,
        former.generation + 1,
        edge=event.edge,
        enabled=event.enabled,
        status_reason=event.status_reason,
        identity_etag=former.identity_etag + 1,
        twin_etag=former.twin_etag + 1,
        registered_at=at,
        authentication=event.authentication,
        parent_scope="" if event.parent_scope is UNSET else event.parent_scope,
        modules_deleted=former.modules_deleted,
    )


def begun_module(device: DeviceDocument) -> ModuleDocument:
    """A module's twin before its first event.

    Its etag is above those of all former twins of the id: of other generations of the device, and of modules that were deleted.
    """
    former = device.generation - 1 + device.modules_deleted
    return ModuleDocument(0, device.generation, twin_etag=1 + former * _CHANGES_MAX)


def current_module(document: ModuleDocument | None, device: DeviceDocument) -> ModuleDocument:
    """The module's twin in the present registration of its device: one of another generation is begun anew."""
    return document if document is not None and document.generation == device.generation else begun_module(device)


def evolve_module(document: ModuleDocument, event: DeviceEvent, *, version: int, at: int) -> ModuleDocument:
    """The module twin, as it is in the present registration of its device (`current_module`), after one more event."""
    assert isinstance(event, TwinPatched | TwinReplaced | PropertiesReported)
    return _evolve_twin(document, event, version=version, at=at)


def _evolve_twin(
    document: Document, event: TwinPatched | TwinReplaced | PropertiesReported, *, version: int, at: int
) -> Document:
    changes: dict[str, Any] = {"version": version, "twin_version": document.twin_version + 1}
    match event:
        case PropertiesReported(patch):
            before = section(document.reported)
            stamp = Stamp(_since(document, document.reported_at), document.reported_version)
            changes["reported_stamps"] = _restamped(before, patch, document.reported_stamps, stamp)
            changes["reported"] = _merged(before, patch)
            changes["reported_version"] = document.reported_version + 1
            changes["reported_at"] = at
        case TwinPatched(tags, desired):
            changes["twin_etag"] = document.twin_etag + 1
            if tags is not None:
                changes["tags"] = _merged(section(document.tags), tags)
            if desired is not None:
                before = section(document.desired)
                stamp = Stamp(_since(document, document.desired_at), document.desired_version)
                changes["desired_stamps"] = _restamped(before, desired, document.desired_stamps, stamp)
                changes |= _desired(document, _merged(before, desired), at)
        case TwinReplaced(tags, desired):
            changes["twin_etag"] = document.twin_etag + 1
            changes["tags"] = _merged({}, tags)
            changes["desired_stamps"] = EMPTY
            changes |= _desired(document, _merged({}, desired), at)
    return msgspec.structs.replace(document, **changes)


def _desired(document: DeviceDocument | ModuleDocument, desired: msgspec.Raw, at: int) -> dict[str, Any]:
    return {"desired": desired, "desired_version": document.desired_version + 1, "desired_at": at}


def _merged(before: JsonObject, patch: JsonObject) -> msgspec.Raw:
    return _raw(merge_patch(before, patch))


def _restamped(before: JsonObject, patch: JsonObject, tree: msgspec.Raw, stamp: Stamp) -> msgspec.Raw:
    return _raw(restamped(before, patch, section(tree), stamp)) if before else EMPTY


def _raw(value: JsonObject) -> msgspec.Raw:
    return msgspec.Raw(canonical.encode(value)) if value else EMPTY


def _since(document: DeviceDocument | ModuleDocument, at: int) -> int:
    """When a section was last changed: at the latest when the twin came to be."""
    return at if at != NEVER or isinstance(document, ModuleDocument) else document.registered_at
