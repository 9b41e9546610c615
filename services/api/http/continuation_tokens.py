"""Continuations as they leave the house: sealed, so that they tell nobody how many devices there are besides their own."""

import base64
import binascii
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from events.log.connect import Client, answering
from events.log.keys import FLEET, key
from events.projection_store.query_engine import ContinuationInvalid

_KEY_BYTES, _NONCE_BYTES = 32, 12
_CHARACTERS_MAX = 32_768


class Continuations:
    """Seals places of pages, and opens them again. The key is in Redis, one for all processes, and outlives them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: AESGCM | None = None

    def seal(self, location: str) -> str:
        """A continuation for a place.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        nonce = os.urandom(_NONCE_BYTES)
        return base64.urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, location.encode(), None)).decode()

    def open(self, continuation: str | None) -> str | None:
        """The place that a continuation was sealed for; `None` where there is none.

        Raises:
            ContinuationInvalid: it was not sealed here, or is not as it was.
            LogUnavailable: as `seal`.
        """
        if not continuation:
            return None
        try:
            sealed = base64.b64decode(continuation[:_CHARACTERS_MAX].encode("ascii"), altchars=b"-_", validate=True)
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None).decode()
        except (binascii.Error, ValueError, InvalidTag):
            raise ContinuationInvalid from None

    @property
    def _cipher(self) -> AESGCM:
        if self._known is None:
            name = key(FLEET, "continuations")
            with answering():
                self._client.set(name, os.urandom(_KEY_BYTES), nx=True)
                stored = self._client.get(name)
            assert isinstance(stored, bytes)
            self._known = AESGCM(stored)
        return self._known
