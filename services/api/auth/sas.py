"""Shared access signatures, as every client spells them (contract/hub.md §4)."""

import base64
import binascii
import hashlib
import hmac
import re
from urllib.parse import unquote

import msgspec

SCHEME = "SharedAccessSignature"
CLOCK_SKEW_SECONDS = 60
"""So long after its expiry a signature is still good: clocks differ."""

_LENGTH_MAX = 4096
_SECONDS = re.compile(r"[0-9]{1,12}")


class SignatureMalformed(Exception):
    """It is no signature; the message quotes nothing of it."""


class Signature(msgspec.Struct, frozen=True):
    """A signature taken apart: what was signed as it stood, and what it means. `host` is in lower case, `path` is not."""

    signed: str
    digest: bytes
    expiry: int
    policy: str
    host: str
    path: str

    def is_of(self, key: str) -> bool:
        """Whether a key made it; takes as long for a wrong key as for the right one."""
        try:
            secret = base64.b64decode(key)
        except (binascii.Error, ValueError):
            return False
        text = f"{self.signed}\n{self.expiry}".encode()
        return hmac.compare_digest(hmac.digest(secret, text, hashlib.sha256), self.digest)

    def is_expired(self, now_seconds: float) -> bool:
        """Whether its time is over, the skew of clocks included."""
        return self.expiry + CLOCK_SKEW_SECONDS <= now_seconds

    def covers(self, host: str, path: str) -> bool:
        """Whether a request is within what was signed: the same host, with or without its port, and the path or one above.

        Upper and lower case are alike, as the identity service of IoT Edge signs all in lower case. A key says whose the
        request is, so that a device whose id differs in case alone gains nothing by it.
        """
        name, port = _name_and_port(self.host)
        asked_name, asked_port = _name_and_port(host.lower())
        # A client leaves out a port that goes without saying, in the one place or the other.
        if name != asked_name or (port and asked_port and port != asked_port):
            return False
        signed, requested = self.path.lower(), path.lower()
        return not signed or requested == signed or requested.startswith(f"{signed}/")

    def part_of(self, path: str) -> str:
        """As much of a covered path as was signed, in the case in which it was asked for."""
        return "/".join(path.split("/")[: self.path.count("/") + 1])


def read(header: str) -> Signature:
    """Take a header's value apart, whatever the order of its parts.

    Raises:
        SignatureMalformed: a part is missing, there twice, or not what it should be.
    """
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
    """`localhost:8443` in two; an address of IPv6 keeps its colons."""
    name, colon, port = host.rpartition(":")
    return (name, port) if colon and port.isascii() and port.isdecimal() else (host, "")
