"""Encodes events, and decodes the fields of a stream entry into an envelope."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from events import canonical
from events.canonical import JsonObject
from events.envelope import Envelope, Principal
from events.log.errors import UnreadableEvent
from events.log.port import Event

# Redis stores field names once for consecutive entries of the same fields; alternating shapes cost 28 bytes an entry
# (contract/redis-rq.md).
FIELDS = ("type", "subject", "version", "at", "by", "cause", "data")
"""The fields of every event, always all of them and in this order."""

RECORDED = b"recorded"
"""The last field of an assignment change: when it was written, in milliseconds. Entries of older versions have none."""

Upcaster = Callable[[JsonObject], JsonObject]
"""Converts the data of an event from the shape that an older version wrote to the current shape."""

UPCASTERS: Mapping[bytes, Upcaster] = {}
"""Upcasters by the stored type. Events are never edited: a new shape gets a new tag, and the old tag an entry here."""

_decoder = msgspec.json.Decoder(Event)
_NAMES = [field.encode() for field in FIELDS]
_principals: dict[bytes, Principal] = {}
_PRINCIPALS_MAX = 10_000


def type_of(event: Event) -> str:
    """The name of an event's type, as in `TwinPatched`."""
    return type(event).__name__


def decode_entry(
    stream: str, position: int, fields: Mapping[bytes, bytes], *, upcasters: Mapping[bytes, Upcaster] = UPCASTERS
) -> Envelope[Event]:
    """The event of an entry, with its envelope, whichever version wrote it.

    Raises:
        UnreadableEvent: a field is missing or does not decode.
    """
    try:
        principal = _principal_of(fields[b"by"])
        data = fields[b"data"]
        if upcasters and (upcast := upcasters.get(fields[b"type"])) is not None:
            data = canonical.encode(upcast(msgspec.json.decode(data)))
        return Envelope(
            position,
            fields[b"subject"].decode(),
            int(fields[b"version"]),
            int(fields[b"at"]),
            principal,
            fields[b"cause"].decode(),
            _decoder.decode(data),
        )
    except KeyError as error:
        raise UnreadableEvent(stream, position, f"field {error} is missing") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UnreadableEvent(stream, position, str(error)) from error


def decode_entries(stream: str, first: int, entries: Sequence[list[bytes]]) -> list[Envelope[Event]]:
    """The events of entries at the positions from `first` on, each given by its names and values in turn.

    Raises:
        UnreadableEvent: as `decode_entry`, for the first entry that it is true of.
    """
    envelopes: list[Envelope[Event]] = []
    add, decode, position = envelopes.append, _decoder.decode, first
    try:
        for words in entries:
            names, values = words[::2], words[1::2]
            if names == _NAMES and not UPCASTERS:
                _, subject, version, at, by, cause, data = values
                author = _principals.get(by) or _principal_of(by)
                add(Envelope(position, subject.decode(), int(version), int(at), author, cause.decode(), decode(data)))
            else:
                add(decode_entry(stream, position, dict(zip(names, values, strict=True))))
            position += 1
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UnreadableEvent(stream, position, str(error)) from error
    return envelopes


def _principal_of(by: bytes) -> Principal:
    # A log has few authors and millions of entries: parsing each author once saves the parsing of every `by`.
    principal = _principals.get(by)
    if principal is None:
        # Devices are authors too: without a limit, a process would keep one principal for each device of the fleet.
        if len(_principals) >= _PRINCIPALS_MAX:
            _principals.clear()
        principal = _principals[by] = Principal.parse(by.decode())
    return principal
