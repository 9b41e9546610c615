"""How far somebody was told: a position in every stream, as numbers, by name, and as the opaque id of an event."""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator, Mapping

from events.log.keys import FLEET, name

Positions = tuple[int, ...]
"""The fleet's log, each partition's log, each partition's assignment changes."""

_EPOCH_BYTES = 4
_CHARACTERS_MAX = 32_768
_POSITION_MAX = 2**53
_LOW, _MORE = 0x7F, 0x80


class PositionsInvalid(Exception):
    """An id of an event that this log did not give out."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the id to go on after {why}; begin without one, or with from=start")
        self.why = why


def names_of(partitions: int) -> tuple[str, ...]:
    """What the streams are called, in the order of positions: `fleet`, then `p00` and on, then `p00/assignments` and on."""
    logs = tuple(name(number) for number in range(partitions))
    return (name(FLEET), *logs, *(f"{one}/assignments" for one in logs))


def named(positions: Positions, partitions: int) -> dict[str, int]:
    """Positions by the names of their streams."""
    return dict(zip(names_of(partitions), positions, strict=True))


def of_names(by_name: Mapping[str, int], partitions: int) -> Positions:
    """Positions by name as numbers; a stream that is not named is at its beginning."""
    return tuple(by_name.get(one, 0) for one in names_of(partitions))


def moved(positions: Positions, stream: int, position: int) -> Positions:
    """Positions after one more entry of a stream."""
    return (*positions[:stream], position, *positions[stream + 1 :])


def lag(positions: Positions, heads: Positions) -> int:
    """How many events and assignment changes are between."""
    return sum(max(0, head - position) for position, head in zip(positions, heads, strict=True))


def encode(positions: Positions, *, epoch: str) -> str:
    """The id of an event: text that fits into a header. Numbers below 128 take a byte each before base64."""
    data = _of_epoch(epoch) + bytes(_varints(positions))
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str, *, epoch: str, heads: Positions) -> Positions:
    """What an id stands for.

    Raises:
        PositionsInvalid: it is no such id, or one of another log, or ahead of the heads.
    """
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


def _varints(numbers: Iterable[int]) -> Iterator[int]:
    for number in numbers:
        rest = number
        while rest > _LOW:
            yield rest & _LOW | _MORE
            rest >>= 7
        yield rest


def _numbers(data: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in data:
        number |= (byte & _LOW) << shift
        shift += 7
        if not byte & _MORE:
            yield number
            number = shift = 0
        elif number > _POSITION_MAX:
            return
