"""The backup of a running system."""

import contextlib
import hashlib
import importlib.metadata
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import msgspec

from events.backup.errors import ArchiveDamaged, BackupError
from events.backup.location import BackupLocation
from events.backup.manifest import (
    BYTES_MAX,
    ENTRIES_MAX,
    FORMAT,
    HERE,
    BackupManifest,
    Block,
    File,
    Record,
    Stream,
    pack,
    pack_records,
)
from events.device.times import time_text
from events.log.archive.manifest import Segment
from events.log.archive.notes import Notes, holds_key, location_of, notes_of
from events.log.connect import Client, answering, entries_of, newest_position, position_of
from events.log.entries import RawEntry, digest, genesis, key_of, link, stream_names
from events.log.errors import LogLostItsTail
from events.log.failpoints import FailPoint, reached
from events.log.keys import FLEET, key
from events.log.object_store import ObjectStore
from events.log.raw import BATCH_ENTRIES, RawStreams
from events.log.redis import RedisLog
from events.redis_cluster import hash_fields, keys_like
from events.secrets.redis import KEY as SECRETS
from events.secrets.sealed_secret import Erased, Sealed

# Keys beside the log that cannot be derived from it: sealed secrets, the progress of webhooks, samples of counts, and the counts
# of secret fetches of devices, a hash for each day.
_PROGRESS = (key(FLEET, "webhooks:progress"), key(FLEET, "webhooks:counts"))
_SERIES = "{fleet}:series:*"
_FETCHES = "{p*}:fetches:*"
_STREAM = re.compile(r"\{(fleet|p\d+)\}:([a-z-]+)")
_MEMBERS = 1000
_sealed = msgspec.json.Decoder(Sealed | Erased)

ReportProgress = Callable[[str, int, int], None]
"""Called with what a backup or a restore copies, and how many of how many entries or files are done."""

_NO_FILES: Mapping[str, bytes] = {}


def take(
    log: RedisLog,
    location: BackupLocation,
    *,
    local: Mapping[str, bytes] = _NO_FILES,
    private: Mapping[str, bytes] = _NO_FILES,
    keys: BackupLocation | None = None,
    at: int,
    tell: ReportProgress = lambda _what, _done, _total: None,
) -> BackupManifest:
    """Back up a running system; returns the manifest, after storing it at the location.

    `local` and `private` are files of the data directory by name. `keys` is the location of private files: the backup's
    location or another one; `None` leaves them out.

    Raises:
        ArchiveDamaged: a segment of the archive is missing or changed.
        ObjectStoreUnavailable, BackupUnwritten, FileDeleted: the location did not store all files; there is no backup of this id.
        LogUnavailable: Redis did not answer.
    """
    # The order of the ids is the order of the backups.
    backup_id = f"{re.sub('[-:.]', '', time_text(at))}-{log.epoch[:8]}"
    with location.under_way(backup_id, at=at):
        manifest = msgspec.structs.replace(
            _copied(log, location, tell, backup_id=backup_id, at=at),
            local={name: location.put(data) for name, data in local.items()},
            private={} if keys is None else {name: keys.put(data) for name, data in private.items()},
            private_at="" if keys is None else HERE if keys is location else keys.url,
        )
        location.finish(manifest)
        location.check_files(manifest)
    return manifest


def _copied(
    log: RedisLog, location: BackupLocation, tell: ReportProgress, *, backup_id: str, at: int
) -> BackupManifest:
    """Copy what is in Redis and in the archive."""
    # Before the heads: otherwise a webhook's progress could be ahead of the copied entries, and it would miss events.
    holders = [holds_key(name) for name in stream_names(log.partitions)]
    progress = [_hash(log.client, name) for name in (*_PROGRESS, *holders)]
    heads = _heads(log)
    previous = _previous(location, log)
    previous_streams = {} if previous is None else {stream.name: stream for stream in previous.streams}
    copies = [_Copy(log, location, name, head, previous_streams.get(name)) for name, head in heads.items()]
    total = sum(copied.left for copied in copies)
    streams, done = [], 0
    for copied in copies:
        for block_entries in copied.run():
            done += block_entries
            tell(copied.name, done, total)
        streams.append(copied.stream)
    # After the entries: a secret is stored before the event that refers to it, so every reference in the copy resolves.
    sealed = _hash(log.client, SECRETS)
    beside = _beside(location, [record for record in (sealed, *progress) if record.members], log.client)
    streams = [_with_segments(log.client, stream) for stream in streams]
    decoded = (_sealed.decode(data) for _, data in sealed.members)
    return BackupManifest(
        id=backup_id,
        format=FORMAT,
        made_by=importlib.metadata.version("twinfold"),
        epoch=log.epoch,
        partitions=log.partitions,
        at=at,
        streams=tuple(streams),
        beside=beside,
        archive=_archive(log, location, streams, {} if previous is None else previous.archive, tell),
        key_ids=dict(Counter(secret.key_id for secret in decoded if isinstance(secret, Sealed))),
    )


# -- streams


def _heads(log: RedisLog) -> dict[str, int]:
    """The head of every copied stream, in the order of reading."""
    names = stream_names(log.partitions)
    # Each stream is read before the streams that it refers to (decisions/0031), so that every position named by a copied entry
    # is copied too: seals name positions of all streams, assignment changes name events, and partitions name the fleet's.
    with answering():
        keys = [stream_key.decode() for stream_key in keys_like(log.client, "{*}:*", type_="STREAM")]
    matches = filter(None, map(_STREAM.fullmatch, keys))
    more = sorted({match[1] if match[2] == "log" else f"{match[1]}:{match[2]}" for match in matches}.difference(names))
    assignment_changes = [name for name in names if name.endswith(":assignments")]
    events = [name for name in names if ":" not in name and name != "fleet"]
    heads = {}
    for name in (*more, *assignment_changes, *events, "fleet"):
        heads[name] = newest_position(log.client, _redis_key(name))
        reached(FailPoint.BACKUP_HEAD_READ)
    return heads


def _redis_key(stream: str) -> str:
    """`p03` -> `{p03}:log`, `fleet:seals` -> `{fleet}:seals`."""
    slot, colon, what = stream.partition(":")
    return f"{{{slot}}}:{what}" if colon else key_of(stream)


def _previous(location: BackupLocation, log: RedisLog) -> BackupManifest | None:
    """The newest backup of the same log at the location."""
    for backup_id in reversed(location.ids()):
        with contextlib.suppress(BackupError):
            manifest = location.manifest(backup_id)
            if manifest.epoch == log.epoch:
                return manifest
    return None


class _Copy:
    """The copy of one stream, block by block, after the full blocks of the previous backup."""

    def __init__(self, log: RedisLog, location: BackupLocation, name: str, head: int, previous: Stream | None) -> None:
        self.name = name
        self._client, self._streams, self._location, self._head = log.client, RawStreams(log.client), location, head
        self._is_of_log = name in stream_names(log.partitions)
        notes = notes_of(log.client, name) if self._is_of_log else Notes()
        self._blocks = self._reused_blocks(previous, notes.trimmed)
        self._gaps = list[tuple[int, int]]()
        if self._blocks and previous is not None:
            self._after, self._start = self._blocks[-1].last, previous.chain
            self._gaps = [gap for gap in previous.gaps if gap[1] <= self._after]
            self._chain = bytes.fromhex(self._blocks[-1].chain)
        else:
            # The last archived position that is not copied (a segment's end), and the chain's value there.
            last = _last_skipped(notes, head)
            self._after = 0 if last is None else last.last
            self._chain = genesis(log.epoch, name) if last is None else bytes.fromhex(last.after)
            self._start = self._chain.hex()

    def _reused_blocks(self, previous: Stream | None, trimmed: int) -> list[Block]:
        """The full blocks of the previous backup that belong to this history."""
        # A log restored from an older backup has another history since then. The chain covers all earlier entries, so comparing
        # the last entry of a block is enough.
        blocks = list(
            itertools.takewhile(
                lambda block: block.full and block.last <= self._head and self._location.has(block.file),
                previous.blocks if previous else (),
            )
        )
        while blocks and blocks[-1].last > trimmed:
            # If the log has lost the entry since, there is nothing to compare, and the block still has the entry.
            newest = self._stored(blocks[-1].last, blocks[-1].last, limit=1)
            if all(digest(self.name, entry).hex() == blocks[-1].end for entry in newest):
                return blocks
            blocks.pop()
        return []

    def _stored(self, first: int, last: int, limit: int) -> list[RawEntry]:
        with answering():
            entries = entries_of(
                self._client.xrange(_redis_key(self.name), min=f"{first}-0", max=f"{last}-0", count=limit)
            )
        return [RawEntry(position_of(entry_id), fields) for entry_id, fields in entries]

    @property
    def left(self) -> int:
        """How many entries are left to copy."""
        return self._head - self._after

    @property
    def stream(self) -> Stream:
        """The copied stream for the manifest."""
        blocks, gaps = tuple(self._blocks), tuple(self._gaps)
        return Stream(self.name, _redis_key(self.name), self._head, self._start, blocks, gaps)

    def run(self) -> Iterator[int]:
        """Copy the entries up to the head; yields the number of entries of each block."""
        entries: list[RawEntry] = []
        size = 0
        for entry in self._entries():
            entries.append(entry)
            size += sum(len(name) + len(value) for name, value in entry.fields.items())
            if len(entries) == ENTRIES_MAX or size >= BYTES_MAX:
                yield self._put(entries, full=True)
                entries, size = [], 0
        if entries:
            yield self._put(entries, full=False)

    def _put(self, entries: list[RawEntry], *, full: bool) -> int:
        end = b""
        for entry in entries:
            end = digest(self.name, entry)
            self._chain = link(self._chain, end)
        file = self._location.put(pack(entries))
        self._blocks.append(Block(entries[0].position, entries[-1].position, self._chain.hex(), file, full, end.hex()))
        return len(entries)

    def _entries(self) -> Iterator[RawEntry]:
        while self._after < self._head:
            entries = self._read(min(BATCH_ENTRIES, self._head - self._after))
            if not entries:
                self._gaps.append((self._after + 1, self._head))
                return
            if entries[0].position != self._after + 1:
                self._gaps.append((self._after + 1, entries[0].position - 1))
            yield from entries
            self._after = entries[-1].position

    def _read(self, limit: int) -> list[RawEntry]:
        """The next entries, without a gap between them; lost entries before them are skipped."""
        if self._is_of_log:
            with contextlib.suppress(LogLostItsTail):
                return self._streams.read(self.name, after=self._after, limit=limit)
        stored = self._stored(self._after + 1, self._head, limit)
        return [entry for number, entry in enumerate(stored) if entry.position == stored[0].position + number]


# -- beside the log


def _hash(client: Client, name: str) -> Record:
    with answering():
        # A scan can return a field twice while the hash is resized; `dict` removes the repetition.
        members = dict(hash_fields(client, name))
        return Record("hash", name, tuple(sorted(members.items())), client.pttl(name))


def _records(client: Client, hashes: list[Record]) -> Iterator[Record]:
    with answering():
        fetches = keys_like(client, _FETCHES, type_="HASH")
        for record in itertools.chain(hashes, (_hash(client, name.decode()) for name in fetches)):
            for start in range(0, len(record.members), _MEMBERS):
                part = record.members[start : start + _MEMBERS]
                yield Record(record.kind, record.key, part, record.expires_ms)
        for name in keys_like(client, _SERIES, type_="STREAM"):
            entries = entries_of(client.xrange(cast("Any", name)))
            flat = tuple((entry_id, *itertools.chain(*fields.items())) for entry_id, fields in entries)
            yield Record("stream", name.decode(), flat, client.pttl(name))


def _beside(location: BackupLocation, hashes: list[Record], client: Client) -> tuple[File, ...]:
    files, records, size = [], list[Record](), 0
    for record in _records(client, hashes):
        records.append(record)
        size += sum(len(part) for member in record.members for part in member)
        if size >= BYTES_MAX:
            files.append(location.put(pack_records(records)))
            records, size = [], 0
    if records:
        files.append(location.put(pack_records(records)))
    return tuple(files)


# -- the archive


def _with_segments(client: Client, stream: Stream) -> Stream:
    """The stream with its archived segments up to the copied head."""
    # Read after the entries: an entry that left Redis in between is in one of these segments.
    if ":" in stream.name and not stream.name.endswith(":assignments"):
        return stream
    notes = notes_of(client, stream.name)
    segments = tuple(segment for segment in notes.segments if segment.last <= stream.head)
    last = _last_skipped(notes, stream.head)
    return msgspec.structs.replace(stream, segments=segments, trimmed=0 if last is None else last.last)


def _last_skipped(notes: Notes, head: int) -> Segment | None:
    """The last segment whose entries a restore leaves in the archive."""
    # The newest entry must be in Redis, because the stream ends there, and with it all of its segment. A stream can be archived
    # beyond the copied head while the backup runs, hence the comparison with the head.
    within = (segment for segment in notes.segments if segment.last <= notes.trimmed and segment.last < head)
    return max(within, key=lambda segment: segment.last, default=None)


def _archive(
    log: RedisLog, location: BackupLocation, streams: list[Stream], copied: Mapping[str, File], tell: ReportProgress
) -> dict[str, File]:
    """The files of all segments."""
    segments = [segment for stream in streams for segment in stream.segments]
    url = location_of(log.client)
    if not segments or url is None:
        return {}
    object_store, files = ObjectStore(url), dict[str, File]()
    for number, segment in enumerate(segments, 1):
        file = copied.get(segment.name)
        # A segment never changes: one of the previous backup is not read again.
        if file is not None and file.sha256 == segment.sha256 and location.has(file):
            files[segment.name] = file
        else:
            data = object_store.get(segment.name)
            if data is None or hashlib.sha256(data).hexdigest() != segment.sha256:
                raise ArchiveDamaged(segment.name)
            files[segment.name] = location.put(data)
        tell("archive", number, len(segments))
    return files
