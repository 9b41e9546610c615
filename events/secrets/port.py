"""The interface of a store of sealed secrets, and the bytes that it stores."""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

import msgspec

from events import canonical
from events.secrets.errors import SecretErased, SecretNotFound, SecretTampered
from events.secrets.sealed_secret import Sealed


class Erased(msgspec.Struct, frozen=True, tag="Erased", forbid_unknown_fields=True):
    """The record of a secret whose data key was destroyed."""


class SecretStore(Protocol):
    """A store of sealed secrets. It never gets a secret in plain text, nor the key file."""

    def put_many(self, sealed: Mapping[str, Sealed]) -> None:
        """Store secrets under ids that are free or have the same bytes already.

        Raises:
            SecretExists: an id has other bytes, which are not changed; other secrets of the call may be stored.
            SecretsUnavailable: some, all or none may be stored.
        """
        ...

    def sealed(self, ids: Collection[str]) -> Mapping[str, Sealed]:
        """The sealed secrets of all these ids.

        Raises:
            SecretNotFound, SecretErased, SecretTampered: a secret cannot be read.
            SecretsUnavailable: the store did not answer.
        """
        ...

    def left(self, ids: Collection[str]) -> Mapping[str, Sealed | Erased]:
        """The sealed or erased secrets of these ids; an id that was never used is not in the answer.

        Raises:
            SecretTampered: a secret cannot be read.
            SecretsUnavailable: the store did not answer.
        """
        ...

    def destroy(self, secret_id: str) -> None:
        """Destroy a secret's data key and ciphertext permanently; repeating it changes nothing.

        Raises:
            SecretNotFound: the id was never used.
            SecretsUnavailable: it may or may not be destroyed.
        """
        ...

    def replace(self, secret_id: str, *, before: Sealed, sealed: Sealed) -> bool:
        """Replace the bytes of a secret if they are still those in `before`; false if they were replaced or destroyed.

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
    """The stored form in canonical bytes."""
    return canonical.encode(stored)


def decode(secret_id: str, data: bytes | None) -> Sealed:
    """The sealed secret in stored bytes; `None` are those of an unknown id.

    Raises:
        SecretNotFound, SecretErased, SecretTampered: there is no secret to open.
    """
    if data is None:
        raise SecretNotFound(secret_id)
    stored = decode_left(secret_id, data)
    if isinstance(stored, Erased):
        raise SecretErased(secret_id)
    return stored


def decode_left(secret_id: str, data: bytes) -> Sealed | Erased:
    """The sealed or erased secret in stored bytes.

    Raises:
        SecretTampered: it cannot be read.
    """
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        raise SecretTampered(secret_id) from None
