"""The keys of identities: made where a client asks for new keys, and answered in plain to callers with registry read."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

import msgspec
from fastapi import Request
from msgspec import UnsetType

from events.canonical import JsonObject
from events.device.authentication import KEYS, THUMBPRINTS
from events.device.commands import DeviceCommand, UpdateDevice, UpdateModule
from events.device.state import DeviceDocument
from events.device.twin import TwinThumbprints, twin_thumbprints
from events.log.device_documents import load_devices
from events.producer.decision import subjects_of
from events.producer.errors import Together
from events.secrets.errors import SecretNotFound
from events.secrets.references import references
from events.secrets.secret_fields import new_key
from events.secrets.vault import Vault
from services.api.auth.secret_reads import note_read
from services.api.context.api_context import ApiContext
from services.api.context.request import context_of
from services.api.http.json_answer import AnswerBody
from services.api.hub.bodies import AuthenticationBody

IdentityChange = DeviceCommand | Together
C = TypeVar("C", bound=IdentityChange)


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
        present = _authentication_in(document, update)
        if present is not None and _readable(context.vault.opened, present) == update.authentication:
            cleaned[first[device_id]] = cast("C", msgspec.structs.replace(update, authentication=None))
    return cleaned


def _authentication_in(document: DeviceDocument, command: UpdateDevice | UpdateModule) -> JsonObject | None:
    if isinstance(command, UpdateDevice):
        return document.authentication or None
    module = document.modules.get(command.module_id)
    return None if module is None else module.authentication or None


class IdentityKeys(AnswerBody):
    """Two keys, so that one can be changed while the other is in use; `null` if there is none."""

    primary_key: str | None
    secondary_key: str | None


class IdentityAuthentication(AnswerBody):
    """How an identity authenticates."""

    symmetric_key: IdentityKeys
    x509_thumbprint: TwinThumbprints
    type: str


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
        opened = [_readable(vault, authentication) for authentication in sealed.values()]
    return dict(zip(sealed, map(identity_authentication, opened), strict=True))


def _readable(vault: Vault, authentication: JsonObject) -> JsonObject:
    try:
        opened: Any = vault.reveal_left(authentication, instead=None)
    except SecretNotFound:
        return {"type": authentication.get("type")}
    return cast("JsonObject", opened)


def identity_authentication(authentication: JsonObject) -> IdentityAuthentication:
    """An authentication with keys in plain, in the hub's shape."""
    keys = authentication.get("symmetricKey", {})
    return IdentityAuthentication(
        IdentityKeys(keys.get("primaryKey"), keys.get("secondaryKey")),
        twin_thumbprints(authentication),
        authentication.get("type", "sas"),
    )
