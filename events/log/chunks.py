"""Splits a batch into chunks by stream, count and size; the same batch always gives the same chunks."""

from collections.abc import Iterator, Sequence

import msgspec

from events import canonical
from events.device.events import ConfigurationSet
from events.log.errors import EventTooLarge
from events.log.port import CHUNK_BYTES_MAX, CHUNK_EVENTS_MAX, DEVICE_EVENTS, Proposed, stream_of

_OVERHEAD_BYTES = 64
_OF_TWINS = DEVICE_EVENTS - {ConfigurationSet}
_TWIN_BYTES_FEW = CHUNK_BYTES_MAX // 8
_EVENTS_FEW = 4
"""Up to this number of events of twins, and this size of their documents, a command is not measured before its batch is sent."""


class Piece(msgspec.Struct, frozen=True):
    """A chunk before it is appended: events of one stream, their indices in the batch, their encoded data, and its bytes."""

    stream: int
    indices: tuple[int, ...]
    data: tuple[bytes, ...]
    size: int


def _encoded_together(batch: Sequence[Proposed], start: int) -> tuple[list[bytes], int]:
    """The data of an event and of those that follow it, and the size of all of them with their documents.

    Raises:
        EventTooLarge: that is over the limit of a chunk.
    """
    data, size, count = list[bytes](), 0, len(batch)
    for index in range(start, count):
        proposed = batch[index]
        if data and not proposed.follows:
            break
        encoded = canonical.encode(proposed.event)
        data.append(encoded)
        size += _OVERHEAD_BYTES + len(encoded)
        for _, document in proposed.snapshots:
            size += 0 if document is None else len(document)
    if size > CHUNK_BYTES_MAX:
        raise EventTooLarge(batch[start].subject, size, CHUNK_BYTES_MAX)
    return data, size


def check_size(events: Sequence[Proposed]) -> None:
    """Reject the events of a command, which are written together, if no chunk can hold them; before its batch is sent.

    Raises:
        EventTooLarge: they are over the limit with their snapshots.
    """
    # Manifests, the sets of a rollout and the deployments of a group reach 1 MiB; so does the twin of a device, whose empty
    # texts, objects and arrays count nothing against its limits (contract/hub.md §6). To encode every event of a small device
    # a second time would find nothing.
    if len(events) <= _EVENTS_FEW:
        size = 0
        for proposed in events:
            if type(proposed.event) not in _OF_TWINS:
                break
            for _, document in proposed.snapshots:
                size += 0 if document is None else len(document)
        else:
            if size <= _TWIN_BYTES_FEW:
                return
    _encoded_together(events, 0)


class _OpenPiece:
    """A piece that further events may come into, with its bytes."""

    __slots__ = ("data", "indices", "size")

    def __init__(self) -> None:
        self.indices, self.data, self.size = list[int](), list[bytes](), 0

    def closed(self, stream: int) -> Piece:
        return Piece(stream, tuple(self.indices), tuple(self.data), self.size)


def split(batch: Sequence[Proposed], *, partitions: int) -> Iterator[Piece]:
    """Split a batch; the order within a stream is kept, and an event that `follows` another is in the same chunk.

    Raises:
        EventTooLarge: an event, with its snapshots and the events that follow it, is over the limit of a chunk.
    """
    # A chunk's id is the batch's command id and the chunk's number. A batch that is sent again after a lost answer must fall
    # into the same chunks, or the log would take a chunk it has for a new one.
    open_pieces: dict[int, _OpenPiece] = {}
    start, count = 0, len(batch)
    while start < count:
        data, size = _encoded_together(batch, start)
        end = start + len(data)
        stream = stream_of(batch[start].subject, batch[start].event, partitions=partitions)
        piece = open_pieces.get(stream)
        if piece is None:
            piece = open_pieces[stream] = _OpenPiece()
        elif len(piece.data) + len(data) > CHUNK_EVENTS_MAX or piece.size + size > CHUNK_BYTES_MAX:
            yield piece.closed(stream)
            piece = open_pieces[stream] = _OpenPiece()
        piece.indices += range(start, end)
        piece.data += data
        piece.size += size
        start = end
    for stream, piece in open_pieces.items():
        yield piece.closed(stream)


def in_groups(pieces: Sequence[Piece]) -> Iterator[range]:
    """The numbers of consecutive pieces that together are no larger than a chunk may be, in events and in bytes."""
    # For transactions. A server that syncs its append-only file after each event loop (`appendfsync always`) reads 16 KiB of a
    # client in a loop, so that a batch of 512 commands costs it 13 syncs; as a transaction it costs one for each group. And a
    # group keeps other clients waiting no longer than a chunk may.
    start, events, size = 0, 0, 0
    for number, piece in enumerate(pieces):
        events, size = events + len(piece.data), size + piece.size
        if number > start and (events > CHUNK_EVENTS_MAX or size > CHUNK_BYTES_MAX):
            yield range(start, number)
            start, events, size = number, len(piece.data), piece.size
    if pieces:
        yield range(start, len(pieces))
