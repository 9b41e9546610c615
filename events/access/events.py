"""What can happen to policies, tokens and secrets, in the fleet's stream.

Subjects: `policy:<name>`, `token:<id>`, and `reader:<principal>` for who reads secrets.
"""

import msgspec

from events.canonical import JsonObject


class PolicyDefined(msgspec.Struct, frozen=True, tag="PolicyDefined", forbid_unknown_fields=True):
    """A shared access policy has exactly these permissions and keys; each key is a `{"$secret": id}`."""

    permissions: tuple[str, ...]
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


SUBJECTS_NAMED_MAX = 100


class SecretsRead(msgspec.Struct, frozen=True, tag="SecretsRead", forbid_unknown_fields=True):
    """Somebody was about to be shown secrets in plain: the event stands before they are. It holds none of them.

    `subjects` names whose they are, the first SUBJECTS_NAMED_MAX of `count`; `what` they are, as in `keys`; `through` says by
    which way, as in `GET /devices`.
    """

    subjects: tuple[str, ...]
    count: int
    what: str
    through: str


AccessEvent = PolicyDefined | PolicyDeleted | TokenIssued | TokenRevoked | SecretsRead
