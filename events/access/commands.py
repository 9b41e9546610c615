"""Commands on policies and tokens."""

from typing import Any

import msgspec
from typing_extensions import override


class DefinePolicy(msgspec.Struct, frozen=True):
    """Make a policy, or change its permissions or keys (base64 of 16 to 64 bytes); with `new`, make it or fail."""

    policy: str
    permissions: tuple[str, ...]
    primary_key: Any
    secondary_key: Any
    new: bool = False

    @override
    def __repr__(self) -> str:
        """Without the keys, which would reach logs and tracebacks."""
        return f"DefinePolicy(policy={self.policy!r}, permissions={self.permissions!r})"


class DeletePolicy(msgspec.Struct, frozen=True):
    """Remove a policy that is not built in."""

    policy: str


class IssueToken(msgspec.Struct, frozen=True):
    """Issue a token. `digest` is the SHA-256 of its secret; `expires_at` is in milliseconds since 1970 (0: never)."""

    token_id: str
    name: str
    role: str
    digest: str
    expires_at: int = 0
    scope: str = ""


class RevokeToken(msgspec.Struct, frozen=True):
    """Revoke a token for good."""

    token_id: str


class NoteSecretsRead(msgspec.Struct, frozen=True):
    """Record that a principal (`kind:id`) is about to get secrets; the members are as in `SecretsRead`."""

    reader: str
    subjects: tuple[str, ...]
    count: int
    what: str
    through: str


AccessCommand = DefinePolicy | DeletePolicy | IssueToken | RevokeToken | NoteSecretsRead
