"""A seal: the position and chain value of every stream at a time, signed by a key that is not in Redis."""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from events import canonical
from events.audit.errors import PublicKeyUnusable, SealUnreadable

ENTRY_BYTES = 8
"""How much of each entry's digest a seal holds: the chain proves that an entry changed, and these bytes find out which."""

FIRST = "0" * 64
"""The first seal has this as its `previous`."""

_PURPOSE = b"twinfold seal\0"
_SIGNATURE_BYTES = 64
_KEY_ID_CHARACTERS = 16
_NUMBERS_MAX = 2**53
_CHAIN = re.compile(r"[0-9a-f]{64}")


class Reached(msgspec.Struct, frozen=True, array_like=True):
    """The sealed end of a stream: a position, and the chain's value after it in hexadecimal digits."""

    position: int
    chain: str


class Seal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The signed content of a seal.

    `number` counts from 1 without gaps, `previous` the digest of the seal before (FIRST for the first), `at` in milliseconds, `key` the id
    of the key that signed it. `streams` has every stream with entries; `entries` has, for each stream that grew since the
    previous seal, base64 of the first ENTRY_BYTES of each new entry's digest, in their order.
    """

    number: int
    previous: str
    epoch: str
    at: int
    key: str
    streams: dict[str, Reached]
    entries: dict[str, str]

    def digests(self) -> Iterator[tuple[str, int, bytes]]:
        """Yields the name of each stream that grew, its position before, and the concatenated shortened digests."""
        for stream, text in self.entries.items():
            short = base64.b64decode(text, validate=True)
            yield stream, self.streams[stream].position - len(short) // ENTRY_BYTES, short


class Signed(msgspec.Struct, frozen=True):
    """A seal as it is stored: its canonical bytes, and the signature over them."""

    body: bytes
    signature: bytes

    @property
    def digest(self) -> str:
        """The digest that the next seal has as its `previous`."""
        return hashlib.sha256(self.body).hexdigest()

    def seal(self) -> Seal:
        """Returns the decoded body.

        Raises:
            SealUnreadable: the bytes are not a seal.
        """
        try:
            seal = msgspec.json.decode(self.body, type=Seal)
            if not (0 < seal.number < _NUMBERS_MAX and 0 <= seal.at < _NUMBERS_MAX):
                raise SealUnreadable("its number or its time is out of range")
            for stream, reached in seal.streams.items():
                if not 0 <= reached.position < _NUMBERS_MAX or _CHAIN.fullmatch(reached.chain) is None:
                    raise SealUnreadable(f"the position or the chain value of {stream} is invalid")
            for stream, before, short in seal.digests():
                if before < 0 or len(short) % ENTRY_BYTES:
                    raise SealUnreadable(f"the digests of {stream} do not fit its position")
        except (msgspec.DecodeError, ValueError, KeyError) as error:
            raise SealUnreadable(str(error)) from error
        return seal

    def to_file(self) -> bytes:
        """Returns the seal as a file: the signature in hexadecimal digits, a line break, the body."""
        return self.signature.hex().encode() + b"\n" + self.body

    @classmethod
    def from_file(cls, data: bytes) -> "Signed":
        """Returns the seal in a file.

        Raises:
            SealUnreadable: the file is not a seal.
        """
        signature, _, body = data.partition(b"\n")
        try:
            return cls(body, bytes.fromhex(signature.decode("ascii")))
        except ValueError as error:
            raise SealUnreadable("its first line is not a signature in hexadecimal digits") from error


class PublicKey:
    """A key that verifies seals and cannot create any."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.id = hashlib.sha256(b"twinfold seal key\0" + raw).hexdigest()[:_KEY_ID_CHARACTERS]

    def signed(self, signed: Signed) -> bool:
        """Returns whether this key's private half signed exactly these bytes."""
        if len(signed.signature) != _SIGNATURE_BYTES:
            return False
        try:
            self._key.verify(signed.signature, _PURPOSE + signed.body)
        except InvalidSignature:
            return False
        return True

    def to_pem(self) -> bytes:
        """Returns the key as a PEM file (SubjectPublicKeyInfo)."""
        return self._key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    @classmethod
    def from_pem(cls, data: bytes, *, location: str) -> "PublicKey":
        """Returns the key in a PEM file; `location` names the file in errors.

        Raises:
            PublicKeyUnusable: the file holds no public key of Ed25519.
        """
        # An auditor who was sent the private key could forge seals, so it is refused even though a public key follows from it.
        if b"PRIVATE" in data:
            raise PublicKeyUnusable(location, "holds a private key")
        try:
            key = serialization.load_pem_public_key(data)
        except ValueError as error:
            raise PublicKeyUnusable(location, "is not a PEM file with a public key") from error
        if not isinstance(key, Ed25519PublicKey):
            raise PublicKeyUnusable(location, "holds a key of another kind than Ed25519")
        return cls(key)


class SealKey:
    """A key that signs seals, derived from 32 random bytes. They appear in no representation."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = PublicKey(self._key.public_key())

    def sign(self, seal: Seal) -> Signed:
        """Returns a seal with its signature."""
        body = canonical.encode(seal)
        return Signed(body, self._key.sign(_PURPOSE + body))


def shortened(digests: Mapping[str, bytes]) -> dict[str, str]:
    """Returns shortened digests in the encoding of a seal."""
    return {stream: base64.b64encode(short).decode() for stream, short in digests.items()}
