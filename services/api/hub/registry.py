"""The commands behind changes of the registry: of one identity, or of up to 100 in bulk (contract/hub.md §1.1, §1.5)."""

from collections.abc import Sequence
from typing import Any

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
from events.producer.errors import Together
from services.api.context.api_context import ApiContext
from services.api.context.callers import Author
from services.api.http.errors import BodyInvalid, answer_of, text_of
from services.api.http.json_answer import AnswerBody
from services.api.hub.bodies import IMPORT_MODES, BulkBody, DeviceBody, TwinBody
from services.api.hub.keys import IdentityChange, authentication_of, without_present_keys

_STATUSES = {"enabled": True, "disabled": False}
# The service adds these members, and clients send them back. Any other member that begins with `$` is refused.
_MEMBERS_OF_SERVICE = {"$version", "$metadata"}


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
    authentication = authentication_of(body.authentication)
    parents = None if body.parent_scopes is None else tuple(body.parent_scopes)
    if if_match is None:
        return RegisterDevice(device_id, edge, enabled, body.status_reason, authentication, body.device_scope, parents)
    return UpdateDevice(
        device_id, edge, enabled, body.status_reason, if_match, authentication, body.device_scope, parents
    )


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
    return PatchTwin(device_id, module_id, _written(body.tags), _written(body.desired), if_match, body.cleared)


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
    identity = _device(body) if body.module_id is None else _module(body, body.module_id)
    return Together((identity, twin)) if mode == "create" and (body.tags or desired) else identity


def _condition(body: BulkBody) -> str | None:
    if body.import_mode == "create":
        return None
    return body.etag or "*" if body.import_mode.endswith("IfMatchETag") else "*"


def _device(body: BulkBody) -> DeviceCommand:
    if body.import_mode.startswith("delete"):
        return RetireDevice(body.id, _condition(body))
    return identity_command(body.id, body, _condition(body))


def _module(body: BulkBody, module_id: str) -> DeviceCommand:
    if body.import_mode.startswith("delete"):
        return DeleteModule(body.id, module_id, _condition(body))
    authentication = authentication_of(body.authentication, module=True)
    if body.import_mode == "create":
        return CreateModule(body.id, module_id, body.managed_by, authentication)
    return UpdateModule(body.id, module_id, body.managed_by, authentication, _condition(body))


def _error(body: BulkBody, error: Exception) -> BulkError:
    return BulkError(body.id, body.module_id, answer_of(error).code, text_of(error), body.import_mode)
