"""Canonical JSON: sorted keys, no white space, UTF-8; equal values have equal bytes (docs/decisions/0007)."""

import hashlib
from typing import Any

import msgspec

Json = Any
JsonObject = dict[str, Any]

# Not RFC 8785, whose numbers are those of ECMAScript: 1 and 1.0 would be the same, and a client's integer over 2^53 inexact.
_encoder = msgspec.json.Encoder(order="deterministic")


def encode(value: Any) -> bytes:
    """Canonical bytes of a JSON value, or of a struct of JSON values."""
    return _encoder.encode(value)


def digest(value: Any) -> str:
    """SHA-256 of the canonical bytes, as 64 hex digits."""
    return hashlib.sha256(encode(value)).hexdigest()
