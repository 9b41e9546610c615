"""The commands behind changes of the registry, one or up to 100 in bulk, with new keys (contract/hub.md §1.1, §1.5)."""

from collections.abc import Sequence
from typing import Any, Literal, TypeVar, cast

import msgspec

from events.canonical import JsonObject
from events.device.authentication import KEYS, THUMBPRINTS
from events.device.commands import (
    CreateModule,
    DeleteModule,
    DeviceCommand,
    PatchTwin,
    RegisterDevice,
    ReplaceTwin,
    RetireDevice,
    UpdateDevice,
    UpdateModule,
)
from events.log.device_documents import load_devices
from events.producer.decision import subjects_of
from events.producer.errors import Together
from events.secrets.errors import SecretNotFound
from events.secrets.secret_fields import new_key
from events.secrets.vault import Vault
from services.api.context.api_context import ApiContext
from services.api.context.callers import Author
from services.api.http.errors import BodyInvalid, answer_of, text_of
from services.api.http.json_answer import AnswerBody
from services.api.hub.bodies import IMPORT_MODES, AuthenticationBody, BulkBody, DeviceBody, ModuleBody, TwinBody

_STATUSES = {"enabled": True, "disabled": False}
# The service adds these members, and clients send them back. Any other member that begins with `$` is refused.
_MEMBERS_OF_SERVICE = {"$version", "$metadata"}
IdentityChange = DeviceCommand | Together
C = TypeVar("C", bound=IdentityChange)


class BulkError(AnswerBody):
    """A line of a bulk change that was refused, and why."""

    device_id: str
    module_id: str | None
    error_code: str
    error_status: str
    operation: str


class BulkResult(AnswerBody):
    """The result of a bulk change (contract/hub.md §1.2)."""

    is_successful: bool
    errors: list[BulkError]
    warnings: list[str]


def identity_command(device_id: str, body: DeviceBody, if_match: str | None) -> RegisterDevice | UpdateDevice:
    """The command that registers a device, or updates it if there is a condition. Missing keys are made anew.

    Raises:
        BodyInvalid: the status is neither enabled nor disabled.
    """
    enabled = _STATUSES.get(body.status)
    if enabled is None:
        raise BodyInvalid(f"status must be enabled or disabled, not {body.status[:40]!r}")
    edge = body.capabilities is not None and body.capabilities.iot_edge
    parents = None if body.parent_scopes is None else tuple(body.parent_scopes)
    common = (authentication_of(body.authentication), body.device_scope, parents)
    if if_match is None:
        return RegisterDevice(device_id, edge, enabled, body.status_reason, *common)
    return UpdateDevice(device_id, edge, enabled, body.status_reason, if_match, *common)


def module_command(
    device_id: str, module_id: str, body: ModuleBody | BulkBody, if_match: str | None
) -> CreateModule | UpdateModule:
    """The command that creates a module, or replaces it if there is a condition. Missing keys are made anew."""
    authentication = authentication_of(body.authentication, module=True)
    if if_match is None:
        return CreateModule(device_id, module_id, body.managed_by, authentication)
    return UpdateModule(device_id, module_id, body.managed_by, authentication, if_match)


def _written(section: dict[str, Any] | None) -> dict[str, Any] | None:
    if section is None:
        return None
    return {name: value for name, value in section.items() if name not in _MEMBERS_OF_SERVICE}


def patch_of(device_id: str, module_id: str | None, body: TwinBody, if_match: str | None) -> PatchTwin:
    """The command that patches a twin by RFC 7386: `null` removes all tags, or all desired properties.

    Raises:
        BodyInvalid: `properties` is null.
    """
    if body.properties is None and "properties" in body.model_fields_set:
        raise BodyInvalid(
            "properties must not be null, because that would remove the reported properties as well;"
            ' send "properties": {"desired": null} to remove all desired properties'
        )
    cleared: list[Literal["tags", "desired"]] = []
    if body.tags is None and "tags" in body.model_fields_set:
        cleared.append("tags")
    if body.properties is not None and body.desired is None and "desired" in body.properties.model_fields_set:
        cleared.append("desired")
    return PatchTwin(device_id, module_id, _written(body.tags), _written(body.desired), if_match, tuple(cleared))


def replacement_of(device_id: str, module_id: str | None, body: TwinBody, if_match: str | None) -> ReplaceTwin:
    """The command that replaces a twin's tags, and its desired properties that were written by hand, with those of a body."""
    return ReplaceTwin(device_id, module_id, _written(body.tags) or {}, _written(body.desired) or {}, if_match)


def in_bulk(context: ApiContext, bodies: Sequence[BulkBody], author: Author) -> list[BulkError]:
    """Write every line, and return an error for each refused one. Of a refused line neither identity nor twin is written."""
    if author.preview_request is not None:
        raise BodyInvalid(
            "a bulk request has no preview; send the commands to POST /v1/preview and then to POST /v1/events"
        )
    errors: dict[int, BulkError] = {}
    commands: dict[int, IdentityChange] = {}
    for number, body in enumerate(bodies):
        try:
            commands[number] = _line(body)
        except BodyInvalid as error:
            errors[number] = _error(body, error)
    with context.producer(author) as producer:
        report = producer.submit(without_present_keys(context, list(commands.values())))
    numbers = list(commands)
    for refused in report.refused:
        number = numbers[refused.index]
        errors[number] = _error(bodies[number], refused.error)
    return [errors[number] for number in sorted(errors)]


def _line(body: BulkBody) -> IdentityChange:
    mode = body.import_mode
    if mode not in IMPORT_MODES:
        raise BodyInvalid(f"importMode must be one of {', '.join(IMPORT_MODES)}, not {mode[:40]!r}")
    desired = None if body.properties is None else body.properties.desired
    if_match = body.twin_etag if mode == "updateTwinIfMatchETag" else None
    twin = PatchTwin(body.id, body.module_id, _written(body.tags), _written(desired), if_match)
    if mode.startswith("updateTwin"):
        return twin
    condition = None if mode == "create" else "*"
    if mode.endswith("IfMatchETag"):
        condition = body.etag or "*"
    identity: DeviceCommand
    if body.module_id is None:
        is_deleted = mode.startswith("delete")
        identity = RetireDevice(body.id, condition) if is_deleted else identity_command(body.id, body, condition)
    elif mode.startswith("delete"):
        identity = DeleteModule(body.id, body.module_id, condition)
    else:
        identity = module_command(body.id, body.module_id, body, condition)
    return Together((identity, twin)) if mode == "create" and (body.tags or desired) else identity


def _error(body: BulkBody, error: Exception) -> BulkError:
    return BulkError(body.id, body.module_id, answer_of(error).code, text_of(error), body.import_mode)


def authentication_of(body: AuthenticationBody | None, *, module: bool = False) -> dict[str, Any]:
    """The authentication of a command, with new keys where the body has null, "" or {} (contract/hub.md §1.5)."""
    body = body or AuthenticationBody()
    if body.type in {None, "sas"} or (module and body.type == "none"):
        keys = body.symmetric_key or {}
        if not any(keys.get(name) for name in KEYS):
            keys = {name: new_key() for name in KEYS}
        return {"type": "sas", "symmetricKey": {name: keys.get(name) for name in KEYS}}
    if body.type == "selfSigned":
        thumbprints = body.x509_thumbprint or {}
        first = next(filter(None, map(thumbprints.get, THUMBPRINTS)), None)
        return {"type": "selfSigned", "x509Thumbprint": {name: thumbprints.get(name) or first for name in THUMBPRINTS}}
    return {"type": body.type}


def without_present_keys(context: ApiContext, commands: Sequence[C]) -> list[C]:
    """The commands, without `authentication` in each update that sends the keys that its identity already has."""
    # Service clients read an identity, change one member and send all of it back. Sealed anew, the same keys would count as
    # a change. Only the first command on a device is compared: a later one may follow a change of keys in this request.
    first: dict[str, int] = {}
    for number, command in enumerate(commands):
        first.setdefault(subjects_of(command)[0], number)
    updates: dict[str, UpdateDevice | UpdateModule] = {}
    for device_id, number in first.items():
        change: IdentityChange = commands[number]
        if isinstance(change, UpdateDevice | UpdateModule) and "symmetricKey" in (change.authentication or {}):
            updates[device_id] = change
    cleaned = list(commands)
    for device_id, document in load_devices(context.log, list(updates)).items():
        update = updates[device_id]
        if isinstance(update, UpdateDevice):
            present = document.authentication or None
        else:
            module = document.modules.get(update.module_id)
            present = None if module is None else module.authentication or None
        if present is not None and readable(context.vault.opened, present) == update.authentication:
            cleaned[first[device_id]] = cast("C", msgspec.structs.replace(update, authentication=None))
    return cleaned


def readable(vault: Vault, authentication: JsonObject) -> JsonObject:
    """An authentication with keys in plain; without them if one is lost. An erased key is `None`."""
    try:
        opened: Any = vault.reveal_left(authentication, instead=None)
    except SecretNotFound:
        return {"type": authentication.get("type")}
    return cast("JsonObject", opened)
