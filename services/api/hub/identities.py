"""The identities of devices and modules, with their keys, and their number (contract/hub.md §1.1, §1.5)."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Body, Depends, Request, Response
from msgspec import UNSET, UnsetType

from events.canonical import JsonObject
from events.device.authentication import X509_TYPES
from events.device.commands import DeleteModule, RetireDevice
from events.device.errors import EtagMismatch, ModuleNotFound
from events.device.hierarchy import device_scope, generation_id, parent_scopes
from events.device.identifiers import SYSTEM_MODULES, module_subject
from events.device.state import CONFIGURED_IDENTITY, DeviceDocument, matches, twin_etag
from events.device.times import NEVER, time_text
from events.device.twin import DeviceCapabilities, TwinThumbprints, twin_thumbprints
from events.log.device_documents import load_device, load_devices, registered_device
from events.secrets.errors import SecretNotFound
from events.secrets.references import references
from services.api.auth.secret_reads import note_read
from services.api.context.request import author_of, caller_of, context_of, reach_of, write
from services.api.http.access import REGISTRY_READ, REGISTRY_WRITE, Access
from services.api.http.errors import EtagMissing, HubErrorAnswer, ModulesOutOfReach
from services.api.http.json_answer import AnswerBody, JsonAnswer
from services.api.http.openapi import ETAG
from services.api.http.path_names import DeviceId, ModuleId
from services.api.http.request_costs import LONG, MANY_DEVICES
from services.api.hub.bodies import BULK_EXAMPLE, BulkBody, DeviceBody, ModuleBody
from services.api.hub.registry import (
    BulkResult,
    identity_command,
    in_bulk,
    module_command,
    readable,
    without_present_keys,
)
from services.api.hub.router import IDENTITY_SERVICE_VERSION, IfMatch, IfMatchToDelete, hub_router


class IdentityKeys(AnswerBody):
    """Two keys, so that one can be changed while the other is in use; `null` if there is none."""

    primary_key: str | None
    secondary_key: str | None


class IdentityAuthentication(AnswerBody):
    """How an identity authenticates."""

    symmetric_key: IdentityKeys
    x509_thumbprint: TwinThumbprints
    type: str


class DeviceIdentityAnswer(AnswerBody, kw_only=True):
    """A device's identity (contract/hub.md §1.3). Only edge devices and devices with a parent have a `deviceScope`."""

    device_id: str
    generation_id: str
    etag: str
    connection_state: str
    status: Literal["enabled", "disabled"]
    status_reason: str | None
    connection_state_updated_time: str
    status_updated_time: str
    last_activity_time: str
    cloud_to_device_message_count: int
    authentication: IdentityAuthentication
    capabilities: DeviceCapabilities
    device_scope: str | UnsetType = UNSET
    parent_scopes: list[str]


class ModuleIdentityAnswer(AnswerBody):
    """A module's identity."""

    device_id: str
    module_id: str
    managed_by: str | None
    generation_id: str
    etag: str
    connection_state: str
    connection_state_updated_time: str
    last_activity_time: str
    cloud_to_device_message_count: int
    authentication: IdentityAuthentication


class ServiceStatistics(AnswerBody):
    """The number of connected devices."""

    connected_device_count: int


class DeviceStatistics(AnswerBody):
    """The number of registered devices."""

    total_device_count: int
    enabled_device_count: int
    disabled_device_count: int


def modules_in_reach(request: Request, device_id: DeviceId) -> None:
    """Refuse the signature of a policy if the device is missing or disabled (contract/hub.md §1.5)."""
    # Only signatures of policies, as the hub knows no other callers. A bearer token gets the 404 of the operation, which
    # says more (decision 0017).
    if caller_of(request).policy is None:
        return
    document = registered_device(context_of(request).log, device_id)
    if document is None or not document.enabled:
        raise ModulesOutOfReach(device_id)


router = hub_router(
    read=Access(REGISTRY_READ, own=True, scope="device"), write=Access(REGISTRY_WRITE, own=True, scope="device")
)

_MODULE = "/devices/{device_id}/modules/{module_id}"
BULK_MAX = 100
LISTED_MAX = 1000


@router.get("/devices")
@Access(REGISTRY_READ, scope="handler", cost=LONG)
def list_devices(request: Request, top: int = LISTED_MAX) -> list[DeviceIdentityAnswer]:
    """The identities of at most `top` devices that the workers know. A `top` outside 1 to 1,000 counts as 1,000."""
    context, caller = context_of(request), caller_of(request)
    # The Python library of the hub documents this for 0 and for more than 1,000 (decision 0017).
    limit = top if 1 <= top <= LISTED_MAX else LISTED_MAX
    names, _ = context.fleet_projection.devices(limit=limit, within=reach_of(request))
    documents = load_devices(context.log, names)
    # Projections lag behind the log: a device may have left the scope, and its keys are in this answer.
    if caller.scope is not None:
        documents = {name: each for name, each in documents.items() if caller.scope.holds(name, each)}
    return device_identities(request, documents)


@router.get("/statistics/devices")
@Access(REGISTRY_READ, scope="handler", at=True)
def count_devices(request: Request) -> DeviceStatistics:
    """The number of devices, and how many of them are enabled."""
    total, enabled = context_of(request).fleet_projection.totals(within=reach_of(request))
    return DeviceStatistics(total, enabled, total - enabled)


@router.get("/statistics/service")
@Access(REGISTRY_READ, scope="handler")
def count_connected() -> ServiceStatistics:
    """The number of connected devices: always 0, because no device can connect."""
    return ServiceStatistics(0)


@router.post(
    "/devices",
    responses={
        400: {
            "type": BulkResult | HubErrorAnswer,
            "description": "Some lines were refused, or the whole request breaks a rule.",
        }
    },
)
@Access(REGISTRY_WRITE, scope="handler", cost=MANY_DEVICES)
def change_many(
    request: Request, body: Annotated[list[BulkBody], Body(max_length=BULK_MAX, examples=[[BULK_EXAMPLE]])]
) -> JsonAnswer[BulkResult]:
    """Change up to 100 identities and twins. If some are refused, the status is 400 with the same body."""
    errors = in_bulk(context_of(request), body, author_of(request))
    return JsonAnswer(BulkResult(not errors, errors, warnings=[]), 400 if errors else 200)


@router.get("/devices/{device_id}", responses=ETAG)
@Access(REGISTRY_READ, scope="device")
def get_device(request: Request, response: Response, device_id: DeviceId) -> DeviceIdentityAnswer:
    """A device's identity, with its keys."""
    (identity,) = device_identities(request, {device_id: load_device(context_of(request).log, device_id)})
    response.headers["ETag"] = f'"{identity.etag}"'
    return identity


@router.put("/devices/{device_id}", responses=ETAG)
@Access(REGISTRY_WRITE, scope="new device")
def put_device(
    request: Request, response: Response, device_id: DeviceId, body: DeviceBody, if_match: IfMatch = None
) -> DeviceIdentityAnswer:
    """Register a device, or with `If-Match` update it. Without keys in the body, new keys are made."""
    (command,) = without_present_keys(context_of(request), [identity_command(device_id, body, if_match)])
    write(request, command)
    return get_device(request, response, device_id)


@router.delete("/devices/{device_id}", status_code=204)
@Access(REGISTRY_WRITE, scope="device")
def delete_device(request: Request, device_id: DeviceId, if_match: IfMatchToDelete = None) -> None:
    """Retire a device."""
    if if_match is None:
        raise EtagMissing
    write(request, RetireDevice(device_id, if_match))


@router.get("/devices/{device_id}/modules", dependencies=[Depends(modules_in_reach)])
def list_modules(request: Request, device_id: DeviceId) -> list[ModuleIdentityAnswer]:
    """The identities of a device's modules, with their keys."""
    context = context_of(request)
    document = load_device(context.log, device_id)
    return module_identities(request, device_id, document, context.twins.module_ids(device_id))


@router.get(_MODULE, responses=ETAG, dependencies=[Depends(modules_in_reach)])
def get_module(request: Request, response: Response, device_id: DeviceId, module_id: ModuleId) -> ModuleIdentityAnswer:
    """A module's identity, with its keys."""
    context = context_of(request)
    document = load_device(context.log, device_id)
    if module_id not in context.twins.module_ids(device_id):
        raise ModuleNotFound(device_id, module_id)
    (identity,) = module_identities(request, device_id, document, [module_id])
    response.headers["ETag"] = f'"{identity.etag}"'
    return identity


@router.put(_MODULE, responses=ETAG, dependencies=[Depends(modules_in_reach)])
def put_module(
    request: Request,
    response: Response,
    device_id: DeviceId,
    module_id: ModuleId,
    *,
    body: ModuleBody,
    if_match: IfMatch = None,
) -> ModuleIdentityAnswer:
    """Create a module by hand, or with `If-Match` replace it."""
    context = context_of(request)
    if if_match is not None:
        # An update of a module that exists only because a configuration names it makes it one by hand, under the etag that its
        # identity shows (decision 0039): the IoT identity service gives keys to modules that way.
        by_hand = {*load_device(context.log, device_id).modules, *SYSTEM_MODULES}
        if module_id not in by_hand and module_id in context.twins.module_ids(device_id):
            if not matches(if_match, CONFIGURED_IDENTITY.etag):
                subject = module_subject(device_id, module_id)
                raise EtagMismatch(subject, expected=if_match, actual=twin_etag(CONFIGURED_IDENTITY.etag))
            if_match = None
    (command,) = without_present_keys(context, [module_command(device_id, module_id, body, if_match)])
    write(request, command)
    return get_module(request, response, device_id, module_id)


@router.delete(_MODULE, status_code=204, dependencies=[Depends(modules_in_reach)])
def delete_module(request: Request, device_id: DeviceId, module_id: ModuleId, if_match: IfMatchToDelete = None) -> None:
    """Delete a module that was made by hand."""
    if if_match is None:
        raise EtagMissing
    write(request, DeleteModule(device_id, module_id, if_match))


def device_identities(request: Request, documents: Mapping[str, DeviceDocument]) -> list[DeviceIdentityAnswer]:
    """The identities of devices, with their keys. The read of the keys is noted in the log."""
    keys = in_plain(request, {name: document.authentication for name, document in documents.items()})
    return [
        DeviceIdentityAnswer(
            device_id=device_id,
            generation_id=generation_id(document),
            etag=twin_etag(document.identity_etag),
            connection_state="Disconnected",
            status="enabled" if document.enabled else "disabled",
            status_reason=document.status_reason,
            connection_state_updated_time=NEVER,
            status_updated_time=time_text(document.status_updated_at),
            last_activity_time=NEVER,
            cloud_to_device_message_count=0,
            authentication=keys[device_id],
            capabilities={"iotEdge": document.edge},
            device_scope=device_scope(device_id, document) or UNSET,
            parent_scopes=parent_scopes(document),
        )
        for device_id, document in documents.items()
    ]


def module_identities(
    request: Request, device_id: str, document: DeviceDocument, names: Sequence[str]
) -> list[ModuleIdentityAnswer]:
    """The identities of modules of a device, with their keys. The read of the keys is noted in the log."""
    by_hand = {name: document.modules[name] for name in names if name in document.modules}
    keys = in_plain(request, {module_subject(device_id, name): each.authentication for name, each in by_hand.items()})
    # The IoT identity service knows only none, sas and x509, and drops a list with any other type (decision 0039).
    is_identity_service = request.query_params["api-version"] == IDENTITY_SERVICE_VERSION
    answers = []
    for name in names:
        # A system module, or a module that a configuration names, comes with its device and has no keys.
        authentication = keys.get(module_subject(device_id, name)) or identity_authentication({"type": "none"})
        if is_identity_service and authentication.type in X509_TYPES:
            authentication = msgspec.structs.replace(authentication, type="x509")
        identity = by_hand.get(name, CONFIGURED_IDENTITY)
        answers.append(
            ModuleIdentityAnswer(
                device_id,
                name,
                identity.managed_by,
                generation_id(document),
                twin_etag(identity.etag),
                connection_state="Disconnected",
                connection_state_updated_time=NEVER,
                last_activity_time=NEVER,
                cloud_to_device_message_count=0,
                authentication=authentication,
            )
        )
    return answers


def in_plain(
    request: Request, authentications: Mapping[str, JsonObject | UnsetType]
) -> dict[str, IdentityAuthentication]:
    """Authentications by subject, in the hub's shape, with keys in plain. Erased and lost keys are `null`."""
    sealed = {subject: authentication or {} for subject, authentication in authentications.items()}
    # Noted before the keys are opened: a read that is not in the log did not happen (decision 0026).
    with_keys = [subject for subject, authentication in sealed.items() if references(authentication)]
    note_read(request, with_keys, what="keys")
    vault = context_of(request).vault.opened
    try:
        # One round trip to Redis for a whole list of devices. Only if a key is lost, each identity is opened alone.
        opened: Any = vault.reveal_left([*sealed.values()], instead=None)
    except SecretNotFound:
        opened = [readable(vault, authentication) for authentication in sealed.values()]
    return dict(zip(sealed, map(identity_authentication, opened), strict=True))


def identity_authentication(authentication: JsonObject) -> IdentityAuthentication:
    """An authentication with keys in plain, in the hub's shape."""
    keys = authentication.get("symmetricKey", {})
    identity_keys = IdentityKeys(keys.get("primaryKey"), keys.get("secondaryKey"))
    return IdentityAuthentication(identity_keys, twin_thumbprints(authentication), authentication.get("type", "sas"))
