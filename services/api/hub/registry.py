"""Changes of the registry: one identity, or up to a hundred lines of a bulk request (contract/hub.md §1.1, §1.5)."""

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
_ANY = "*"
_OVERLOOKED = {"$version", "$metadata"}


class BulkError(AnswerBody):
    """A line that was refused."""

    device_id: str
    module_id: str | None
    error_code: str
    error_status: str
    operation: str


class BulkResult(AnswerBody):
    """What became of a bulk change (contract/hub.md §1.2)."""

    is_successful: bool
    errors: list[BulkError]
    warnings: list[str]


def identity_command(device_id: str, body: DeviceBody, if_match: str | None) -> RegisterDevice | UpdateDevice:
    """The command that registers a device, or with a condition updates it. Keys that are left out are made anew.

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
    """A section without the members that the service adds and clients send back; any other that begins with `$` is refused."""
    return None if section is None else {name: value for name, value in section.items() if name not in _OVERLOOKED}


def patch_of(device_id: str, module_id: str | None, body: TwinBody, if_match: str | None) -> PatchTwin:
    """The patch to a twin that a body asks for, as RFC 7386 reads it: `null` removes all tags, or all desired properties.

    Raises:
        BodyInvalid: `properties` is null, which would remove what the device reports as well.
    """
    if body.properties is None and "properties" in body.model_fields_set:
        raise BodyInvalid(
            'properties: null would remove what the device reports as well; send {"desired": null} to remove all desired ones'
        )
    return PatchTwin(device_id, module_id, _written(body.tags), _written(body.desired), if_match, body.cleared)


def replacement_of(device_id: str, module_id: str | None, body: TwinBody, if_match: str | None) -> ReplaceTwin:
    """The command that makes a twin's tags and desired properties, those written by hand, exactly those of a body."""
    return ReplaceTwin(device_id, module_id, _written(body.tags) or {}, _written(body.desired) or {}, if_match)


def in_bulk(context: ApiContext, bodies: Sequence[BulkBody], author: Author) -> list[BulkError]:
    """Do every line, and answer an error for each that was refused; of such a line nothing is done, neither identity nor twin."""
    if author.preview_request is not None:
        raise BodyInvalid("many at once are previewed at POST /v1/preview, and written at /v1/events")
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
        raise BodyInvalid(f"importMode is one of {', '.join(IMPORT_MODES)}, not {mode[:40]!r}")
    desired = None if body.properties is None else body.properties.desired
    if_match = body.twin_etag if mode == "updateTwinIfMatchETag" else None
    twin = PatchTwin(body.id, body.module_id, _written(body.tags), _written(desired), if_match)
    if mode.startswith("updateTwin"):
        return twin
    identity = _module(body) if body.module_id is not None else _device(body)
    return Together((identity, twin)) if mode == "create" and (body.tags or desired) else identity


def _condition(body: BulkBody) -> str | None:
    if body.import_mode == "create":
        return None
    return body.etag or _ANY if body.import_mode.endswith("IfMatchETag") else _ANY


def _device(body: BulkBody) -> DeviceCommand:
    if body.import_mode.startswith("delete"):
        return RetireDevice(body.id, _condition(body))
    return identity_command(body.id, body, _condition(body))


def _module(body: BulkBody) -> DeviceCommand:
    assert body.module_id is not None
    if body.import_mode.startswith("delete"):
        return DeleteModule(body.id, body.module_id, _condition(body))
    authentication = authentication_of(body.authentication, module=True)
    if body.import_mode == "create":
        return CreateModule(body.id, body.module_id, body.managed_by, authentication)
    return UpdateModule(body.id, body.module_id, body.managed_by, authentication, _condition(body))


def _error(body: BulkBody, error: Exception) -> BulkError:
    return BulkError(body.id, body.module_id, answer_of(error).code, text_of(error), body.import_mode)
