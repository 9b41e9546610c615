"""The backup of a running system."""

import contextlib
import hashlib
import importlib.metadata
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import msgspec

from events.backup.blocks import BYTES_MAX, ENTRIES_MAX, Record, pack, pack_records, size_of
from events.backup.errors import ArchiveDamaged, BackupError
from events.backup.location import BackupLocation
from events.backup.manifest import FORMAT, HERE, BackupManifest, Block, File, Stream
from events.device.times import time_text
from events.log.archive.manifest import Segment
from events.log.archive.notes import Notes, holds_key, location_of, notes_of
from events.log.codec import position_of
from events.log.connect import Client, answering, entries_of
from events.log.entries import RawEntry, digest, genesis, key_of, link, stream_names
from events.log.errors import LogLostItsTail
from events.log.failpoints import FailPoint, reached
from events.log.keys import FLEET, key
from events.log.object_store import ObjectStore
from events.log.raw import BATCH_ENTRIES, RawStreams
from events.log.redis import RedisLog
from events.secrets.redis import KEY as SECRETS
from events.secrets.sealed_secret import Erased, Sealed

HASHES = (SECRETS, key(FLEET, "webhooks:progress"), key(FLEET, "webhooks:counts"))
"""Keys beside the log that cannot be derived from it: sealed secrets, and the progress of webhooks."""

_SERIES = "{fleet}:series:*"
_FETCHES = "{p*}:fetches:*"
_STREAM = re.compile(r"\{(fleet|p\d+)\}:([a-z-]+)")
_MEMBERS = 1000
_sealed = msgspec.json.Decoder(Sealed | Erased)


class BackupProgress(msgspec.Struct, frozen=True):
    """The progress of a backup or a restore: `done` of `total` entries or files of `what`."""

    what: str
    done: int
    total: int


ReportProgress = Callable[[BackupProgress], None]


class BackupContents(msgspec.Struct, frozen=True):
    """The contents of a backup besides Redis: files of the data directory by name, with private files apart.

    `keys` is the location of private files: the backup's location or another one. `None` leaves them out.
    """

    local: Mapping[str, bytes] = {}
    private: Mapping[str, bytes] = {}
    keys: BackupLocation | None = None


def take(
    log: RedisLog, location: BackupLocation, contents: BackupContents, *, at: int, tell: ReportProgress = lambda _: None
) -> BackupManifest:
    """Back up a running system; returns the manifest, after storing it at the location.

    Raises:
        ArchiveDamaged: a segment of the archive is missing or changed.
        ObjectStoreUnavailable, BackupUnwritten, FileDeleted: the location did not store all files; there is no backup of this id.
        LogUnavailable: Redis did not answer.
    """
    backup_id = f"{_stamp(at)}-{log.epoch[:8]}"
    with location.under_way(backup_id, at=at):
        manifest = _take(log, location, contents, backup_id=backup_id, at=at, tell=tell)
        location.finish(manifest)
        location.check_files(manifest)
    return manifest


def _take(
    log: RedisLog, location: BackupLocation, contents: BackupContents, *, backup_id: str, at: int, tell: ReportProgress
) -> BackupManifest:
    # Before the heads: otherwise a webhook's progress could be ahead of the copied entries, and it would miss events.
    holders = [holds_key(name) for name in stream_names(log.partitions)]
    progress = [_hash(log.client, name) for name in (*HASHES[1:], *holders)]
    heads = _heads(log)
    previous = _previous(location, log)
    previous_streams = {} if previous is None else {stream.name: stream for stream in previous.streams}
    copies = [_Copy(log, location, name, head, previous_streams.get(name)) for name, head in heads.items()]
    total = sum(copied.left for copied in copies)
    streams, done = [], 0
    for copied in copies:
        for block_entries in copied.run():
            done += block_entries
            tell(BackupProgress(copied.name, done, total))
        streams.append(copied.stream)
    # After the entries: a secret is stored before the event that refers to it, so every reference in the copy resolves.
    sealed = _hash(log.client, SECRETS)
    beside = _beside(location, [record for record in (sealed, *progress) if record.members], log.client)
    streams = [_with_segments(log.client, stream) for stream in streams]
    archive = _archive(log, location, streams, {} if previous is None else previous.archive, tell)
    where = "" if contents.keys is None else HERE if contents.keys is location else contents.keys.url
    return BackupManifest(
        id=backup_id,
        format=FORMAT,
        made_by=importlib.metadata.version("twinfold"),
        epoch=log.epoch,
        partitions=log.partitions,
        at=at,
        streams=tuple(streams),
        beside=beside,
        archive=archive,
        local={name: location.put(data) for name, data in contents.local.items()},
        private={}
        if contents.keys is None
        else {name: contents.keys.put(data) for name, data in contents.private.items()},
        private_at=where,
        key_ids=_key_ids(sealed),
    )


def _stamp(at: int) -> str:
    # The order of the ids is the order of the backups.
    return time_text(at).replace("-", "").replace(":", "").replace(".", "")


# -- streams


def _heads(log: RedisLog) -> dict[str, int]:
    """The head of every copied stream, in the order of reading."""
    names = stream_names(log.partitions)
    # Each stream is read before the streams that it refers to (decisions/0031), so that every position named by a copied entry
    # is copied too: seals name positions of all streams, assignment changes name events, and partitions name the fleet's.
    more = sorted(_other_streams(log.client, set(names)))
    assignment_changes = [name for name in names if name.endswith(":assignments")]
    events = [name for name in names if ":" not in name and name != "fleet"]
    order = [*more, *assignment_changes, *events, "fleet"]
    return {name: _head(log.client, redis_key(name)) for name in order}


def _other_streams(client: Client, log_streams: set[str]) -> Iterator[str]:
    with answering():
        for stream_key in client.scan_iter(match="{*}:*", count=1000, _type="STREAM"):
            match = _STREAM.fullmatch(stream_key.decode())
            if match is None:
                continue
            name = match[1] if match[2] == "log" else f"{match[1]}:{match[2]}"
            if name not in log_streams:
                yield name


def redis_key(stream: str) -> str:
    """Returns the Redis key of a stream: `p03` -> `{p03}:log`, `fleet:seals` -> `{fleet}:seals`."""
    slot, colon, what = stream.partition(":")
    return f"{{{slot}}}:{what}" if colon else key_of(stream)


def _head(client: Client, stream_key: str) -> int:
    with answering():
        newest = entries_of(client.xrevrange(stream_key, count=1))
    reached(FailPoint.BACKUP_HEAD_READ)
    return position_of(newest[0][0]) if newest else 0


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
        self._blocks = self._reused_blocks(previous)
        self._gaps = list[tuple[int, int]]()
        if self._blocks and previous is not None:
            self._after, self._start = self._blocks[-1].last, previous.chain
            self._gaps = [gap for gap in previous.gaps if gap[1] <= self._after]
            self._chain = bytes.fromhex(self._blocks[-1].chain)
        else:
            self._after, self._chain = self._archived(log.epoch)
            self._start = self._chain.hex()

    def _reused_blocks(self, previous: Stream | None) -> list[Block]:
        """The full blocks of the previous backup that belong to this history."""
        # A log restored from an older backup has another history since then. The chain covers all earlier entries, so comparing
        # the last entry of a block is enough.
        blocks = _full_blocks(previous, self._location, self._head)
        trimmed = notes_of(self._client, self.name).trimmed if self._is_of_log else 0
        while blocks and blocks[-1].last > trimmed:
            if self._ends(blocks[-1]):
                return blocks
            blocks.pop()
        return []

    def _ends(self, block: Block) -> bool:
        at = f"{block.last}-0"
        with answering():
            entries = entries_of(self._client.xrange(redis_key(self.name), min=at, max=at))
        # If the log has lost the entry since, there is nothing to compare, and the block still has the entry.
        return all(digest(self.name, RawEntry(block.last, dict(fields))).hex() == block.end for _, fields in entries)

    def _archived(self, epoch: str) -> tuple[int, bytes]:
        """The last archived position that is not copied (a segment's end), and the chain's value there."""
        notes = notes_of(self._client, self.name) if self._is_of_log else Notes()
        last = _last_skipped(notes, self._head)
        return (0, genesis(epoch, self.name)) if last is None else (last.last, bytes.fromhex(last.after))

    @property
    def left(self) -> int:
        """How many entries are left to copy."""
        return self._head - self._after

    @property
    def stream(self) -> Stream:
        """The copied stream for the manifest."""
        blocks, gaps = tuple(self._blocks), tuple(self._gaps)
        return Stream(self.name, redis_key(self.name), self._head, self._start, blocks, gaps)

    def run(self) -> Iterator[int]:
        """Copy the entries up to the head; yields the number of entries of each block."""
        entries: list[RawEntry] = []
        size = 0
        for entry in self._entries():
            entries.append(entry)
            size += size_of(entry)
            if len(entries) == ENTRIES_MAX or size >= BYTES_MAX:
                yield self._put(entries, full=True)
                entries, size = [], 0
        if entries:
            yield self._put(entries, full=False)

    def _put(self, entries: list[RawEntry], *, full: bool) -> int:
        for entry in entries:
            self._chain = link(self._chain, digest(self.name, entry))
        file = self._location.put(pack(entries))
        end = digest(self.name, entries[-1]).hex()
        self._blocks.append(Block(entries[0].position, entries[-1].position, self._chain.hex(), file, full, end))
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
        with answering():
            stored = entries_of(
                self._client.xrange(
                    redis_key(self.name), min=f"{self._after + 1}-0", max=f"{self._head}-0", count=limit
                )
            )
        entries: list[RawEntry] = []
        for entry_id, fields in stored:
            position = position_of(entry_id)
            if entries and position != entries[-1].position + 1:
                break
            entries.append(RawEntry(position, dict(fields)))
        return entries


def _full_blocks(previous: Stream | None, location: BackupLocation, head: int) -> list[Block]:
    blocks: list[Block] = []
    for block in previous.blocks if previous else ():
        if not block.full or block.last > head or not location.has(block.file):
            break
        blocks.append(block)
    return blocks


# -- beside the log


def _hash(client: Client, name: str) -> Record:
    with answering():
        pairs = tuple((field, value) for field, value in client.hscan_iter(name, count=_MEMBERS))
        # A scan can return a field twice while the hash is resized; `dict` removes the repetition.
        expires_ms = client.pttl(name)
    return Record("hash", name, tuple(sorted(dict(pairs).items())), expires_ms)


def _fetches(client: Client) -> Iterator[Record]:
    """The counts of secret fetches of devices, a hash for each day."""
    with answering():
        names = sorted(client.scan_iter(match=_FETCHES, count=1000, _type="HASH"))
    for name in names:
        yield _hash(client, name.decode())


def _series(client: Client) -> Iterator[Record]:
    with answering():
        names = sorted(client.scan_iter(match=_SERIES, count=1000, _type="STREAM"))
        for name in names:
            entries = entries_of(client.xrange(cast("Any", name)))
            flat = tuple(
                (entry_id, *(part for pair in fields.items() for part in pair)) for entry_id, fields in entries
            )
            yield Record("stream", name.decode(), flat, client.pttl(name))


def _beside(location: BackupLocation, hashes: list[Record], client: Client) -> tuple[File, ...]:
    files, records, size = [], list[Record](), 0
    for record in (
        *(part for record_to_split in (*hashes, *_fetches(client)) for part in _parts(record_to_split)),
        *_series(client),
    ):
        records.append(record)
        size += sum(len(part) for member in record.members for part in member)
        if size >= BYTES_MAX:
            files.append(location.put(pack_records(records)))
            records, size = [], 0
    if records:
        files.append(location.put(pack_records(records)))
    return tuple(files)


def _parts(record: Record) -> Iterator[Record]:
    for start in range(0, len(record.members), _MEMBERS):
        yield Record(record.kind, record.key, record.members[start : start + _MEMBERS], record.expires_ms)


def _key_ids(sealed: Record) -> dict[str, int]:
    counts: dict[str, int] = {}
    for _, data in sealed.members:
        stored = _sealed.decode(data)
        if isinstance(stored, Sealed):
            counts[stored.key_id] = counts.get(stored.key_id, 0) + 1
    return counts


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
    log: RedisLog,
    location: BackupLocation,
    streams: list[Stream],
    previous_files: Mapping[str, File],
    tell: ReportProgress,
) -> dict[str, File]:
    """The files of all segments."""
    segments = [segment for stream in streams for segment in stream.segments]
    url = location_of(log.client)
    if not segments or url is None:
        return {}
    object_store, files = ObjectStore(url), dict[str, File]()
    for number, segment in enumerate(segments, 1):
        copied = previous_files.get(segment.name)
        # A segment never changes: one of the previous backup is not read again.
        if copied is not None and copied.sha256 == segment.sha256 and location.has(copied):
            files[segment.name] = copied
        else:
            data = object_store.get(segment.name)
            if data is None or hashlib.sha256(data).hexdigest() != segment.sha256:
                raise ArchiveDamaged(segment.name)
            files[segment.name] = location.put(data)
        tell(BackupProgress("archive", number, len(segments)))
    return files
