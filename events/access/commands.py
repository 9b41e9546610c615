"""What can be asked of policies and tokens."""

from typing import Any

import msgspec
from typing_extensions import override


class DefinePolicy(msgspec.Struct, frozen=True):
    """Make a policy, or give it other permissions or keys. Keys are base64 of 16 to 64 bytes, and never shown when printed.

    `new` refuses where there is one already.
    """

    policy: str
    permissions: tuple[str, ...]
    primary_key: Any
    secondary_key: Any
    new: bool = False

    @override
    def __repr__(self) -> str:
        """Without the keys."""
        return f"DefinePolicy(policy={self.policy!r}, permissions={self.permissions!r})"


class DeletePolicy(msgspec.Struct, frozen=True):
    """Remove a policy of one's own."""

    policy: str


class IssueToken(msgspec.Struct, frozen=True):
    """Give somebody a token; `digest` is the SHA-256 of what they will hold, `expires_at` in milliseconds (0: never)."""

    token_id: str
    name: str
    role: str
    digest: str
    expires_at: int = 0
    scope: str = ""


class RevokeToken(msgspec.Struct, frozen=True):
    """Take a token back, for good."""

    token_id: str


class NoteSecretsRead(msgspec.Struct, frozen=True):
    """Note that a principal (`kind:id`) is about to be shown secrets; the members are as in `SecretsRead`."""

    reader: str
    subjects: tuple[str, ...]
    count: int
    what: str
    through: str


AccessCommand = DefinePolicy | DeletePolicy | IssueToken | RevokeToken | NoteSecretsRead
