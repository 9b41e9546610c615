"""The documents of policies and tokens, stored as snapshots beside the fleet's log."""

import msgspec

from events.access.events import AccessEvent, PolicyDefined, PolicyDeleted, SecretsRead, TokenIssued, TokenRevoked
from events.canonical import JsonObject

POLICY = "policy:"
TOKEN = "token:"  # noqa: S105 - a prefix of subjects
READER = "reader:"
"""Prefix of a principal whose reads of secrets are recorded; such a subject has no document."""


class PolicyDocument(msgspec.Struct, frozen=True):
    """A policy; its keys are references to secrets."""

    version: int
    permissions: tuple[str, ...]
    primary_key: JsonObject
    secondary_key: JsonObject


class TokenDocument(msgspec.Struct, frozen=True):
    """An issued token; times are in milliseconds since 1970, and `expires_at` 0 is never."""

    version: int
    name: str
    role: str
    digest: str
    expires_at: int
    scope: str
    issued_at: int


AccessDocument = PolicyDocument | TokenDocument


def is_access(subject: str) -> bool:
    """Whether a subject of the fleet's stream is a policy or a token."""
    # Deployments are in the same stream, and no deployment's id has a colon.
    return subject.startswith((POLICY, TOKEN))


def decode(subject: str, data: bytes) -> AccessDocument:
    """Decode a document's canonical bytes."""
    return msgspec.json.decode(data, type=PolicyDocument if subject.startswith(POLICY) else TokenDocument)


def evolve(event: AccessEvent, *, version: int, at: int) -> AccessDocument | None:
    """The policy or token after an event; `None` if it is gone, or the event leaves no document."""
    match event:
        case PolicyDefined(permissions, primary, secondary):
            return PolicyDocument(version, permissions, primary, secondary)
        case TokenIssued():
            return TokenDocument(version, event.name, event.role, event.digest, event.expires_at, event.scope, at)
        case PolicyDeleted() | TokenRevoked() | SecretsRead():
            return None
