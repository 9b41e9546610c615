"""How a batch falls into chunks: by stream, then by count and size; always the same for the same batch."""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from events.device.events import DeviceEvent
from events.log.codec import encode_event
from events.log.errors import EventTooLarge
from events.log.port import CHUNK_BYTES_MAX, CHUNK_EVENTS_MAX, Event, Proposed

_OVERHEAD_BYTES = 64


class Piece(msgspec.Struct, frozen=True):
    """One chunk to be: the events of one stream, with their places in the batch and their encoded data."""

    stream: int
    indices: tuple[int, ...]
    data: tuple[bytes, ...]


def _size(proposed: Proposed, data: bytes) -> int:
    size = _OVERHEAD_BYTES + len(data) + sum(len(document or b"") for _, document in proposed.snapshots)
    if size > CHUNK_BYTES_MAX:
        raise EventTooLarge(proposed.subject, size, CHUNK_BYTES_MAX)
    return size


def check_size(proposed: Proposed) -> None:
    """Refuse an event that no chunk could hold, before its batch is sent.

    Raises:
        EventTooLarge: it is over the limit with its snapshots.
    """
    # Only contents, the sets of a rollout and a group's deployments can be so big; twins have limits of their own far below.
    if not isinstance(proposed.event, DeviceEvent):
        _size(proposed, encode_event(proposed.event))


def _together(batch: Sequence[Proposed]) -> Iterator[list[int]]:
    some: list[int] = []
    for index, proposed in enumerate(batch):
        if some and not proposed.follows:
            yield some
            some = []
        some.append(index)
    if some:
        yield some


def split(batch: Sequence[Proposed], *, stream_of: Callable[[str, Event], int]) -> Iterator[Piece]:
    """Split a batch; order within a stream is kept, and what follows another event stays with it.

    Raises:
        EventTooLarge: one event alone, or with those that follow it, is over the limit of a chunk with its snapshots.
    """
    open_pieces: dict[int, tuple[list[int], list[bytes], int]] = {}
    for some in _together(batch):
        data = [encode_event(batch[index].event) for index in some]
        size = sum(_size(batch[index], one) for index, one in zip(some, data, strict=True))
        first = batch[some[0]]
        if size > CHUNK_BYTES_MAX:
            raise EventTooLarge(first.subject, size, CHUNK_BYTES_MAX)
        stream = stream_of(first.subject, first.event)
        indices, encoded, total = open_pieces.get(stream, ([], [], 0))
        if len(indices) + len(some) > CHUNK_EVENTS_MAX or total + size > CHUNK_BYTES_MAX:
            yield Piece(stream, tuple(indices), tuple(encoded))
            indices, encoded, total = [], [], 0
        indices += some
        encoded += data
        open_pieces[stream] = (indices, encoded, total + size)
    for stream, (indices, encoded, _) in open_pieces.items():
        yield Piece(stream, tuple(indices), tuple(encoded))
