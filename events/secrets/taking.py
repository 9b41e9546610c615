"""Which commands hold secrets, and where: contents of deployments, keys of identities, keys of policies."""

import base64
import binascii
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import msgspec

from events.access.commands import DefinePolicy
from events.canonical import Json
from events.deployment.commands import CreateDeployment
from events.device.authentication import KEYS
from events.device.commands import CreateModule, RegisterDevice, SetConfiguration, UpdateDevice, UpdateModule
from events.properties import SECRET, is_secret
from events.secrets.errors import SecretTextInvalid
from events.secrets.references import Secret, extract, references
from events.update.commands import ImportUpdate

C = TypeVar("C")

_IDENTITY = (RegisterDevice, UpdateDevice, CreateModule, UpdateModule)
_KEY_BYTES = range(16, 65)


def holds_secrets(command: object) -> bool:
    """Whether a command could hold a secret, or refer to one."""
    if isinstance(command, _IDENTITY):
        return command.authentication is not None
    return isinstance(command, CreateDeployment | SetConfiguration | ImportUpdate | DefinePolicy)


def take(
    command: C, *, new_id: Callable[[], str], marked: Collection[str] = ()
) -> tuple[C, tuple[Secret, ...], frozenset[str]]:
    """The command with a reference for each secret, those secrets, and the references that it brought along.

    Raises:
        SecretTextInvalid: a secret that is no text, or a key that is not base64 of 16 to 64 bytes.
        MarkNotFound: as `references.extract`.
    """
    if isinstance(command, CreateDeployment | SetConfiguration | ImportUpdate):
        content, found = extract(command.content, new_id=new_id, marked=marked)
        return msgspec.structs.replace(command, content=content), found, references(command.content)
    secrets: list[Secret] = []
    brought: set[str] = set()

    def key(value: Json, place: str) -> Json:
        if is_secret(value):
            brought.add(value[SECRET])
            return value
        secrets.append(Secret(new_id(), _key(value, place)))
        return {SECRET: secrets[-1].id}

    changes: dict[str, Any] = {}
    if isinstance(command, DefinePolicy):
        changes = {name: key(getattr(command, name), name) for name in ("primary_key", "secondary_key")}
    elif isinstance(command, _IDENTITY) and isinstance(command.authentication, dict):
        keys = command.authentication.get("symmetricKey")
        if isinstance(keys, dict):
            taken = {
                name: key(value, f"symmetricKey.{name}") if name in KEYS else value for name, value in keys.items()
            }
            changes = {"authentication": {**command.authentication, "symmetricKey": taken}}
    replaced: Any = msgspec.structs.replace(command, **changes) if changes else command  # type: ignore[type-var]
    return replaced, tuple(secrets), frozenset(brought)


def _key(value: Json, place: str) -> str:
    try:
        decoded = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError):
        decoded = b""
    if len(decoded) not in _KEY_BYTES:
        raise SecretTextInvalid(place, f"that is a key is base64 of {_KEY_BYTES[0]} to {_KEY_BYTES[-1]} bytes")
    return str(value)
