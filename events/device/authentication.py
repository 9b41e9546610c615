"""The authentication of a device or module (contract/hub.md §1.5). Keys are references to secrets before they are checked."""

import re
from typing import Any, TypeGuard

from events.canonical import Json, JsonObject
from events.device.commands import CreateModule, RegisterDevice, UpdateDevice, UpdateModule
from events.device.errors import AuthenticationInvalid
from events.properties import is_secret

X509_TYPES = ("selfSigned", "certificateAuthority")
TYPES = ("sas", *X509_TYPES)
MODULE_TYPES = (*TYPES, "none")

KEYS_DECLINED: JsonObject = {"type": "declined"}
"""Creates a device or module without keys; without any authentication it gets generated keys."""

KEYS = ("primaryKey", "secondaryKey")
THUMBPRINTS = ("primaryThumbprint", "secondaryThumbprint")

_THUMBPRINT = re.compile(r"[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64}")


def check_authentication(command: RegisterDevice | UpdateDevice | CreateModule | UpdateModule) -> None:
    """Refuse invalid authentication; a new identity can decline keys.

    Raises:
        AuthenticationInvalid: names the member and the rule.
    """
    # No error quotes a value: it may be a key in plain text.
    device_id, authentication = command.device_id, command.authentication
    is_new = isinstance(command, RegisterDevice | CreateModule)
    if authentication is None or (is_new and authentication == KEYS_DECLINED):
        return
    types = MODULE_TYPES if isinstance(command, CreateModule | UpdateModule) else TYPES
    if authentication.keys() - {"type", "symmetricKey", "x509Thumbprint"}:
        raise AuthenticationInvalid(device_id, "has the members type, symmetricKey and x509Thumbprint")
    if authentication.get("type") not in types:
        raise AuthenticationInvalid(device_id, f".type is one of {', '.join(types)}")
    keys, thumbprints = authentication.get("symmetricKey"), authentication.get("x509Thumbprint")
    if authentication["type"] == "sas":
        if not _both(keys, KEYS) or not all(is_secret(key) for key in keys.values()):
            raise AuthenticationInvalid(device_id, ".symmetricKey has a primaryKey and a secondaryKey")
    elif keys is not None:
        raise AuthenticationInvalid(device_id, ".symmetricKey goes with the type sas")
    if authentication["type"] == "selfSigned":
        if not _both(thumbprints, THUMBPRINTS) or not all(
            isinstance(value, str) and _THUMBPRINT.fullmatch(value) for value in thumbprints.values()
        ):
            raise AuthenticationInvalid(device_id, ".x509Thumbprint has two thumbprints of 40 or 64 hexadecimal digits")
    elif thumbprints is not None:
        raise AuthenticationInvalid(device_id, ".x509Thumbprint goes with the type selfSigned")


def _both(value: Json, names: tuple[str, ...]) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and value.keys() == set(names)
