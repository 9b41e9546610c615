"""The secrets in commands: in contents of deployments, in keys of identities and policies, in webhooks."""

import base64
import binascii
import re
import secrets
from collections.abc import Callable
from typing import Any, TypeVar, cast

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
from events.webhook.commands import DefineWebhook
from events.webhook.signature import key_of

C = TypeVar("C")

_IDENTITY = (RegisterDevice, UpdateDevice, CreateModule, UpdateModule)
_OTHERS = (CreateDeployment, SetConfiguration, ImportUpdate, DefinePolicy, DefineWebhook)
_KEY_BYTES = range(16, 65)
_NEW_KEY_BYTES = 32
_QUERY = re.compile(r"[!-\"$-~]{1,2000}")


def holds_secrets(command: object) -> bool:
    """Whether a command can have a secret or a reference to one."""
    kind = type(command)
    if kind in _IDENTITY:
        return cast("RegisterDevice", command).authentication is not None
    return kind in _OTHERS


def new_key() -> str:
    """A new random key: base64 of 32 bytes."""
    return base64.b64encode(secrets.token_bytes(_NEW_KEY_BYTES)).decode()


def take(command: C, *, new_id: Callable[[], str]) -> tuple[C, tuple[Secret, ...], frozenset[str]]:
    """The command with a reference for each secret, those secrets, and the references it had; or SecretTextInvalid."""
    if isinstance(command, CreateDeployment | SetConfiguration | ImportUpdate):
        content, extracted = extract(command.content, new_id=new_id)
        return msgspec.structs.replace(command, content=content), extracted, references(command.content)
    new_secrets: list[Secret] = []
    brought: set[str] = set()

    def put(value: Json, checked: Callable[[Json], str]) -> Json:
        if is_secret(value):
            brought.add(value[SECRET])
            return value
        new_secrets.append(Secret(new_id(), checked(value)))
        return {SECRET: new_secrets[-1].id}

    def key(value: Json, location: str) -> Json:
        return put(value, lambda value: _key(value, location))

    changes: dict[str, Any] = {}
    if isinstance(command, DefinePolicy):
        changes = {name: key(getattr(command, name), name) for name in ("primary_key", "secondary_key")}
    elif isinstance(command, DefineWebhook):
        changes = _of_webhook(command, put)
    elif isinstance(command, _IDENTITY) and isinstance(command.authentication, dict):
        keys = command.authentication.get("symmetricKey")
        if isinstance(keys, dict):
            replaced_keys = {
                name: key(value, f"symmetricKey.{name}") if name in KEYS else value for name, value in keys.items()
            }
            changes = {"authentication": {**command.authentication, "symmetricKey": replaced_keys}}
    replaced: Any = msgspec.structs.replace(command, **changes) if changes else command  # type: ignore[type-var]
    return replaced, tuple(new_secrets), frozenset(brought)


def _of_webhook(command: DefineWebhook, put: Callable[[Json, Callable[[Json], str]], Json]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if command.secret is not None:
        changes["secret"] = put(command.secret, _signing_secret)
    # Receivers take tokens in the query of their URL, so all of it is a secret.
    if "?" in str(command.url):
        changes["url"], _, query = command.url.partition("?")
        changes["query"] = put(query, _query)
    elif command.query is not None:
        changes["query"] = put(command.query, _query)
    return changes


def _signing_secret(value: Json) -> str:
    try:
        key_of(value if isinstance(value, str) else "")
    except ValueError:
        raise SecretTextInvalid("secret", "for signing must be whsec_ and base64 of 24 to 64 bytes") from None
    return str(value)


def _query(value: Json) -> str:
    if not isinstance(value, str) or not _QUERY.fullmatch(value):
        raise SecretTextInvalid("url", "in a query must have 1 to 2000 ASCII characters without spaces and #")
    return value


def _key(value: Json, location: str) -> str:
    try:
        decoded = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError):
        decoded = b""
    if len(decoded) not in _KEY_BYTES:
        raise SecretTextInvalid(location, f"that is a key must be base64 of {_KEY_BYTES[0]} to {_KEY_BYTES[-1]} bytes")
    return str(value)
