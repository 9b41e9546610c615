"""Shared access signatures (contract/hub.md §4)."""

import base64
import binascii
import hashlib
import hmac
import re
from urllib.parse import unquote

import msgspec

SCHEME = "SharedAccessSignature"
CLOCK_SKEW_SECONDS = 60
"""How long after its expiry a signature is still accepted, as clocks differ."""

_LENGTH_MAX = 4096
_SECONDS = re.compile(r"[0-9]{1,12}")


class SignatureMalformed(Exception):
    """A header is no signature. The message quotes nothing of it."""


class Signature(msgspec.Struct, frozen=True):
    """The parts of a signature. `signed` is the signed text as it was sent; `host` is in lower case, `path` is not."""

    signed: str
    digest: bytes
    expiry: int
    policy: str
    host: str
    path: str

    def is_of(self, key: str) -> bool:
        """Whether a key made the signature; takes the same time for a wrong key as for the right one."""
        try:
            secret = base64.b64decode(key)
        except (binascii.Error, ValueError):
            return False
        text = f"{self.signed}\n{self.expiry}".encode()
        return hmac.compare_digest(hmac.digest(secret, text, hashlib.sha256), self.digest)

    def is_expired(self, now_seconds: float) -> bool:
        """Whether the signature has expired, clock skew included."""
        return self.expiry + CLOCK_SKEW_SECONDS <= now_seconds

    def covers(self, host: str, path: str) -> bool:
        """Whether the signature is for this host, with or without its port, and for this path or one above it; in any case."""
        name, port = _name_and_port(self.host)
        requested_name, requested_port = _name_and_port(host.lower())
        # Clients omit the default port in the signature, in the header Host, or in neither.
        if name != requested_name or (port and requested_port and port != requested_port):
            return False
        # The identity service of IoT Edge signs all in lower case. A device whose id differs only in case gains nothing: the key
        # decides on whose request it is.
        signed, requested = self.path.lower(), path.lower()
        return not signed or requested == signed or requested.startswith(f"{signed}/")

    def part_of(self, path: str) -> str:
        """The signed part of a covered path, in the case of the request."""
        return "/".join(path.split("/")[: self.path.count("/") + 1])


def read(header: str) -> Signature:
    """Read the header Authorization, parts in any order; SignatureMalformed if one is missing, repeated or invalid."""
    scheme, _, fields = header.partition(" ")
    if scheme.lower() != SCHEME.lower() or len(header) > _LENGTH_MAX:
        raise SignatureMalformed("the scheme is not SharedAccessSignature, or it is too long")
    parts: dict[str, str] = {}
    for part in fields.strip().split("&"):
        name, equals, value = part.partition("=")
        if not equals or name in parts:
            raise SignatureMalformed("a part has no value, or is there twice")
        parts[name] = value
    if not {"sr", "sig", "se"} <= parts.keys() or not _SECONDS.fullmatch(parts["se"]):
        raise SignatureMalformed("sr, sig and se are needed, and se in seconds")
    try:
        digest = base64.b64decode(unquote(parts["sig"]), validate=True)
    except (binascii.Error, ValueError):
        raise SignatureMalformed("sig is not base64") from None
    host, slash, path = unquote(parts["sr"]).partition("/")
    return Signature(
        signed=parts["sr"],
        digest=digest,
        expiry=int(parts["se"]),
        policy=unquote(parts.get("skn", "")),
        host=host.lower(),
        path=(slash + path).rstrip("/"),
    )


def _name_and_port(host: str) -> tuple[str, str]:
    """The name and port in `localhost:8443`; an IPv6 address keeps its colons."""
    name, colon, port = host.rpartition(":")
    return (name, port) if colon and port.isascii() and port.isdecimal() else (host, "")
