"""Keys of identities: made where a client wants new ones, and shown to those who may read the registry."""

from collections.abc import Mapping
from typing import Any, cast

from fastapi import Request
from msgspec import UnsetType

from events.canonical import JsonObject
from events.device.authentication import KEYS, THUMBPRINTS, X509_TYPES
from events.secrets.errors import SecretNotFound
from events.secrets.references import references
from events.secrets.taking import new_key
from events.secrets.vault import Vault
from services.api.asking import room_of
from services.api.bodies import AuthenticationBody
from services.api.secret_reads import note_read

_NOBODY: JsonObject = {"type": "none"}


def authentication_of(body: AuthenticationBody | None, *, module: bool = False) -> dict[str, Any]:
    """What a client sent, as a command takes it: null, "" and {} all want new keys (contract/hub.md §1.5)."""
    body = body or AuthenticationBody()
    if body.type in {None, "sas"} or (module and body.type == "none"):
        given = body.symmetric_key or {}
        if not any(given.get(name) for name in KEYS):
            given = {name: new_key() for name in KEYS}
        return {"type": "sas", "symmetricKey": {name: given.get(name) for name in KEYS}}
    if body.type == "selfSigned":
        given = body.x509_thumbprint or {}
        first = given.get("primaryThumbprint") or given.get("secondaryThumbprint")
        return {"type": "selfSigned", "x509Thumbprint": {name: given.get(name) or first for name in THUMBPRINTS}}
    return {"type": body.type}


def shown(request: Request, authentications: Mapping[str, JsonObject | UnsetType]) -> list[JsonObject]:
    """Authentications by their subjects, in the hub's shape, with keys in plain; all are opened in one round trip.

    That they are read is noted before. Keys that were erased are null, and so are lost ones; all others are shown.
    """
    room = room_of(request)
    known = [one if isinstance(one, dict) else {} for one in authentications.values()]
    with_keys = [subject for subject, one in zip(authentications, known, strict=True) if references(one)]
    note_read(request, with_keys, what="keys")
    vault = room.vault.opened
    try:
        opened: Any = vault.reveal_left({str(number): one for number, one in enumerate(known)}, instead=None)
    except SecretNotFound:
        return [_shape(_left_of(vault, one)) for one in known]
    return [_shape(opened[str(number)]) for number in range(len(known))]


def _left_of(vault: Vault, authentication: JsonObject) -> JsonObject:
    try:
        opened: Any = vault.reveal_left(authentication, instead=None)
    except SecretNotFound:
        return {"type": authentication.get("type")}
    return cast("JsonObject", opened)


def _shape(authentication: JsonObject) -> JsonObject:
    keys, thumbprints = authentication.get("symmetricKey", {}), authentication.get("x509Thumbprint", {})
    return {
        "symmetricKey": {name: keys.get(name) for name in KEYS},
        "x509Thumbprint": {name: thumbprints.get(name) for name in THUMBPRINTS},
        "type": authentication.get("type", "sas"),
    }


def as_identity_service_reads(authentication: JsonObject) -> JsonObject:
    """The same for the IoT identity service: it knows the types none, sas and x509 alone, and drops a list with any other."""
    return {**authentication, "type": "x509"} if authentication["type"] in X509_TYPES else authentication


def of_system_module() -> JsonObject:
    """What a system module shows: it comes with its device, and has no keys."""
    return _shape(_NOBODY)
