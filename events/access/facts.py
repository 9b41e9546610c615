"""What can happen to policies and tokens. Subjects: `policy:<name>` and `token:<id>`, in the fleet's stream."""

import msgspec

from events.canonical import JsonObject


class PolicyDefined(msgspec.Struct, frozen=True, tag="PolicyDefined", forbid_unknown_fields=True):
    """A shared access policy has exactly these rights and keys; each key is a `{"$secret": id}`."""

    rights: tuple[str, ...]
    primary_key: JsonObject
    secondary_key: JsonObject


class PolicyDeleted(msgspec.Struct, frozen=True, tag="PolicyDeleted", forbid_unknown_fields=True):
    """Nobody comes in by this policy any more."""


class TokenIssued(msgspec.Struct, frozen=True, tag="TokenIssued", forbid_unknown_fields=True):
    """A token was given to somebody. `digest` is the SHA-256 of what they hold; `expires_at` in milliseconds, 0 is never."""

    name: str
    role: str
    digest: str
    expires_at: int = 0
    scope: str = ""


class TokenRevoked(msgspec.Struct, frozen=True, tag="TokenRevoked", forbid_unknown_fields=True):
    """The token opens nothing any more."""


AccessFact = PolicyDefined | PolicyDeleted | TokenIssued | TokenRevoked
