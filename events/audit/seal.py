"""A seal: how far every stream's chain had come at a time, signed by a key that is not in Redis."""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from typing_extensions import override

from events import canonical
from events.audit.errors import PublicKeyUnusable, SealUnreadable

ENTRY_BYTES = 8
"""Of each entry's digest a seal keeps so much: enough to say which entry is another, while the chain says that one is."""

FIRST = "0" * 64
"""What the first seal names as the digest of the one before it."""

_PURPOSE = b"twinfold seal\0"
_SIGNATURE_BYTES = 64
_KEY_ID_CHARACTERS = 16
_NUMBERS_MAX = 2**53
_CHAIN = re.compile(r"[0-9a-f]{64}")


class Reached(msgspec.Struct, frozen=True, array_like=True):
    """How far a stream is sealed: a position, and the chain's value after it in hexadecimal digits."""

    position: int
    chain: str


class Seal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one seal says.

    `number` is dense from 1, `previous` the digest of the seal before (FIRST for the first), `at` in milliseconds, `key` the id
    of the key that signed it. `streams` has every stream that has any entries; `entries`, for each stream that grew since the
    seal before, base64 of the first ENTRY_BYTES of the digest of each entry that came, in their order.
    """

    number: int
    previous: str
    epoch: str
    at: int
    key: str
    streams: dict[str, Reached]
    entries: dict[str, str]

    def digests(self) -> Iterator[tuple[str, int, bytes]]:
        """For each stream that grew: its name, the position before, and the shortened digests, one after the other."""
        for stream, text in self.entries.items():
            short = base64.b64decode(text, validate=True)
            yield stream, self.streams[stream].position - len(short) // ENTRY_BYTES, short


class Signed(msgspec.Struct, frozen=True):
    """A seal as it is kept: its canonical bytes, and the signature over them."""

    body: bytes
    signature: bytes

    @property
    def digest(self) -> str:
        """What the next seal names it by."""
        return hashlib.sha256(self.body).hexdigest()

    def seal(self) -> Seal:
        """What it says.

        Raises:
            SealUnreadable: these bytes are no seal.
        """
        try:
            found = msgspec.json.decode(self.body, type=Seal)
            if not (0 < found.number < _NUMBERS_MAX and 0 <= found.at < _NUMBERS_MAX):
                raise SealUnreadable("its number or its time is none")
            for stream, reached in found.streams.items():
                if not 0 <= reached.position < _NUMBERS_MAX or _CHAIN.fullmatch(reached.chain) is None:
                    raise SealUnreadable(f"it does not say how far {stream} had come")
            for stream, before, short in found.digests():
                if before < 0 or len(short) % ENTRY_BYTES:
                    raise SealUnreadable(f"the digests of {stream} do not go with its position")
        except (msgspec.DecodeError, ValueError, KeyError) as error:
            raise SealUnreadable(str(error)) from error
        return found

    def to_file(self) -> bytes:
        """The same as a file: the signature in hexadecimal digits, a line break, the body."""
        return self.signature.hex().encode() + b"\n" + self.body

    @classmethod
    def from_file(cls, data: bytes) -> "Signed":
        """Read such a file.

        Raises:
            SealUnreadable: it is none.
        """
        signature, _, body = data.partition(b"\n")
        try:
            return cls(body, bytes.fromhex(signature.decode("ascii")))
        except ValueError as error:
            raise SealUnreadable("its first line is no signature") from error


class PublicKey:
    """What a seal is verified with; it lets nobody seal."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.id = hashlib.sha256(b"twinfold seal key\0" + raw).hexdigest()[:_KEY_ID_CHARACTERS]

    @override
    def __repr__(self) -> str:
        return f"PublicKey(id={self.id!r})"

    def signed(self, signed: Signed) -> bool:
        """Whether this key's other half signed these very bytes."""
        if len(signed.signature) != _SIGNATURE_BYTES:
            return False
        try:
            self._key.verify(signed.signature, _PURPOSE + signed.body)
        except InvalidSignature:
            return False
        return True

    def to_pem(self) -> bytes:
        """The key as a PEM file has it (SubjectPublicKeyInfo)."""
        return self._key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    @classmethod
    def from_pem(cls, data: bytes, *, location: str) -> "PublicKey":
        """Read a PEM file; `location` names it in errors.

        Raises:
            PublicKeyUnusable: it holds no public key of Ed25519.
        """
        if b"PRIVATE" in data:
            raise PublicKeyUnusable(location, "holds a private key")
        try:
            key = serialization.load_pem_public_key(data)
        except ValueError as error:
            raise PublicKeyUnusable(location, "is no PEM file of a public key") from error
        if not isinstance(key, Ed25519PublicKey):
            raise PublicKeyUnusable(location, "holds a key of another kind than Ed25519")
        return cls(key)


class SealKey:
    """A key that seals. The key itself shows nowhere."""

    def __init__(self, seed: bytes) -> None:
        """Make a key of 32 bytes by chance."""
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = PublicKey(self._key.public_key())

    @override
    def __repr__(self) -> str:
        return f"SealKey(id={self.public.id!r})"

    def sign(self, seal: Seal) -> Signed:
        """Sign a seal."""
        body = canonical.encode(seal)
        return Signed(body, self._key.sign(_PURPOSE + body))


def shortened(digests: Mapping[str, bytes]) -> dict[str, str]:
    """Shortened digests as a seal has them."""
    return {stream: base64.b64encode(short).decode() for stream, short in digests.items()}
