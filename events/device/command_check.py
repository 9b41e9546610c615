"""The checks of a command that need no state: ids, texts, sizes."""

from typing import assert_never

from events.device import commands, errors
from events.device.authentication import check_authentication
from events.device.commands import DeviceCommand
from events.device.hierarchy import SCOPE_CHARACTERS_MAX
from events.device.identifiers import OWN_TWIN, SYSTEM_MODULES, check_device_id, check_module_id
from events.manifest.document import ContentKind
from events.manifest.errors import ManifestInvalid
from events.manifest.hub_rules import content_problems
from events.properties import BYTES_MAX, problems_of

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
        case commands.PatchTags(device_id, tags):
            _check_patch(device_id, "tags", tags)
        case commands.PatchTwin() | commands.ReplaceTwin():
            # In a patch `None` leaves a part unchanged; a replacement needs both parts.
            whole = isinstance(command, commands.ReplaceTwin)
            if command.module_id is not None:
                check_module_id(command.module_id)
                writes_desired = whole or command.desired is not None or "desired" in command.clear
                if command.module_id in SYSTEM_MODULES and writes_desired:
                    raise errors.SystemModuleReserved(command.device_id, command.module_id)
            if whole or command.tags is not None:
                _check_patch(command.device_id, "tags", command.tags)
            if whole or command.desired is not None:
                _check_patch(command.device_id, "properties.desired", command.desired)
        case commands.ReportProperties(device_id, patch, module_id):
            if module_id is not None:
                check_module_id(module_id)
            _check_patch(device_id, "properties.reported", patch)
        case commands.CreateModule() | commands.UpdateModule() | commands.DeleteModule():
            check_module_id(command.module_id)
            if command.module_id in SYSTEM_MODULES and not isinstance(command, commands.UpdateModule):
                raise errors.ModuleIdInvalid(
                    command.module_id,
                    "a system module is created and deleted with its device; to give it keys, update it with If-Match",
                )
            if not isinstance(command, commands.DeleteModule):
                _check_text(command.device_id, "managedBy", command.managed_by)
                check_authentication(command)
        case commands.RegisterDevice() | commands.UpdateDevice():
            _check_text(command.device_id, "statusReason", command.status_reason)
            check_authentication(command)
            members = {"deviceScope": (command.device_scope or "",), "parentScopes": command.parent_scopes or ()}
            for member, scopes in members.items():
                if any(len(scope) > SCOPE_CHARACTERS_MAX for scope in scopes):
                    rule = f"has at most {SCOPE_CHARACTERS_MAX} characters"
                    raise errors.DeviceScopeInvalid(command.device_id, member, rule)
        case commands.AcknowledgeDesired():
            _check_versions(command)
        case commands.SetConfiguration():
            if problems := content_problems(command.content, (ContentKind.EDGE,)):
                raise ManifestInvalid(problems)
        case commands.RetireDevice():
            pass
        case _:
            assert_never(command)


def _check_versions(command: commands.AcknowledgeDesired) -> None:
    if not command.versions or len(command.versions) > SECTIONS_MAX:
        raise errors.DeliveryInvalid(
            command.device_id, "versions", f"names 1 to {SECTIONS_MAX} modules, not {len(command.versions)}"
        )
    for module_id, version in command.versions.items():
        if module_id in SYSTEM_MODULES:
            raise errors.DeliveryInvalid(
                command.device_id, module_id, "answers in its reported properties (lastDesiredVersion)"
            )
        if module_id != OWN_TWIN:
            check_module_id(module_id)
        # bool is an int in Python: `isinstance` would accept `true` as version 1.
        if type(version) is not int or not 1 <= version <= VERSION_MAX:
            raise errors.DeliveryInvalid(
                command.device_id, module_id, f"has a version from 1 to {VERSION_MAX}, not {version!r}"
            )


def _check_text(device_id: str, member: str, text: object) -> None:
    if text is None:
        return
    if not isinstance(text, str):
        raise errors.IdentityTextInvalid(device_id, member, f"is a text, not {type(text).__name__}")
    if len(text) > TEXT_CHARACTERS_MAX:
        raise errors.IdentityTextInvalid(
            device_id, member, f"has at most {TEXT_CHARACTERS_MAX} characters, not {len(text)}"
        )
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise errors.IdentityTextInvalid(device_id, member, "holds half of a surrogate pair, which is not a character")


def _check_patch(subject: str, root: str, patch: object) -> None:
    # The size limit is for the merged section; a patch may be longer, because it also names what it removes.
    problems = problems_of(patch, root=root, size_bytes_max=8 * BYTES_MAX[root], nulls_allowed=True)
    if problems:
        raise errors.TwinLimitExceeded(subject, problems)
