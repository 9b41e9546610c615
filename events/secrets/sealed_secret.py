"""Seals secrets: each under its own data key, which the key of the key file wraps."""

import os

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from events.secrets.errors import KeyFileWrong, SecretTampered
from events.secrets.keyfile import KEY_BYTES, KeyFile

_NONCE_BYTES = 12


class Sealed(msgspec.Struct, frozen=True, tag="Sealed", forbid_unknown_fields=True):
    """A sealed secret as it is stored. Each part is a nonce and an AES-256-GCM ciphertext; `key_id` names the key file."""

    # Both parts are bound to the secret's id: an attacker who can write to Redis cannot exchange two secrets, to read one with
    # the permissions for the other (tests/secrets/test_vault.py).

    wrapped_key: bytes
    ciphertext: bytes
    key_id: str


class Erased(msgspec.Struct, frozen=True, tag="Erased", forbid_unknown_fields=True):
    """The record of a secret whose data key was destroyed."""


_decoder: msgspec.json.Decoder[Sealed | Erased] = msgspec.json.Decoder(Sealed | Erased)


def decode(secret_id: str, data: bytes) -> Sealed | Erased:
    """The sealed or erased secret in stored bytes (canonical JSON); raises SecretTampered if they cannot be read."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        raise SecretTampered(secret_id) from None


def seal(plaintext: str, secret_id: str, key: KeyFile) -> Sealed:
    """Seal a secret under a new data key."""
    data_key = os.urandom(KEY_BYTES)
    ciphertext = _encrypt(AESGCM(data_key), plaintext.encode(), _text_of(secret_id))
    return Sealed(_encrypt(key.cipher, data_key, _key_of(secret_id, key.id)), ciphertext, key.id)


def unseal(sealed: Sealed, secret_id: str, key: KeyFile) -> str:
    """The secret in plain text; KeyFileWrong for another key file, SecretTampered for bytes not of this id."""
    if sealed.key_id != key.id:
        raise KeyFileWrong(secret_id, required=sealed.key_id, actual=key.id)
    data_key = _decrypt(key.cipher, sealed.wrapped_key, _key_of(secret_id, key.id), secret_id)
    return _decrypt(AESGCM(data_key), sealed.ciphertext, _text_of(secret_id), secret_id).decode()


def _encrypt(cipher: AESGCM, data: bytes, bound_to: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, data, bound_to)


def _decrypt(cipher: AESGCM, data: bytes, bound_to: bytes, secret_id: str) -> bytes:
    try:
        return cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], bound_to)
    # ValueError: the data is too short to have a nonce.
    except (InvalidTag, ValueError):
        raise SecretTampered(secret_id) from None


def _text_of(secret_id: str) -> bytes:
    return b"twinfold secret\0" + secret_id.encode()


def _key_of(secret_id: str, key_id: str) -> bytes:
    return b"twinfold data key\0" + key_id.encode() + b"\0" + secret_id.encode()
