"""Reads the streams of events and of assignment changes entry by entry, undecoded, for backup, sealing and search."""

from collections.abc import Iterator

from events.log.archive.archive_index import ArchiveIndex
from events.log.codec import position_of
from events.log.connect import Client, answering, entries_of
from events.log.entries import RawEntry, in_stream, key_of
from events.log.errors import LogLostItsTail

BATCH_ENTRIES = 1000


class RawStreams:
    """The entries of every stream, from Redis and from the archive."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.archive_index = ArchiveIndex(client)

    def head(self, stream: str) -> int:
        """The newest position of a stream; 0 for an empty stream.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        with answering():
            # trim.lua never removes the newest entry, so Redis knows the head without the archive.
            newest = entries_of(self.client.xrevrange(key_of(stream), count=1))
        return position_of(newest[0][0]) if newest else 0

    def read(self, stream: str, *, after: int, limit: int = BATCH_ENTRIES) -> list[RawEntry]:
        """At most `limit` entries from position after + 1 on.

        Raises:
            LogLostItsTail: a position is missing.
            LogUnavailable: Redis does not answer.
            ObjectStoreUnavailable, SegmentMissing, SegmentDamaged: an archived entry cannot be read.
        """
        entries: list[RawEntry] = []
        while len(entries) < limit:
            at = after + len(entries)
            if at < self.archive_index.trimmed(stream):
                entries += self.archive_index.entries(stream, after=at, limit=limit - len(entries))
                continue
            in_redis = in_stream(self.client, stream, after=at, limit=limit - len(entries))
            if in_redis and in_redis[0].position != at + 1:
                # Either entries were trimmed since this process last read the notes, or they are lost.
                if self.archive_index.refresh(stream) <= at:
                    raise LogLostItsTail(stream, expected=at + 1, actual=in_redis[0].position)
                continue
            return entries + in_redis
        return entries

    def entries(self, stream: str, *, after: int = 0, upto: int | None = None) -> Iterator[RawEntry]:
        """Entries from position after + 1 to `upto` (default: the head when it is reached), read in batches.

        Raises:
            LogLostItsTail, LogUnavailable, ObjectStoreUnavailable, SegmentMissing, SegmentDamaged: as `read`.
        """
        while upto is None or after < upto:
            limit = BATCH_ENTRIES if upto is None else min(BATCH_ENTRIES, upto - after)
            batch = self.read(stream, after=after, limit=limit)
            if not batch:
                return
            yield from batch
            after = batch[-1].position
