"""Sealed secrets in memory, for tests: the same behaviour without a server."""

from collections.abc import Collection, Iterable, Mapping

from events.secrets.errors import SecretExists, SecretNotFound
from events.secrets.port import Erased, decode, decode_left, encode
from events.secrets.sealed_secret import Sealed


class MemorySecretStore:
    """The sealed secrets of one process."""

    def __init__(self) -> None:
        self._stored: dict[str, bytes] = {}

    def put_many(self, sealed: Mapping[str, Sealed]) -> None:
        """Keep secrets under ids that are free."""
        for secret_id, secret in sealed.items():
            if self._stored.setdefault(secret_id, encode(secret)) != encode(secret):
                raise SecretExists(secret_id)

    def sealed(self, ids: Collection[str]) -> Mapping[str, Sealed]:
        """The sealed secrets of these ids."""
        return {secret_id: decode(secret_id, self._stored.get(secret_id)) for secret_id in ids}

    def left(self, ids: Collection[str]) -> Mapping[str, Sealed | Erased]:
        """What is left of these ids."""
        stored = ((secret_id, self._stored[secret_id]) for secret_id in ids if secret_id in self._stored)
        return {secret_id: decode_left(secret_id, value) for secret_id, value in stored}

    def destroy(self, secret_id: str) -> None:
        """Destroy a secret for good."""
        if secret_id not in self._stored:
            raise SecretNotFound(secret_id)
        self._stored[secret_id] = encode(Erased())

    def replace(self, secret_id: str, *, before: Sealed, sealed: Sealed) -> bool:
        """Put new bytes in place of those known."""
        if self._stored.get(secret_id) != encode(before):
            return False
        self._stored[secret_id] = encode(sealed)
        return True

    def ids(self) -> Iterable[str]:
        """The ids of all secrets that are not erased."""
        return [secret_id for secret_id, data in self._stored.items() if data != encode(Erased())]
