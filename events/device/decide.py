"""What may happen to a device: a command becomes a fact, or is refused."""

from typing import assert_never

from msgspec import UNSET, Raw, UnsetType

from events.canonical import JsonObject
from events.device.authentication import check_authentication
from events.device.commands import (
    CreateModule,
    DeleteModule,
    DeviceCommand,
    PatchTags,
    PatchTwin,
    RegisterDevice,
    ReplaceTwin,
    ReportProperties,
    RetireDevice,
    SetConfiguration,
    UpdateDevice,
    UpdateModule,
)
from events.device.errors import (
    DeviceExists,
    DeviceNotFound,
    EtagMismatch,
    IdentityTextInvalid,
    ModuleExists,
    ModuleIdInvalid,
    ModuleNotFound,
    NotEdgeCapable,
    SystemModuleReserved,
    TooManyModules,
    TwinLimitExceeded,
)
from events.device.etags import matches, twin_etag
from events.device.facts import (
    ConfigurationSet,
    DeviceFact,
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
from events.device.identifiers import SYSTEM_MODULES, check_device_id, check_module_id, module_subject
from events.device.state import (
    EMPTY,
    SYSTEM_OWNER,
    DeviceDocument,
    ModuleDocument,
    begun_module,
    identity_of,
    section,
)
from events.properties import (
    DESIRED_BYTES_MAX,
    REPORTED_BYTES_MAX,
    TAGS_BYTES_MAX,
    merge_patch,
    problems_of,
)

TEXT_CHARACTERS_MAX = 128
"""What the registry keeps of a reason or an owner, as it does of an id (contract/hub.md §6)."""

MODULES_MAX = 50
"""How many modules made by hand a device can have (contract/hub.md §6); those of deployments have a limit of their own."""


def check(command: DeviceCommand) -> None:
    """Refuse what no state could allow: ids, and patches that break limits by themselves.

    Raises:
        DeviceIdInvalid, ModuleIdInvalid, IdentityTextInvalid, SystemModuleReserved, TwinLimitExceeded: before anything is
            looked up.
    """
    check_device_id(command.device_id)
    match command:
        case PatchTags(device_id, tags):
            _check_patch(device_id, "tags", tags, TAGS_BYTES_MAX)
        case PatchTwin() | ReplaceTwin():
            _check_twin_command(command)
        case ReportProperties(device_id, patch, module_id):
            if module_id is not None:
                check_module_id(module_id)
            _check_patch(device_id, "properties.reported", patch, REPORTED_BYTES_MAX)
        case CreateModule() | UpdateModule() | DeleteModule():
            check_module_id(command.module_id)
            if command.module_id in SYSTEM_MODULES and not isinstance(command, UpdateModule):
                raise ModuleIdInvalid(
                    command.module_id,
                    "a system module comes and goes with its device; an update, with If-Match, gives it keys",
                )
            if not isinstance(command, DeleteModule):
                _check_text(command.device_id, "managedBy", command.managed_by)
                check_authentication(command.device_id, command.authentication, module=True)
        case RegisterDevice() | UpdateDevice():
            _check_text(command.device_id, "statusReason", command.status_reason)
            check_authentication(command.device_id, command.authentication, module=False)
        case RetireDevice() | SetConfiguration():
            pass
        case _:
            assert_never(command)


def _check_text(device_id: str, member: str, text: object) -> None:
    if text is None:
        return
    if not isinstance(text, str):
        raise IdentityTextInvalid(device_id, member, f"is a text, not {type(text).__name__}")
    if len(text) > TEXT_CHARACTERS_MAX:
        raise IdentityTextInvalid(device_id, member, f"has at most {TEXT_CHARACTERS_MAX} characters, not {len(text)}")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise IdentityTextInvalid(device_id, member, "holds whole characters, this one half a surrogate pair")


def _check_twin_command(command: PatchTwin | ReplaceTwin) -> None:
    if command.module_id is not None:
        check_module_id(command.module_id)
        if command.module_id in SYSTEM_MODULES and (command.desired is not None or isinstance(command, ReplaceTwin)):
            raise SystemModuleReserved(command.device_id, command.module_id)
    # Only a patch may leave a part as it is.
    whole = isinstance(command, ReplaceTwin)
    if whole or command.tags is not None:
        _check_patch(command.device_id, "tags", command.tags, TAGS_BYTES_MAX)
    if whole or command.desired is not None:
        _check_patch(command.device_id, "properties.desired", command.desired, DESIRED_BYTES_MAX)


def _check_patch(subject: str, root: str, patch: object, size_bytes_max: int) -> None:
    # A patch may be as long as what it removes; only the result is held to the size.
    problems = problems_of(patch, root=root, size_bytes_max=8 * size_bytes_max, nulls_allowed=True)
    if problems:
        raise TwinLimitExceeded(subject, problems)


def subject_of(command: DeviceCommand) -> str:
    """The subject that a command's fact is about."""
    module_id = getattr(command, "module_id", None)
    if module_id is None or isinstance(command, CreateModule | UpdateModule | DeleteModule):
        return command.device_id
    return module_subject(command.device_id, module_id)


def decide(command: DeviceCommand, device: DeviceDocument | None, module: ModuleDocument | None) -> DeviceFact:
    """The fact that a checked command becomes, given the device and, where it is about one, the module's twin.

    Raises:
        DeviceError: the command may not happen as things stand.
    """
    if isinstance(command, RegisterDevice):
        if device is not None and not device.retired:
            raise DeviceExists(command.device_id)
        return DeviceRegistered(command.edge, command.enabled, command.status_reason, _said(command.authentication))
    if device is None or device.retired:
        raise DeviceNotFound(command.device_id)
    match command:
        case PatchTags(device_id, tags):
            _check_merged(device_id, device.tags, tags, "tags", TAGS_BYTES_MAX)
            return TwinPatched(tags=tags)
        case ReportProperties(device_id, patch, module_id):
            reported = device.reported if module_id is None else EMPTY if module is None else module.reported
            _check_merged(subject_of(command), reported, patch, "properties.reported", REPORTED_BYTES_MAX)
            return PropertiesReported(patch)
        case PatchTwin():
            return _patch_twin(command, device, module)
        case ReplaceTwin():
            _check_etag(command, device, module)
            tags, desired = merge_patch({}, command.tags), merge_patch({}, command.desired)
            _check_merged(command.device_id, EMPTY, tags, "tags", TAGS_BYTES_MAX)
            _check_merged(command.device_id, EMPTY, desired, "properties.desired", DESIRED_BYTES_MAX)
            return TwinReplaced(tags, desired)
        case UpdateDevice(edge=edge, enabled=enabled, status_reason=reason, authentication=authentication):
            _check_identity(command, device)
            return DeviceUpdated(
                device.edge if edge is None else edge,
                device.enabled if enabled is None else enabled,
                device.status_reason if reason is None else reason,
                _said(authentication),
            )
        case RetireDevice():
            _check_identity(command, device)
            return DeviceRetired()
        case CreateModule(device_id, module_id, managed_by, authentication):
            if module_id in device.modules:
                raise ModuleExists(device_id, module_id)
            if len(device.modules.keys() - set(SYSTEM_MODULES)) >= MODULES_MAX:
                raise TooManyModules(device_id, MODULES_MAX)
            return ModuleCreated(module_id, managed_by, _said(authentication))
        case SetConfiguration(device_id, content):
            if not device.edge:
                raise NotEdgeCapable(device_id)
            return ConfigurationSet(content)
        case UpdateModule(device_id, module_id, managed_by, authentication):
            if module_id in SYSTEM_MODULES and not device.edge:
                raise NotEdgeCapable(device_id)
            _check_module_identity(command, device)
            owner = SYSTEM_OWNER if module_id in SYSTEM_MODULES else managed_by
            return ModuleUpdated(module_id, owner, _said(authentication))
        case DeleteModule(module_id=module_id):
            _check_module_identity(command, device)
            return ModuleDeleted(module_id)
        case _:
            assert_never(command)


def _patch_twin(command: PatchTwin, device: DeviceDocument, module: ModuleDocument | None) -> TwinPatched:
    _check_etag(command, device, module)
    if command.tags is not None:
        tags = device.tags if command.module_id is None else EMPTY if module is None else module.tags
        _check_merged(subject_of(command), tags, command.tags, "tags", TAGS_BYTES_MAX)
    if command.desired is not None:
        desired = device.desired if command.module_id is None else EMPTY if module is None else module.desired
        _check_merged(subject_of(command), desired, command.desired, "properties.desired", DESIRED_BYTES_MAX)
    return TwinPatched(command.tags, command.desired)


def _check_identity(command: UpdateDevice | RetireDevice, device: DeviceDocument) -> None:
    if not matches(command.if_match, device.identity_etag):
        actual = twin_etag(device.identity_etag)
        raise EtagMismatch(command.device_id, expected=command.if_match or "", actual=actual)


def _said(authentication: JsonObject | None) -> JsonObject | UnsetType:
    return UNSET if authentication is None else authentication


def _check_module_identity(command: UpdateModule | DeleteModule, device: DeviceDocument) -> None:
    identity = identity_of(device, command.module_id)
    if identity is None:
        raise ModuleNotFound(command.device_id, command.module_id)
    if not matches(command.if_match, identity.etag):
        subject = module_subject(command.device_id, command.module_id)
        raise EtagMismatch(subject, expected=command.if_match or "", actual=twin_etag(identity.etag))


def _check_etag(command: PatchTwin | ReplaceTwin, device: DeviceDocument, module: ModuleDocument | None) -> None:
    twin = device if command.module_id is None else module or begun_module(device)
    counter = twin.twin_etag
    if not matches(command.if_match, counter):
        raise EtagMismatch(subject_of(command), expected=command.if_match or "", actual=twin_etag(counter))


def _check_merged(subject: str, raw: Raw, patch: JsonObject, root: str, size_bytes_max: int) -> None:
    """Hold what a patch leads to to the limits."""
    merged = merge_patch(section(raw), patch)
    problems = problems_of(merged, root=root, size_bytes_max=size_bytes_max, references_allowed=root == "tags")
    if problems:
        raise TwinLimitExceeded(subject, problems)
