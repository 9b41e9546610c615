"""What may happen to a device: a command becomes an event, or is refused."""

from collections.abc import Iterable, Iterator
from typing import assert_never, get_args

from msgspec import UNSET, Raw, UnsetType
from msgspec.structs import replace

from events import canonical
from events.canonical import JsonObject
from events.decider import CommandAuthor, Decider, ScopeLike, SubjectChange
from events.decider import Documents as AnyDocuments
from events.device.authentication import KEYS_DECLINED, check_authentication, check_new_authentication
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
    DeviceExists,
    DeviceNotFound,
    DeviceScopeInvalid,
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
from events.device.hierarchy import (
    LAYERS_MAX,
    SCOPE_CHARACTERS_MAX,
    Documents,
    check_parent,
    device_of_scope,
    parent_asked,
)
from events.device.identifiers import OWN_TWIN, SYSTEM_MODULES, check_device_id, check_module_id, module_subject
from events.device.state import (
    EMPTY,
    SYSTEM_OWNER,
    DeviceDocument,
    ModuleDocument,
    ModuleIdentity,
    begun_module,
    current_module,
    decode_device,
    decode_module,
    evolve_device,
    evolve_module,
    identity_of,
    section,
)
from events.manifest.document import ContentKind
from events.manifest.errors import ManifestInvalid
from events.manifest.hub_rules import content_problems
from events.properties import (
    DESIRED_BYTES_MAX,
    REPORTED_BYTES_MAX,
    TAGS_BYTES_MAX,
    merge_patch,
    patch_between,
    problems_of,
)

TEXT_CHARACTERS_MAX = 128
"""What the registry keeps of a reason or an owner, as it does of an id (contract/hub.md §6)."""

SECTIONS_MAX = 200
VERSION_MAX = 2**31 - 1
"""What one `AcknowledgeDesired` may name: more than a device can have of both."""

MODULES_MAX = 50
"""How many modules made by hand a device can have (contract/hub.md §6); those of deployments have a limit of their own."""


_NOTHING_ABOVE: Documents = {}


def check(command: DeviceCommand) -> None:
    """Refuse what no state could allow: ids, and patches that break limits by themselves.

    Raises:
        DeviceIdInvalid, ModuleIdInvalid, IdentityTextInvalid, SystemModuleReserved, TwinLimitExceeded, DeliveryInvalid,
        ManifestInvalid: before anything is looked up.
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
        raise DeliveryInvalid(command.device_id, "versions", f"names 1 to {SECTIONS_MAX} modules")
    for module_id, version in command.versions.items():
        if module_id in SYSTEM_MODULES:
            raise DeliveryInvalid(
                command.device_id, module_id, "answers in its reported properties (lastDesiredVersion)"
            )
        if module_id != OWN_TWIN:
            check_module_id(module_id)
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
            raise DeviceScopeInvalid(
                command.device_id, member, f"has at most {SCOPE_CHARACTERS_MAX} characters, as every deviceScope"
            )


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
        writes_desired = isinstance(command, ReplaceTwin) or command.desired is not None or "desired" in command.clear
        if command.module_id in SYSTEM_MODULES and writes_desired:
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
    """The subject that a command's event is about."""
    module_id = getattr(command, "module_id", None)
    if module_id is None or isinstance(command, CreateModule | UpdateModule | DeleteModule):
        return command.device_id
    return module_subject(command.device_id, module_id)


def decide(
    command: DeviceCommand,
    device: DeviceDocument | None,
    module: ModuleDocument | None,
    *,
    above: Documents = _NOTHING_ABOVE,
) -> DeviceEvent | None:
    """The event that a checked command becomes, given the device and, where it is about one, the module's twin.

    `None` where nothing would change; what a device reports is an event all the same, as the hub counts each report.
    `above` has the devices that the command names as parents, and what is above them (`parents_named`).

    Raises:
        DeviceError: the command may not happen as things stand.
    """
    if isinstance(command, RegisterDevice):
        if device is not None and not device.retired:
            raise DeviceExists(command.device_id)
        parent_scope = _parent_scope(command, None, edge=command.edge, above=above)
        return DeviceRegistered(
            command.edge, command.enabled, command.status_reason, _said(command.authentication), parent_scope or UNSET
        )
    if device is None or device.retired:
        raise DeviceNotFound(command.device_id)
    match command:
        case PatchTags(device_id, tags):
            changing = _changing(device_id, device.tags, tags, "tags", TAGS_BYTES_MAX)
            return None if changing is None else TwinPatched(tags=changing)
        case ReportProperties(device_id, patch, module_id):
            reported = device.reported if module_id is None else EMPTY if module is None else module.reported
            _merged(subject_of(command), reported, patch, "properties.reported", REPORTED_BYTES_MAX)
            return PropertiesReported(patch)
        case PatchTwin():
            return _patch_twin(command, device, module)
        case ReplaceTwin():
            return _replace_twin(command, device, module)
        case UpdateDevice():
            _check_identity(command, device)
            return _update_device(command, device, above)
        case RetireDevice():
            _check_identity(command, device)
            return DeviceRetired()
        case CreateModule(device_id, module_id, managed_by, authentication):
            if module_id in device.modules:
                raise ModuleExists(device_id, module_id)
            if len(device.modules.keys() - set(SYSTEM_MODULES)) >= MODULES_MAX:
                raise TooManyModules(device_id, MODULES_MAX)
            return ModuleCreated(module_id, managed_by, _said(authentication))
        case AcknowledgeDesired(versions=versions):
            return DesiredDelivered(versions)
        case SetConfiguration(device_id, content):
            if not device.edge:
                raise NotEdgeCapable(device_id)
            return ConfigurationSet(content)
        case UpdateModule(device_id, module_id, managed_by, authentication):
            if module_id in SYSTEM_MODULES and not device.edge:
                raise NotEdgeCapable(device_id)
            identity = _check_module_identity(command, device)
            owner = SYSTEM_OWNER if module_id in SYSTEM_MODULES else managed_by
            keys = identity.authentication if authentication is None else _said(authentication)
            if (owner, keys) == (identity.managed_by, identity.authentication):
                return None
            return ModuleUpdated(module_id, owner, keys)
        case DeleteModule(module_id=module_id):
            _check_module_identity(command, device)
            return ModuleDeleted(module_id)
        case _:
            assert_never(command)


def parents_named(command: DeviceCommand, device: DeviceDocument | None) -> tuple[str, ...]:
    """The devices that a command is decided on as parents: those that it names, and the one that an edge device keeps."""
    if not isinstance(command, RegisterDevice | UpdateDevice):
        return ()
    kept = "" if device is None or device.retired else device.parent_scope
    scopes = dict.fromkeys((command.device_scope or "", *(command.parent_scopes or ()), kept))
    return tuple(name for scope in scopes if (name := device_of_scope(scope)) is not None and name != command.device_id)


def _parent_scope(
    command: RegisterDevice | UpdateDevice, device: DeviceDocument | None, *, edge: bool, above: Documents
) -> str:
    """The scope of the parent after a command. One that stays is not looked at again: it may have left since."""
    after = parent_asked(
        command.device_id,
        device,
        edge=edge,
        device_scope=command.device_scope,
        parent_scopes=command.parent_scopes,
    )
    before = ("", edge) if device is None else (device.parent_scope, device.edge)
    if after and (after != before[0] or (edge and not before[1])):
        check_parent(command.device_id, after, above, edge=edge)
    return after


def _patch_twin(command: PatchTwin, device: DeviceDocument, module: ModuleDocument | None) -> TwinPatched | None:
    _check_etag(command, device, module)
    before_tags, before_desired = _sections(command, device, module)
    tags, desired = command.tags, command.desired
    if "tags" in command.clear:
        tags = patch_between(section(before_tags), merge_patch({}, tags or {}))
    if "desired" in command.clear:
        desired = patch_between(section(before_desired), merge_patch({}, desired or {}))
    subject = subject_of(command)
    tags = _changing(subject, before_tags, tags, "tags", TAGS_BYTES_MAX)
    desired = _changing(subject, before_desired, desired, "properties.desired", DESIRED_BYTES_MAX)
    return None if tags is None and desired is None else TwinPatched(tags, desired)


def _changing(subject: str, before: Raw, patch: JsonObject | None, root: str, size_bytes_max: int) -> JsonObject | None:
    """The patch, if it changes anything."""
    if patch is None:
        return None
    merged = _merged(subject, before, patch, root, size_bytes_max)
    return patch if _is_changed(before, merged) else None


def _replace_twin(
    command: ReplaceTwin, device: DeviceDocument, module: ModuleDocument | None
) -> TwinPatched | TwinReplaced | None:
    _check_etag(command, device, module)
    before_tags, before_desired = _sections(command, device, module)
    subject = subject_of(command)
    tags = _merged(subject, EMPTY, command.tags, "tags", TAGS_BYTES_MAX)
    desired = _merged(subject, EMPTY, command.desired, "properties.desired", DESIRED_BYTES_MAX)
    if _is_changed(before_desired, desired):
        return TwinReplaced(tags, desired)
    # The desired properties keep their version and their times.
    return TwinPatched(tags=patch_between(section(before_tags), tags)) if _is_changed(before_tags, tags) else None


def _sections(
    command: PatchTwin | ReplaceTwin, device: DeviceDocument, module: ModuleDocument | None
) -> tuple[Raw, Raw]:
    twin = device if command.module_id is None else module
    return (EMPTY, EMPTY) if twin is None else (twin.tags, twin.desired)


def _update_device(command: UpdateDevice, device: DeviceDocument, above: Documents) -> DeviceUpdated | None:
    before = DeviceUpdated(
        device.edge, device.enabled, device.status_reason, device.authentication, device.parent_scope or UNSET
    )
    edge = device.edge if command.edge is None else command.edge
    after = DeviceUpdated(
        edge,
        device.enabled if command.enabled is None else command.enabled,
        device.status_reason if command.status_reason is None else command.status_reason,
        device.authentication if command.authentication is None else command.authentication,
        _parent_scope(command, device, edge=edge, above=above) or UNSET,
    )
    return None if after == before else replace(after, authentication=_said(command.authentication))


def _check_identity(command: UpdateDevice | RetireDevice, device: DeviceDocument) -> None:
    if not matches(command.if_match, device.identity_etag):
        actual = twin_etag(device.identity_etag)
        raise EtagMismatch(command.device_id, expected=command.if_match or "", actual=actual)


def _said(authentication: JsonObject | None) -> JsonObject | UnsetType:
    return UNSET if authentication in (None, KEYS_DECLINED) else authentication


def _check_module_identity(command: UpdateModule | DeleteModule, device: DeviceDocument) -> ModuleIdentity:
    identity = identity_of(device, command.module_id)
    if identity is None:
        raise ModuleNotFound(command.device_id, command.module_id)
    if not matches(command.if_match, identity.etag):
        subject = module_subject(command.device_id, command.module_id)
        raise EtagMismatch(subject, expected=command.if_match or "", actual=twin_etag(identity.etag))
    return identity


def _check_etag(command: PatchTwin | ReplaceTwin, device: DeviceDocument, module: ModuleDocument | None) -> None:
    twin = device if command.module_id is None else module or begun_module(device)
    counter = twin.twin_etag
    if not matches(command.if_match, counter):
        raise EtagMismatch(subject_of(command), expected=command.if_match or "", actual=twin_etag(counter))


def _merged(subject: str, raw: Raw, patch: JsonObject, root: str, size_bytes_max: int) -> JsonObject:
    """What a patch leads to, held to the limits."""
    merged = merge_patch(section(raw), patch)
    problems = problems_of(merged, root=root, size_bytes_max=size_bytes_max, references_allowed=root == "tags")
    if problems:
        raise TwinLimitExceeded(subject, problems)
    return merged


def _is_changed(before: Raw, after: JsonObject) -> bool:
    # In Python 1, 1.0 and true are equal; their canonical bytes are not.
    return bytes(before) != canonical.encode(after)


def wants_keys(command: object, documents: AnyDocuments) -> bool:
    """Whether a command makes an identity, as the devices stand, and leaves its authentication to the producer."""
    if not isinstance(command, RegisterDevice | CreateModule) or command.authentication is not None:
        return False
    device: DeviceDocument | None = documents[command.device_id]
    is_registered = device is not None and not device.retired
    if isinstance(command, RegisterDevice):
        return not is_registered
    return device is not None and is_registered and command.module_id not in device.modules


def _line_above(command: DeviceCommand, documents: AnyDocuments) -> Iterable[str]:
    """The devices that a command names as parents, and those above these: as far up as a hierarchy goes, and is loaded."""
    if not isinstance(command, RegisterDevice | UpdateDevice):
        return
    names = dict.fromkeys(parents_named(command, documents[command.device_id]))
    for _ in range(LAYERS_MAX + 1):
        yield from names
        scopes = [document.parent_scope for name in names if (document := documents.get(name)) is not None]
        names = dict.fromkeys(name for scope in scopes if (name := device_of_scope(scope)) is not None)


def _decide(command: DeviceCommand, documents: AnyDocuments, author: CommandAuthor) -> Iterator[SubjectChange]:
    scope = author.scope
    device: DeviceDocument | None = documents[command.device_id]
    if scope is not None:
        _check_reached(command, device, scope)
    subject = subject_of(command)
    if subject != command.device_id:
        yield from _decide_on_module(command, subject, device, documents[subject])
        return
    event = decide(command, device, None, above=_above(command, documents, scope))
    if event is None:
        return
    if scope is not None and not isinstance(event, DeviceRetired):
        scope.insist(command.device_id, evolve_device(device, event, version=0, at=0))
    match event:
        case DeviceRegistered():
            yield SubjectChange(subject, event, generation=1 if device is None else device.generation + 1)
        case DeviceRetired():
            yield SubjectChange(subject, event, generation=0)
        case ModuleDeleted(module_id):
            yield SubjectChange(subject, event, removes=(module_subject(subject, module_id),))
        case _:
            yield SubjectChange(subject, event)


def _decide_on_module(
    command: DeviceCommand, subject: str, device: DeviceDocument | None, module: ModuleDocument | None
) -> Iterator[SubjectChange]:
    current = None if device is None else current_module(module, device)
    event = decide(command, device, current)
    if event is not None:
        assert device is not None, "modules have events of registered devices alone"
        yield SubjectChange(subject, event, base=current, guard=(command.device_id, device.generation))


def _check_reached(command: DeviceCommand, device: DeviceDocument | None, scope: ScopeLike) -> None:
    if isinstance(command, RegisterDevice):
        # Whether an id is taken outside is not told where a new device of that id would not be in the scope either.
        scope.insist(command.device_id, DeviceDocument(1, 1))
    elif not scope.holds(command.device_id, device):
        raise DeviceNotFound(command.device_id)


def _above(command: DeviceCommand, documents: AnyDocuments, scope: ScopeLike | None) -> Documents:
    """The devices above one; of those that the command names itself, as if they were not there outside a scope."""
    above = {name: documents.get(name) for name in _line_above(command, documents)}
    if scope is not None:
        for name in parents_named(command, documents[command.device_id]):
            if not scope.holds(name, above[name]):
                above[name] = None
    return above


def _evolve(
    document: DeviceDocument | ModuleDocument | None, event: DeviceEvent, version: int, at: int, _: str
) -> DeviceDocument | ModuleDocument:
    if isinstance(document, ModuleDocument):
        return evolve_module(document, event, version=version, at=at)
    return evolve_device(document, event, version=version, at=at)


def _decode(subject: str, data: bytes) -> DeviceDocument | ModuleDocument:
    return decode_module(data) if "/" in subject else decode_device(data)


def _subjects_of(command: DeviceCommand) -> tuple[str, ...]:
    return (command.device_id, subject_of(command))


DECIDER = Decider(
    get_args(DeviceCommand),
    get_args(DeviceEvent),
    subjects=_subjects_of,
    check=check,
    decide=_decide,
    evolve=_evolve,
    decode=_decode,
    prefixes=("",),
    also=_line_above,
    is_of_fleet=False,
    is_scoped=True,
)
