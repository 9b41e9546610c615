"""A reader's position in every stream: as numbers, by name, and as the opaque id of an event."""

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping

from events.log.keys import FLEET, name

Positions = tuple[int, ...]
"""In this order: the fleet's log, each partition's log, each partition's assignment changes."""

_EPOCH_BYTES = 4
_CHARACTERS_MAX = 32_768
_POSITION_MAX = 2**53
_LOW, _MORE = 0x7F, 0x80


class PositionsInvalid(Exception):
    """The id of an event is not from this log."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the id to continue after {why}; start without an id, or with from=start")
        self.why = why


def names_of(partitions: int) -> tuple[str, ...]:
    """Returns the names of the streams, in the order of positions: `fleet`, `p00` and so on, `p00/assignments` and so on."""
    logs = tuple(name(number) for number in range(partitions))
    return (name(FLEET), *logs, *(f"{log}/assignments" for log in logs))


def by_name(positions: Positions, partitions: int) -> dict[str, int]:
    """Returns positions by the names of their streams."""
    return dict(zip(names_of(partitions), positions, strict=True))


def of_names(positions: Mapping[str, int], partitions: int) -> Positions:
    """Returns positions by name as numbers; a missing stream is at its beginning."""
    return tuple(positions.get(stream, 0) for stream in names_of(partitions))


def moved(positions: Positions, stream: int, position: int) -> Positions:
    """Returns positions with a new position of one stream."""
    return (*positions[:stream], position, *positions[stream + 1 :])


def lag(positions: Positions, heads: Positions) -> int:
    """Returns how many events and assignment changes are between positions and heads."""
    return sum(max(0, head - position) for position, head in zip(positions, heads, strict=True))


def encode(positions: Positions, *, epoch: str) -> str:
    """Returns the id of an event: text that fits into a header."""
    # An id has two positions for each partition and must fit into a header, so numbers below 128 take one byte.
    data = bytearray(_of_epoch(epoch))
    for position in positions:
        remainder = position
        while remainder > _LOW:
            data.append(remainder & _LOW | _MORE)
            remainder >>= 7
        data.append(remainder)
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str, *, epoch: str, heads: Positions) -> Positions:
    """Returns the positions in an id; raises PositionsInvalid for no id, another log's, or one ahead of the heads."""
    try:
        data = base64.b64decode(text[:_CHARACTERS_MAX].encode("ascii") + b"==", altchars=b"-_", validate=False)
    except (binascii.Error, ValueError):
        raise PositionsInvalid("cannot be read") from None
    if data[:_EPOCH_BYTES] != _of_epoch(epoch):
        raise PositionsInvalid("is of another log")
    positions = tuple(_numbers(data[_EPOCH_BYTES:]))
    if len(positions) != len(heads) or encode(positions, epoch=epoch) != text:
        raise PositionsInvalid("cannot be read")
    if any(position > head for position, head in zip(positions, heads, strict=True)):
        raise PositionsInvalid("is ahead of the log, which may have lost its tail")
    return positions


def _of_epoch(epoch: str) -> bytes:
    return hashlib.sha256(epoch.encode()).digest()[:_EPOCH_BYTES]


def _numbers(data: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in data:
        number |= (byte & _LOW) << shift
        shift += 7
        if not byte & _MORE:
            yield number
            number = shift = 0
        # No log reaches this position; the missing positions then refuse the id.
        elif number > _POSITION_MAX:
            return
