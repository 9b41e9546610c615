"""The decisions on device commands: a command is checked, and becomes an event or is refused."""

from collections.abc import Iterable, Iterator
from typing import assert_never, get_args

from msgspec import UNSET, Raw, UnsetType
from msgspec.structs import replace

from events import canonical
from events.canonical import JsonObject
from events.decider import CommandAuthor, Decider, ScopeLike, SubjectChange
from events.decider import Documents as AnyDocuments
from events.device import commands, errors, events, state
from events.device.authentication import KEYS_DECLINED, check_authentication
from events.device.commands import DeviceCommand, subject_of
from events.device.events import DeviceEvent
from events.device.hierarchy import LAYERS_MAX, SCOPE_CHARACTERS_MAX, Documents, device_of_scope, parent_after
from events.device.identifiers import OWN_TWIN, SYSTEM_MODULES, check_device_id, check_module_id, module_subject
from events.device.state import EMPTY, DeviceDocument, ModuleDocument, TwinDocument, section
from events.manifest.document import ContentKind
from events.manifest.errors import ManifestInvalid
from events.manifest.hub_rules import content_problems
from events.properties import BYTES_MAX, merge_patch, patch_between, problems_of

TEXT_CHARACTERS_MAX = 128
"""The longest status reason or owner; ids have the same limit (contract/hub.md §6)."""

SECTIONS_MAX = 200
"""The most sections of an `AcknowledgeDesired`: more than a device can have, with 50 modules by hand and 50 of deployments."""

VERSION_MAX = 2**31 - 1

MODULES_MAX = 50
"""The most modules made by hand of a device (contract/hub.md §6); deployments have their own limit."""


_NO_ANCESTORS: Documents = {}
_NAMES_PARENTS = frozenset({commands.RegisterDevice, commands.UpdateDevice})


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


def decide(
    command: DeviceCommand,
    device: DeviceDocument | None,
    module: ModuleDocument | None,
    *,
    above: Documents = _NO_ANCESTORS,
) -> DeviceEvent | None:
    """Returns the event that a checked command becomes; `None` if it would change nothing.

    `module` is the module's twin, for a command on one. `above` has the devices that the command names as parents
    (`parents_named`), and their ancestors.

    Raises:
        DeviceError: the current state does not allow the command.
    """
    if isinstance(command, commands.RegisterDevice):
        if device is not None and not device.retired:
            raise errors.DeviceExists(command.device_id)
        parent_scope = parent_after(command, None, above, edge=command.edge)
        return events.DeviceRegistered(
            command.edge,
            command.enabled,
            command.status_reason,
            _authentication(command.authentication),
            parent_scope or UNSET,
        )
    if device is None or device.retired:
        raise errors.DeviceNotFound(command.device_id)
    match command:
        case commands.PatchTags(device_id, tags):
            changing = _changing(device_id, device.tags, tags, "tags")
            return None if changing is None else events.TwinPatched(tags=changing)
        case commands.ReportProperties(device_id, patch, module_id):
            reported = device.reported if module_id is None else EMPTY if module is None else module.reported
            _merged(subject_of(command), reported, patch, "properties.reported")
            # Also an unchanged report is an event: the hub counts each one in `$version`.
            return events.PropertiesReported(patch)
        case commands.PatchTwin() | commands.ReplaceTwin():
            twin = device if command.module_id is None else module or state.begun_module(device)
            _check_etag(subject_of(command), command.if_match, twin.twin_etag)
            return (
                _patch_twin(command, twin) if isinstance(command, commands.PatchTwin) else _replace_twin(command, twin)
            )
        case commands.UpdateDevice():
            _check_etag(command.device_id, command.if_match, device.identity_etag)
            return _update_device(command, device, above)
        case commands.RetireDevice():
            _check_etag(command.device_id, command.if_match, device.identity_etag)
            return events.DeviceRetired()
        case commands.CreateModule(device_id, module_id, managed_by, authentication):
            if module_id in device.modules:
                raise errors.ModuleExists(device_id, module_id)
            # System modules are listed only once they have keys, and do not count (docs/decisions/0039).
            if len(device.modules.keys() - set(SYSTEM_MODULES)) >= MODULES_MAX:
                raise errors.TooManyModules(device_id, MODULES_MAX)
            return events.ModuleCreated(module_id, managed_by, _authentication(authentication))
        case commands.AcknowledgeDesired(versions=versions):
            return events.DesiredDelivered(versions)
        case commands.SetConfiguration(device_id, content):
            if not device.edge:
                raise errors.NotEdgeCapable(device_id)
            return events.ConfigurationSet(content)
        case commands.UpdateModule(device_id, module_id) | commands.DeleteModule(device_id, module_id):
            is_system = module_id in SYSTEM_MODULES
            if isinstance(command, commands.UpdateModule) and is_system and not device.edge:
                raise errors.NotEdgeCapable(device_id)
            identity = state.identity_of(device, module_id)
            if identity is None:
                raise errors.ModuleNotFound(device_id, module_id)
            _check_etag(module_subject(device_id, module_id), command.if_match, identity.etag)
            if isinstance(command, commands.DeleteModule):
                return events.ModuleDeleted(module_id)
            owner = state.SYSTEM_OWNER if is_system else command.managed_by
            keys = (
                identity.authentication if command.authentication is None else _authentication(command.authentication)
            )
            is_unchanged = (owner, keys) == (identity.managed_by, identity.authentication)
            return None if is_unchanged else events.ModuleUpdated(module_id, owner, keys)
        case _:
            assert_never(command)


def parents_named(command: DeviceCommand, device: DeviceDocument | None) -> tuple[str, ...]:
    """Returns the devices that can be the parent after a command: the named ones, and the current parent."""
    if not isinstance(command, commands.RegisterDevice | commands.UpdateDevice):
        return ()
    current_scope = "" if device is None or device.retired else device.parent_scope
    scopes = dict.fromkeys((command.device_scope or "", *(command.parent_scopes or ()), current_scope))
    return tuple(name for scope in scopes if (name := device_of_scope(scope)) is not None and name != command.device_id)


def _patch_twin(command: commands.PatchTwin, twin: TwinDocument) -> events.TwinPatched | None:
    subject = subject_of(command)
    tags, desired = command.tags, command.desired
    # Clearing becomes nulls in the patch: the event stays a patch, and unchanged properties keep their times.
    if "tags" in command.clear:
        tags = patch_between(section(twin.tags), merge_patch({}, tags or {}))
    if "desired" in command.clear:
        desired = patch_between(section(twin.desired), merge_patch({}, desired or {}))
    tags = _changing(subject, twin.tags, tags, "tags")
    desired = _changing(subject, twin.desired, desired, "properties.desired")
    return None if tags is None and desired is None else events.TwinPatched(tags, desired)


def _changing(subject: str, before: Raw, patch: JsonObject | None, root: str) -> JsonObject | None:
    """The patch, or `None` if it changes nothing."""
    # By their bytes: 1, 1.0 and true are equal in Python, but their canonical bytes differ.
    return patch if patch is not None and bytes(before) != _merged(subject, before, patch, root)[1] else None


def _replace_twin(command: commands.ReplaceTwin, twin: TwinDocument) -> events.TwinPatched | events.TwinReplaced | None:
    subject = subject_of(command)
    tags, tag_bytes = _merged(subject, EMPTY, command.tags, "tags")
    desired, desired_bytes = _merged(subject, EMPTY, command.desired, "properties.desired")
    if bytes(twin.desired) != desired_bytes:
        return events.TwinReplaced(tags, desired)
    # Not `TwinReplaced`, so that unchanged desired properties keep their version and their times.
    is_changed = bytes(twin.tags) != tag_bytes
    return events.TwinPatched(tags=patch_between(section(twin.tags), tags)) if is_changed else None


def _update_device(
    command: commands.UpdateDevice, device: DeviceDocument, above: Documents
) -> events.DeviceUpdated | None:
    before = events.DeviceUpdated(
        device.edge, device.enabled, device.status_reason, device.authentication, device.parent_scope or UNSET
    )
    edge = device.edge if command.edge is None else command.edge
    after = events.DeviceUpdated(
        edge,
        device.enabled if command.enabled is None else command.enabled,
        device.status_reason if command.status_reason is None else command.status_reason,
        device.authentication if command.authentication is None else command.authentication,
        parent_after(command, device, above, edge=edge) or UNSET,
    )
    # The event repeats no unchanged authentication: `UNSET` keeps it.
    return None if after == before else replace(after, authentication=_authentication(command.authentication))


def _check_etag(subject: str, if_match: str | None, counter: int) -> None:
    if not state.matches(if_match, counter):
        raise errors.EtagMismatch(subject, expected=if_match or "", actual=state.twin_etag(counter))


def _authentication(authentication: JsonObject | None) -> JsonObject | UnsetType:
    return UNSET if authentication in (None, KEYS_DECLINED) else authentication


def _merged(subject: str, raw: Raw, patch: JsonObject, root: str) -> tuple[JsonObject, bytes]:
    """The merged section and its canonical bytes, checked against the limits."""
    merged = merge_patch(section(raw), patch)
    encoded = canonical.encode(merged)
    # The section before and the patch are checked. A merge nests no deeper than the deeper of the two, so that only the size can
    # be new, members beside the `$secret` of a reference, and nulls: a merge removes those of a patch, but not in an array. A
    # number counts as 8 bytes, and JSON has 2 for the shortest with the character after it; everything else has at least the
    # bytes it counts as.
    if 4 * len(encoded) > BYTES_MAX[root] or b'"$' in encoded or b'":null' in encoded:
        problems = problems_of(merged, root=root, size_bytes_max=BYTES_MAX[root], references_allowed=root == "tags")
        if problems:
            raise errors.TwinLimitExceeded(subject, problems)
    return merged, encoded


def needs_keys(command: object, documents: AnyDocuments) -> bool:
    """Returns whether a command creates an identity without authentication, so that the producer has to generate keys."""
    if not isinstance(command, commands.RegisterDevice | commands.CreateModule) or command.authentication is not None:
        return False
    device: DeviceDocument | None = documents[command.device_id]
    is_registered = device is not None and not device.retired
    if isinstance(command, commands.RegisterDevice):
        return not is_registered
    return device is not None and is_registered and command.module_id not in device.modules


def _ancestors(command: DeviceCommand, documents: AnyDocuments) -> Iterable[str]:
    """The devices that a command names as parents, and their ancestors as far as they are loaded."""
    return _loaded_ancestors(command, documents) if type(command) in _NAMES_PARENTS else ()


def _loaded_ancestors(command: DeviceCommand, documents: AnyDocuments) -> Iterator[str]:
    names = dict.fromkeys(parents_named(command, documents[command.device_id]))
    for _ in range(LAYERS_MAX + 1):
        yield from names
        scopes = [document.parent_scope for name in names if (document := documents.get(name)) is not None]
        names = dict.fromkeys(name for scope in scopes if (name := device_of_scope(scope)) is not None)


def _decide(command: DeviceCommand, documents: AnyDocuments, author: CommandAuthor) -> Iterator[SubjectChange]:
    scope = author.scope
    device: DeviceDocument | None = documents[command.device_id]
    if scope is not None:
        if isinstance(command, commands.RegisterDevice):
            # The scope decides on a new device first: a caller must not learn that the id is in use outside of the scope.
            scope.insist(command.device_id, DeviceDocument(1, 1))
        elif not scope.holds(command.device_id, device):
            raise errors.DeviceNotFound(command.device_id)
    subject = subject_of(command)
    if subject != command.device_id:
        module = None if device is None else state.current_module(documents[subject], device)
        module_event = decide(command, device, module)
        if module_event is not None:
            assert device is not None, "only modules of registered devices have events"
            # The guard refuses the event if the device was retired or registered again since it was read.
            yield SubjectChange(subject, module_event, base=module, guard=(command.device_id, device.generation))
        return
    event = decide(command, device, None, above=_above(command, documents, scope))
    if event is None:
        return
    if scope is not None and not isinstance(event, events.DeviceRetired):
        scope.insist(command.device_id, state.evolve_device(device, event, version=0, at=0))
    match event:
        case events.DeviceRegistered():
            yield SubjectChange(subject, event, generation=1 if device is None else device.generation + 1)
        case events.DeviceRetired():
            yield SubjectChange(subject, event, generation=0)
        case events.ModuleDeleted(module_id):
            yield SubjectChange(subject, event, removes=(module_subject(subject, module_id),))
        case _:
            yield SubjectChange(subject, event)


def _above(command: DeviceCommand, documents: AnyDocuments, scope: ScopeLike | None) -> Documents:
    """The ancestors of a device. A named parent outside the caller's scope counts as missing."""
    if type(command) not in _NAMES_PARENTS:
        return _NO_ANCESTORS
    above = {name: documents.get(name) for name in _ancestors(command, documents)}
    if scope is not None:
        for name in parents_named(command, documents[command.device_id]):
            if not scope.holds(name, above[name]):
                above[name] = None
    return above


def _evolve(
    document: DeviceDocument | ModuleDocument | None, event: DeviceEvent, version: int, at: int, _: str
) -> TwinDocument:
    if isinstance(document, ModuleDocument):
        return state.evolve_twin(document, event, version=version, at=at)
    return state.evolve_device(document, event, version=version, at=at)


def _decode(subject: str, data: bytes) -> TwinDocument:
    return state.decode_module(data) if "/" in subject else state.decode_device(data)


DECIDER = Decider(
    get_args(DeviceCommand),
    get_args(DeviceEvent),
    subjects=lambda command: (command.device_id, subject_of(command)),
    check=check,
    decide=_decide,
    evolve=_evolve,
    decode=_decode,
    prefixes=("",),
    also=_ancestors,
    is_of_fleet=False,
    is_scoped=True,
)
