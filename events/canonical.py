"""The one byte form of JSON values: keys sorted, no white space, UTF-8; equal values have equal bytes."""

import hashlib
from typing import Any

import msgspec

Json = Any
JsonObject = dict[str, Any]

_encoder = msgspec.json.Encoder(order="deterministic")


def encode(value: Any) -> bytes:
    """Canonical bytes of a JSON value or a Struct made of them."""
    return _encoder.encode(value)


def digest(value: Any) -> str:
    """SHA-256 of the canonical bytes, as 64 hex digits."""
    return hashlib.sha256(encode(value)).hexdigest()
