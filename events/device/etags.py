"""Etags of twins: the base64 of an 8-byte big-endian counter (contract/hub.md §1.6)."""

import base64

WILDCARD = "*"


def twin_etag(counter: int) -> str:
    """Returns the etag of a counter: `1` -> `AAAAAAAAAAE=`."""
    return base64.b64encode(counter.to_bytes(8, "big")).decode()


def matches(if_match: str | None, counter: int) -> bool:
    """Returns whether an If-Match condition holds: `None`, the wildcard, or the etag, with or without quotes (contract/hub.md §1.9)."""
    if if_match is None:
        return True
    plain = if_match[1:-1] if if_match.startswith('"') and if_match.endswith('"') else if_match
    return plain in {WILDCARD, twin_etag(counter)}
