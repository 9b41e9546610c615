"""The authentication of a device or module (contract/hub.md §1.5). Keys are references to secrets before they are checked."""

import re
from typing import Any, TypeGuard

from events.canonical import Json, JsonObject
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


def check_new_authentication(device_id: str, authentication: JsonObject | None, *, module: bool) -> None:
    """Refuse invalid authentication of a new identity, which can decline keys.

    Raises:
        AuthenticationInvalid: names the member and the rule.
    """
    if authentication != KEYS_DECLINED:
        check_authentication(device_id, authentication, module=module)


def check_authentication(device_id: str, authentication: JsonObject | None, *, module: bool) -> None:
    """Refuse invalid authentication.

    Raises:
        AuthenticationInvalid: names the member and the rule.
    """
    # No error quotes a value: it may be a key in plain text.
    if authentication is None:
        return
    types = MODULE_TYPES if module else TYPES
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
        if not _both(thumbprints, THUMBPRINTS) or not all(map(_is_thumbprint, thumbprints.values())):
            raise AuthenticationInvalid(device_id, ".x509Thumbprint has two thumbprints of 40 or 64 hexadecimal digits")
    elif thumbprints is not None:
        raise AuthenticationInvalid(device_id, ".x509Thumbprint goes with the type selfSigned")


def _both(value: Json, names: tuple[str, ...]) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and value.keys() == set(names)


def _is_thumbprint(value: Json) -> bool:
    return isinstance(value, str) and _THUMBPRINT.fullmatch(value) is not None
