"""The signature of a delivery: HMAC-SHA256 over its id, its time and its body (the Standard Webhooks convention)."""

import base64
import binascii
import hashlib
import hmac

PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)


def key_of(secret: str) -> bytes:
    """Returns the key in a secret, which is `whsec_` and base64 of 24 to 64 bytes; ValueError for another text."""
    # The errors quote only the prefix: the text may be a real secret with a typing error.
    if not secret.startswith(PREFIX):
        raise ValueError(PREFIX)
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError(PREFIX) from error
    if len(key) not in _KEY_BYTES:
        raise ValueError(PREFIX)
    return key


def secret_of(key: bytes) -> str:
    """Returns a key as a secret for the receiver."""
    return PREFIX + base64.b64encode(key).decode()


def headers(secret: str, *, message_id: str, at_seconds: int, body: bytes) -> dict[str, str]:
    """Returns the headers of a delivery; a repeated delivery has the same id, so that the receiver can ignore it."""
    signed = b".".join((message_id.encode(), str(at_seconds).encode(), body))
    digest = hmac.digest(key_of(secret), signed, hashlib.sha256)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at_seconds),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }
