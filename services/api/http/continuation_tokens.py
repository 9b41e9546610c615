"""Continuation tokens: sealed, so that a scoped caller cannot read from them how many other devices there are."""

import base64
import binascii
import os
from functools import cached_property

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from events.log.connect import Client, answering
from events.log.keys import FLEET, key
from events.projection_store.query_engine import ContinuationInvalid

_KEY_BYTES, _NONCE_BYTES = 32, 12
_CHARACTERS_MAX = 32_768


class Continuations:
    """Seals and opens the locations where pages begin. Both raise LogUnavailable if Redis does not answer."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def seal(self, location: str) -> str:
        """The continuation for a location."""
        nonce = os.urandom(_NONCE_BYTES)
        return base64.urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, location.encode(), None)).decode()

    def open(self, continuation: str | None) -> str | None:
        """The location in a continuation, if any; ContinuationInvalid if it was not sealed here, or was changed."""
        if not continuation:
            return None
        try:
            sealed = base64.b64decode(continuation[:_CHARACTERS_MAX].encode("ascii"), altchars=b"-_", validate=True)
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None).decode()
        except (binascii.Error, ValueError, InvalidTag):
            raise ContinuationInvalid from None

    @cached_property
    def _cipher(self) -> AESGCM:
        # The key is in Redis: the next page may be asked of another process, or after a restart.
        name = key(FLEET, "continuations")
        with answering():
            self._client.set(name, os.urandom(_KEY_BYTES), nx=True)
            stored = self._client.get(name)
        assert isinstance(stored, bytes)
        return AESGCM(stored)
