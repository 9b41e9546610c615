"""Taking a backup of a system while it runs."""

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
from events.log.connect import Client, answering, entries_of
from events.log.entries import RawEntry, digest, genesis, key_of, link, stream_names
from events.log.errors import LogLostItsTail
from events.log.failpoints import FailPoint, reached
from events.log.keys import FLEET, key
from events.log.object_store import ObjectStore
from events.log.raw import BATCH_ENTRIES, RawStreams
from events.log.redis import RedisLog
from events.secrets.port import Erased
from events.secrets.redis import KEY as SECRETS
from events.secrets.sealed_secret import Sealed

HASHES = (SECRETS, key(FLEET, "webhooks:progress"), key(FLEET, "webhooks:counts"))
"""What lies beside the log and follows from nothing: sealed secrets, and how far webhooks were told."""

_SERIES = "{fleet}:series:*"
_FETCHES = "{p*}:fetches:*"
_STREAM = re.compile(r"\{(fleet|p\d+)\}:([a-z-]+)")
_MEMBERS = 1000
_sealed = msgspec.json.Decoder(Sealed | Erased)


class BackupProgress(msgspec.Struct, frozen=True):
    """How far a backup, or a restore, has come: `done` of `total` entries or files; what it is at."""

    what: str
    done: int
    total: int


ReportProgress = Callable[[BackupProgress], None]


class BackupContents(msgspec.Struct, frozen=True):
    """What a backup is to hold besides Redis: files of the data directory by name, private ones apart.

    `keys` says where private ones go: `None` leaves them out, a `BackupLocation` is one of their own or the backup's itself.
    """

    local: Mapping[str, bytes] = {}
    private: Mapping[str, bytes] = {}
    keys: BackupLocation | None = None


def take(
    log: RedisLog, location: BackupLocation, wanted: BackupContents, *, at: int, tell: ReportProgress = lambda _: None
) -> BackupManifest:
    """Back up a system that runs; answers the list, which is in the place by then.

    Heads are read assignment changes first, then partitions, then the fleet, each after what points at it (decisions/0031): every
    position that a copied entry names is copied, too. Secrets are read last, as each is kept before the event that refers to it.

    Raises:
        ArchiveDamaged: a segment of the archive is missing, or is not what was archived.
        ObjectStoreUnavailable, BackupUnwritten, FileWentAway: the place does not take or keep it; there is no backup of that id.
        LogUnavailable: Redis did not answer.
    """
    backup_id = f"{_stamp(at)}-{log.epoch[:8]}"
    with location.under_way(backup_id, at=at):
        manifest = _take(log, location, wanted, backup_id=backup_id, at=at, tell=tell)
        location.finish(manifest)
        location.insist_on(manifest)
    return manifest


def _take(
    log: RedisLog, location: BackupLocation, wanted: BackupContents, *, backup_id: str, at: int, tell: ReportProgress
) -> BackupManifest:
    # Before the heads, so that nobody counts as told of what is not in the backup.
    holders = [holds_key(name) for name in stream_names(log.partitions)]
    told = [_hash(log.client, name) for name in (*HASHES[1:], *holders)]
    heads = _heads(log)
    former = _former(location, log)
    known = {} if former is None else {stream.name: stream for stream in former.streams}
    copies = [_Copy(log, location, name, head, known.get(name)) for name, head in heads.items()]
    total = sum(copied.left for copied in copies)
    streams, done = [], 0
    for copied in copies:
        for block_entries in copied.run():
            done += block_entries
            tell(BackupProgress(copied.name, done, total))
        streams.append(copied.stream)
    sealed = _hash(log.client, SECRETS)
    beside = _beside(location, [one for one in (sealed, *told) if one.members], log.client)
    streams = [_with_segments(log.client, stream) for stream in streams]
    archive = _archive(log, location, streams, {} if former is None else former.archive, tell)
    where = "" if wanted.keys is None else HERE if wanted.keys is location else wanted.keys.url
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
        local={name: location.put(data) for name, data in wanted.local.items()},
        private={} if wanted.keys is None else {name: wanted.keys.put(data) for name, data in wanted.private.items()},
        private_at=where,
        key_ids=_key_ids(sealed),
    )


def _stamp(at: int) -> str:
    # Ids in order are backups in order.
    return time_text(at).replace("-", "").replace(":", "").replace(".", "")


# -- streams


def _heads(log: RedisLog) -> dict[str, int]:
    """The head of every stream that is copied, in the order in which they are read."""
    known = stream_names(log.partitions)
    # What others keep about the log (seals) names positions in all of it.
    more = sorted(_others(log.client, set(known)))
    assignment_changes = [name for name in known if name.endswith(":assignments")]
    events = [name for name in known if ":" not in name and name != "fleet"]
    order = [*more, *assignment_changes, *events, "fleet"]
    return {name: _head(log.client, redis_key(name)) for name in order}


def _others(client: Client, known: set[str]) -> Iterator[str]:
    with answering():
        for one in client.scan_iter(match="{*}:*", count=1000, _type="STREAM"):
            found = _STREAM.fullmatch(one.decode())
            if found is None:
                continue
            name = found[1] if found[2] == "log" else f"{found[1]}:{found[2]}"
            if name not in known:
                yield name


def redis_key(stream: str) -> str:
    """`p03` -> `{p03}:log`, and `fleet:seals` -> `{fleet}:seals`, whoever keeps that."""
    slot, colon, what = stream.partition(":")
    return f"{{{slot}}}:{what}" if colon else key_of(stream)


def _head(client: Client, stream_key: str) -> int:
    with answering():
        newest = entries_of(client.xrevrange(stream_key, count=1))
    reached(FailPoint.BACKUP_HEAD_READ)
    return int(newest[0][0].partition(b"-")[0]) if newest else 0


def _former(location: BackupLocation, log: RedisLog) -> BackupManifest | None:
    """The newest backup of the same log at a place."""
    for backup_id in reversed(location.ids()):
        with contextlib.suppress(BackupError):
            manifest = location.manifest(backup_id)
            if manifest.epoch == log.epoch:
                return manifest
    return None


class _Copy:
    """One stream on its way into a place, block by block, after the full ones that are there."""

    def __init__(self, log: RedisLog, location: BackupLocation, name: str, head: int, former: Stream | None) -> None:
        self.name = name
        self._client, self._streams, self._location, self._head = log.client, RawStreams(log.client), location, head
        self._is_known = name in stream_names(log.partitions)
        self._blocks = self._taken_over(former)
        self._gaps = list[tuple[int, int]]()
        if self._blocks and former is not None:
            self._after, self._start = self._blocks[-1].last, former.chain
            self._gaps = [gap for gap in former.gaps if gap[1] <= self._after]
            self._chain = bytes.fromhex(self._blocks[-1].chain)
        else:
            self._after, self._chain = self._archived(log.epoch)
            self._start = self._chain.hex()

    def _taken_over(self, former: Stream | None) -> list[Block]:
        """The full blocks of the last backup that are of this history: a log that was restored from an older one has another.

        Histories that parted do not meet again, so that one entry tells of all before it.
        """
        found = _full_blocks(former, self._location, self._head)
        trimmed = notes_of(self._client, self.name).trimmed if self._is_known else 0
        while found and found[-1].last > trimmed:
            if self._ends(found[-1]):
                return found
            found.pop()
        return []

    def _ends(self, block: Block) -> bool:
        at = f"{block.last}-0"
        with answering():
            entries = entries_of(self._client.xrange(redis_key(self.name), min=at, max=at))
        # One that was lost since leaves nothing to compare, and the block still has it.
        return all(digest(self.name, RawEntry(block.last, dict(fields))).hex() == block.end for _, fields in entries)

    def _archived(self, epoch: str) -> tuple[int, bytes]:
        """Where the entries begin that are in Redis alone, at a segment's end, and the chain's value there."""
        notes = notes_of(self._client, self.name) if self._is_known else Notes()
        last = _last_skipped(notes, self._head)
        return (0, genesis(epoch, self.name)) if last is None else (last.last, bytes.fromhex(last.after))

    @property
    def left(self) -> int:
        """How many entries there are to copy."""
        return self._head - self._after

    @property
    def stream(self) -> Stream:
        """What is copied of it."""
        blocks, gaps = tuple(self._blocks), tuple(self._gaps)
        return Stream(self.name, redis_key(self.name), self._head, self._start, blocks, gaps)

    def run(self) -> Iterator[int]:
        """Copy on to the head; yields how many entries each block has."""
        some: list[RawEntry] = []
        size = 0
        for entry in self._entries():
            some.append(entry)
            size += size_of(entry)
            if len(some) == ENTRIES_MAX or size >= BYTES_MAX:
                yield self._put(some, full=True)
                some, size = [], 0
        if some:
            yield self._put(some, full=False)

    def _put(self, some: list[RawEntry], *, full: bool) -> int:
        for entry in some:
            self._chain = link(self._chain, digest(self.name, entry))
        file = self._location.put(pack(some))
        end = digest(self.name, some[-1]).hex()
        self._blocks.append(Block(some[0].position, some[-1].position, self._chain.hex(), file, full, end))
        return len(some)

    def _entries(self) -> Iterator[RawEntry]:
        while self._after < self._head:
            some = self._read(min(BATCH_ENTRIES, self._head - self._after))
            if not some:
                self._gaps.append((self._after + 1, self._head))
                return
            if some[0].position != self._after + 1:
                self._gaps.append((self._after + 1, some[0].position - 1))
            yield from some
            self._after = some[-1].position

    def _read(self, limit: int) -> list[RawEntry]:
        """The next entries without a gap among them; they come after one where it is nobody's any more."""
        if self._is_known:
            with contextlib.suppress(LogLostItsTail):
                return self._streams.read(self.name, after=self._after, limit=limit)
        with answering():
            found = entries_of(
                self._client.xrange(
                    redis_key(self.name), min=f"{self._after + 1}-0", max=f"{self._head}-0", count=limit
                )
            )
        some: list[RawEntry] = []
        for entry_id, fields in found:
            position = int(entry_id.partition(b"-")[0])
            if some and position != some[-1].position + 1:
                break
            some.append(RawEntry(position, dict(fields)))
        return some


def _full_blocks(former: Stream | None, location: BackupLocation, head: int) -> list[Block]:
    found: list[Block] = []
    for block in former.blocks if former else ():
        if not block.full or block.last > head or not location.has(block.file):
            break
        found.append(block)
    return found


# -- beside the log


def _hash(client: Client, name: str) -> Record:
    with answering():
        pairs = tuple((field, value) for field, value in client.hscan_iter(name, count=_MEMBERS))
        # A field that moves while it is looked for can be seen twice.
        expires_ms = client.pttl(name)
    return Record("hash", name, tuple(sorted(dict(pairs).items())), expires_ms)


def _fetches(client: Client) -> Iterator[Record]:
    """How often devices fetched their secrets, a hash for each day."""
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
    files, some, size = [], list[Record](), 0
    for record in (*(part for one in (*hashes, *_fetches(client)) for part in _parts(one)), *_series(client)):
        some.append(record)
        size += sum(len(part) for member in record.members for part in member)
        if size >= BYTES_MAX:
            files.append(location.put(pack_records(some)))
            some, size = [], 0
    if some:
        files.append(location.put(pack_records(some)))
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
    """A stream with the archive's segments of it, as far as they are within what is copied.

    They are asked for after its entries were read: what left Redis meanwhile is in one.
    """
    if ":" in stream.name and not stream.name.endswith(":assignments"):
        return stream
    notes = notes_of(client, stream.name)
    segments = tuple(one for one in notes.segments if one.last <= stream.head)
    last = _last_skipped(notes, stream.head)
    return msgspec.structs.replace(stream, segments=segments, trimmed=0 if last is None else last.last)


def _last_skipped(notes: Notes, head: int) -> Segment | None:
    """The last segment whose entries a restore leaves to the archive.

    The newest entry belongs into Redis, where the stream would otherwise end before it, and with it all of its segment: nobody
    could take a part of one out again. A stream that moves can be archived past the head that it is copied to.
    """
    within = (one for one in notes.segments if one.last <= notes.trimmed and one.last < head)
    return max(within, key=lambda one: one.last, default=None)


def _archive(
    log: RedisLog, location: BackupLocation, streams: list[Stream], known: Mapping[str, File], tell: ReportProgress
) -> dict[str, File]:
    """The segments of all streams; those that the last backup knows are not read again, as none is ever changed."""
    segments = [segment for stream in streams for segment in stream.segments]
    url = location_of(log.client)
    if not segments or url is None:
        return {}
    object_store, found = ObjectStore(url), dict[str, File]()
    for number, segment in enumerate(segments, 1):
        former = known.get(segment.name)
        if former is not None and former.sha256 == segment.sha256 and location.has(former):
            found[segment.name] = former
        else:
            data = object_store.get(segment.name)
            if data is None or hashlib.sha256(data).hexdigest() != segment.sha256:
                raise ArchiveDamaged(segment.name)
            found[segment.name] = location.put(data)
        tell(BackupProgress("archive", number, len(segments)))
    return found
