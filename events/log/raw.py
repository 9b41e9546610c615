"""Reads streams of the log entry by entry, events and assignment changes alike, for who copies, seals or counts them."""

from collections.abc import Iterator

from events.log.archive.archive_index import ArchiveIndex
from events.log.connect import Client, answering, entries_of
from events.log.entries import (
    RawEntry,
    in_stream,
    key_of,
)
from events.log.errors import LogLostItsTail

BATCH_ENTRIES = 1000


class RawStreams:
    """Entries of any stream, whether they are in Redis or were archived."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.archive_index = ArchiveIndex(client)

    def head(self, stream: str) -> int:
        """The newest position of a stream; 0 where it is empty.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        with answering():
            # The newest entry stays in Redis, however much was archived.
            newest = entries_of(self.client.xrevrange(key_of(stream), count=1))
        return int(newest[0][0].partition(b"-")[0]) if newest else 0

    def read(self, stream: str, *, after: int, limit: int = BATCH_ENTRIES) -> list[RawEntry]:
        """Entries at positions after + 1 and on, at most `limit`.

        Raises:
            LogLostItsTail: a position is missing.
            LogUnavailable: Redis does not answer.
            ObjectStoreUnavailable, SegmentMissing, SegmentDamaged: the archive does not have what was archived.
        """
        found: list[RawEntry] = []
        while len(found) < limit:
            at = after + len(found)
            if at < self.archive_index.trimmed(stream):
                found += self.archive_index.entries(stream, after=at, limit=limit - len(found))
                continue
            some = in_stream(self.client, stream, after=at, limit=limit - len(found))
            if some and some[0].position != at + 1:
                if self.archive_index.refresh(stream) <= at:
                    raise LogLostItsTail(stream, expected=at + 1, found=some[0].position)
                continue
            return found + some
        return found

    def entries(self, stream: str, *, after: int = 0, upto: int | None = None) -> Iterator[RawEntry]:
        """Entries from position after + 1 to `upto`, or to the head when it is reached, in batches behind the scenes.

        Raises:
            LogLostItsTail, LogUnavailable, ObjectStoreUnavailable, SegmentMissing, SegmentDamaged: as `read`.
        """
        while upto is None or after < upto:
            limit = BATCH_ENTRIES if upto is None else min(BATCH_ENTRIES, upto - after)
            some = self.read(stream, after=after, limit=limit)
            if not some:
                return
            yield from some
            after = some[-1].position
