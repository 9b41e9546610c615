"""Events on policies, tokens and secrets, in the fleet's stream.

Subjects: `policy:<name>`, `token:<id>`, and `reader:<principal>` for reads of secrets.
"""

import msgspec

from events.canonical import JsonObject


class PolicyDefined(msgspec.Struct, frozen=True, tag="PolicyDefined", forbid_unknown_fields=True):
    """A shared access policy has exactly these permissions and keys from now on; each key is a `{"$secret": id}`."""

    permissions: tuple[str, ...]
    primary_key: JsonObject
    secondary_key: JsonObject


class PolicyDeleted(msgspec.Struct, frozen=True, tag="PolicyDeleted", forbid_unknown_fields=True):
    """Signatures with the policy's keys are not accepted any more."""


class TokenIssued(msgspec.Struct, frozen=True, tag="TokenIssued", forbid_unknown_fields=True):
    """A token was issued. `digest` is the SHA-256 of its secret; `expires_at` is in milliseconds since 1970, 0 is never."""

    name: str
    role: str
    digest: str
    expires_at: int = 0
    scope: str = ""


class TokenRevoked(msgspec.Struct, frozen=True, tag="TokenRevoked", forbid_unknown_fields=True):
    """The token is not accepted any more."""


SUBJECTS_NAMED_MAX = 100


class SecretsRead(msgspec.Struct, frozen=True, tag="SecretsRead", forbid_unknown_fields=True):
    """A principal was about to get secrets in plain text. The event has none of them.

    `subjects` are the owners of the secrets, the first SUBJECTS_NAMED_MAX of `count`; `what` is their kind, as in `keys`;
    `through` is the operation, as in `GET /devices`.
    """

    # Written before the answer: a read that cannot be recorded does not happen.
    subjects: tuple[str, ...]
    count: int
    what: str
    through: str


AccessEvent = PolicyDefined | PolicyDeleted | TokenIssued | TokenRevoked | SecretsRead
