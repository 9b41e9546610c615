"""A bearer token as its holder sends it: `twf_<id>_<secret>`. The log has only a digest of the secret."""

import hashlib
import hmac
import re

import msgspec

from events.access.state import AccessDocument, TokenDocument

_FORM = re.compile(r"twf_([A-Za-z0-9]{1,64})_([A-Za-z0-9_-]{20,128})", re.ASCII)
_NO_DIGEST = "0" * 64


class BearerToken(msgspec.Struct, frozen=True):
    """The two parts of a token."""

    token_id: str
    secret: str

    @classmethod
    def parse(cls, text: str) -> "BearerToken | None":
        """Read a token; `None` if the text is no token."""
        parts = _FORM.fullmatch(text)
        return None if parts is None else cls(parts[1], parts[2])

    @property
    def text(self) -> str:
        """The token as its holder sends it."""
        return f"twf_{self.token_id}_{self.secret}"

    @property
    def digest(self) -> str:
        """The SHA-256 of the secret, in hexadecimal digits."""
        # No slow hash is needed: the secret has 32 random bytes, too many to guess (docs/decisions/0015).
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def holder(self, document: AccessDocument | None, *, now: int) -> TokenDocument | None:
        """The token's document, if the secret matches it and it has not expired at `now` (milliseconds since 1970)."""
        token = document if isinstance(document, TokenDocument) else None
        # Compared for unknown ids too, so that the response time does not reveal which ids exist.
        is_same = hmac.compare_digest(self.digest, token.digest if token else _NO_DIGEST)
        return None if not is_same or token is None or 0 < token.expires_at <= now else token
