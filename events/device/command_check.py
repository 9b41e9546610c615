"""The checks of a command that need no state: ids, texts, sizes."""

from typing import assert_never

from events.device.authentication import check_authentication, check_new_authentication
from events.device.commands import (
    AcknowledgeDesired,
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
    DeliveryInvalid,
    DeviceScopeInvalid,
    IdentityTextInvalid,
    ModuleIdInvalid,
    SystemModuleReserved,
    TwinLimitExceeded,
)
from events.device.hierarchy import SCOPE_CHARACTERS_MAX
from events.device.identifiers import OWN_TWIN, SYSTEM_MODULES, check_device_id, check_module_id
from events.manifest.document import ContentKind
from events.manifest.errors import ManifestInvalid
from events.manifest.hub_rules import content_problems
from events.properties import DESIRED_BYTES_MAX, REPORTED_BYTES_MAX, TAGS_BYTES_MAX, problems_of

TEXT_CHARACTERS_MAX = 128
"""The longest status reason or owner; ids have the same limit (contract/hub.md §6)."""

SECTIONS_MAX = 200
"""The most sections of an `AcknowledgeDesired`: more than a device can have, with 50 modules by hand and 50 of deployments."""

VERSION_MAX = 2**31 - 1


def check(command: DeviceCommand) -> None:
    """Refuse a command that no state allows, before anything is read.

    Raises:
        DeviceIdInvalid, ModuleIdInvalid, IdentityTextInvalid, SystemModuleReserved, TwinLimitExceeded, DeliveryInvalid,
        ManifestInvalid, AuthenticationInvalid, DeviceScopeInvalid: the command is invalid.
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
                    "a system module is created and deleted with its device; to give it keys, update it with If-Match",
                )
            if not isinstance(command, DeleteModule):
                _check_text(command.device_id, "managedBy", command.managed_by)
                rule = check_new_authentication if isinstance(command, CreateModule) else check_authentication
                rule(command.device_id, command.authentication, module=True)
        case RegisterDevice() | UpdateDevice():
            _check_text(command.device_id, "statusReason", command.status_reason)
            rule = check_new_authentication if isinstance(command, RegisterDevice) else check_authentication
            rule(command.device_id, command.authentication, module=False)
            _check_scopes(command)
        case AcknowledgeDesired():
            _check_versions(command)
        case SetConfiguration():
            if problems := content_problems(command.content, (ContentKind.EDGE,)):
                raise ManifestInvalid(problems)
        case RetireDevice():
            pass
        case _:
            assert_never(command)


def _check_versions(command: AcknowledgeDesired) -> None:
    if not command.versions or len(command.versions) > SECTIONS_MAX:
        raise DeliveryInvalid(
            command.device_id, "versions", f"names 1 to {SECTIONS_MAX} modules, not {len(command.versions)}"
        )
    for module_id, version in command.versions.items():
        if module_id in SYSTEM_MODULES:
            raise DeliveryInvalid(
                command.device_id, module_id, "answers in its reported properties (lastDesiredVersion)"
            )
        if module_id != OWN_TWIN:
            check_module_id(module_id)
        # bool is an int in Python: `isinstance` would accept `true` as version 1.
        if type(version) is not int or not 1 <= version <= VERSION_MAX:
            raise DeliveryInvalid(
                command.device_id, module_id, f"has a version from 1 to {VERSION_MAX}, not {version!r}"
            )


def _check_scopes(command: RegisterDevice | UpdateDevice) -> None:
    for member, scopes in (
        ("deviceScope", (command.device_scope or "",)),
        ("parentScopes", command.parent_scopes or ()),
    ):
        if any(len(scope) > SCOPE_CHARACTERS_MAX for scope in scopes):
            raise DeviceScopeInvalid(command.device_id, member, f"has at most {SCOPE_CHARACTERS_MAX} characters")


def _check_text(device_id: str, member: str, text: object) -> None:
    if text is None:
        return
    if not isinstance(text, str):
        raise IdentityTextInvalid(device_id, member, f"is a text, not {type(text).__name__}")
    if len(text) > TEXT_CHARACTERS_MAX:
        raise IdentityTextInvalid(device_id, member, f"has at most {TEXT_CHARACTERS_MAX} characters, not {len(text)}")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise IdentityTextInvalid(device_id, member, "holds half of a surrogate pair, which is not a character")


def _check_twin_command(command: PatchTwin | ReplaceTwin) -> None:
    if command.module_id is not None:
        check_module_id(command.module_id)
        writes_desired = isinstance(command, ReplaceTwin) or command.desired is not None or "desired" in command.clear
        if command.module_id in SYSTEM_MODULES and writes_desired:
            raise SystemModuleReserved(command.device_id, command.module_id)
    # In a patch `None` leaves a part unchanged; a replacement needs both parts.
    whole = isinstance(command, ReplaceTwin)
    if whole or command.tags is not None:
        _check_patch(command.device_id, "tags", command.tags, TAGS_BYTES_MAX)
    if whole or command.desired is not None:
        _check_patch(command.device_id, "properties.desired", command.desired, DESIRED_BYTES_MAX)


def _check_patch(subject: str, root: str, patch: object, size_bytes_max: int) -> None:
    # The size limit is for the merged section; a patch may be longer, because it also names what it removes.
    problems = problems_of(patch, root=root, size_bytes_max=8 * size_bytes_max, nulls_allowed=True)
    if problems:
        raise TwinLimitExceeded(subject, problems)
