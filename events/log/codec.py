"""Between an envelope and the fields of a stream entry."""

from collections.abc import Mapping

import msgspec

from events import canonical
from events.envelope import Envelope, Principal
from events.log.errors import UnreadableFact
from events.log.port import Fact

FIELDS = ("type", "subject", "version", "at", "by", "cause", "data")
"""Always all of them and in this order: Redis keeps entries of one shape compactly (contract/redis-rq.md)."""

_decoder = msgspec.json.Decoder(Fact)
_principals: dict[bytes, Principal] = {}
_PRINCIPALS_MAX = 10_000


def encode_fact(fact: Fact) -> bytes:
    """Canonical bytes of a fact; its type is the tag `type` in it."""
    return canonical.encode(fact)


def type_of(fact: Fact) -> str:
    """The name of a fact's type, as in `TwinPatched`."""
    return type(fact).__name__


def decode_entry(stream: str, position: int, fields: Mapping[bytes, bytes]) -> Envelope[Fact]:
    """Read an entry.

    Raises:
        UnreadableFact: a field is missing or does not decode.
    """
    try:
        by = fields[b"by"]
        principal = _principals.get(by)
        if principal is None:
            principal = _remember(by)
        return Envelope(
            position,
            fields[b"subject"].decode(),
            int(fields[b"version"]),
            int(fields[b"at"]),
            principal,
            fields[b"cause"].decode(),
            _decoder.decode(fields[b"data"]),
        )
    except KeyError as error:
        raise UnreadableFact(stream, position, f"field {error} is missing") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UnreadableFact(stream, position, str(error)) from error


def _remember(by: bytes) -> Principal:
    if len(_principals) >= _PRINCIPALS_MAX:
        _principals.clear()
    principal = _principals[by] = Principal.parse(by.decode())
    return principal


def position_of(entry_id: bytes) -> int:
    """`17-0` -> 17."""
    return int(entry_id[: entry_id.index(b"-")])
