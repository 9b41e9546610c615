"""What is asked of whoever keeps the sealed secrets."""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

import msgspec

from events import canonical
from events.secrets.errors import SecretErased, SecretNotFound, SecretTampered
from events.secrets.sealed_secret import Sealed


class Erased(msgspec.Struct, frozen=True, tag="Erased", forbid_unknown_fields=True):
    """What is left of a secret whose data key was destroyed: the knowledge that it was there."""


class SecretStore(Protocol):
    """One keeper of sealed secrets. It never sees a secret, nor the key file."""

    def put_many(self, sealed: Mapping[str, Sealed]) -> None:
        """Keep secrets under ids that are free, or hold the very same bytes already.

        Raises:
            SecretExists: an id is taken; what is there stays, and others of the call may be kept.
            SecretsUnavailable: some, all or none may be kept.
        """
        ...

    def sealed(self, ids: Collection[str]) -> Mapping[str, Sealed]:
        """The sealed secrets of these ids, every one of them.

        Raises:
            SecretNotFound, SecretErased, SecretTampered: one of them cannot be had.
            SecretsUnavailable: the store did not answer.
        """
        ...

    def left(self, ids: Collection[str]) -> Mapping[str, Sealed | Erased]:
        """What is left of these ids: the sealed secret, or that it was erased; those that never were are not among them.

        Raises:
            SecretTampered: one of them cannot be read.
            SecretsUnavailable: the store did not answer.
        """
        ...

    def destroy(self, secret_id: str) -> None:
        """Destroy a secret's data key and ciphertext for good; repeating it changes nothing.

        Raises:
            SecretNotFound: there never was one.
            SecretsUnavailable: it may or may not be destroyed.
        """
        ...

    def replace(self, secret_id: str, *, former: Sealed, sealed: Sealed) -> bool:
        """Put new bytes in place of those known, or answer false: another has replaced or destroyed them.

        Raises:
            SecretsUnavailable: they may or may not be replaced.
        """
        ...

    def ids(self) -> Iterable[str]:
        """The ids of all secrets that are not erased.

        Raises:
            SecretsUnavailable: the store did not answer.
        """
        ...


_decoder: msgspec.json.Decoder[Sealed | Erased] = msgspec.json.Decoder(Sealed | Erased)


def encode(stored: Sealed | Erased) -> bytes:
    """Canonical bytes, as they are stored."""
    return canonical.encode(stored)


def decode(secret_id: str, data: bytes | None) -> Sealed:
    """Read what `encode` wrote; `None` is what a store has for an unknown id.

    Raises:
        SecretNotFound, SecretErased, SecretTampered: there is nothing to open.
    """
    if data is None:
        raise SecretNotFound(secret_id)
    stored = decode_left(secret_id, data)
    if isinstance(stored, Erased):
        raise SecretErased(secret_id)
    return stored


def decode_left(secret_id: str, data: bytes) -> Sealed | Erased:
    """Read what `encode` wrote, be it erased.

    Raises:
        SecretTampered: it cannot be read.
    """
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        raise SecretTampered(secret_id) from None
