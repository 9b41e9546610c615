"""Bringing a backup back into an empty database: entries as they were, and what follows from them replayed again."""

import contextlib
import functools
import heapq
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, cast

import msgspec

from events import canonical
from events.backup.backup import BackupProgress, ReportProgress
from events.backup.blocks import Record, unpack, unpack_records
from events.backup.errors import BackupDamaged, TargetNotEmpty
from events.backup.location import BackupLocation
from events.backup.manifest import HERE, BackupManifest, Stream, name_of
from events.backup.stream_replay import StreamReplay
from events.log.archive.manifest import ArchiveManifest as Segments
from events.log.archive.manifest import manifest_name
from events.log.archive.notes import archive_key, note, set_location
from events.log.codec import decode_entry
from events.log.connect import Client, answering
from events.log.entries import RawEntry, digest, link, number_of
from events.log.errors import UnreadableEvent
from events.log.events import BlockResolved, LogInitialised, SecretsErased
from events.log.failpoints import FailPoint, reached
from events.log.keys import FLEET, key, name
from events.log.log_factory import RESTORING
from events.log.object_store import ObjectStore
from events.log.raw import RawStreams
from events.secrets.errors import SecretNotFound
from events.secrets.redis import RedisSecretStore

_BATCH = 500
_FIELDS = 1000
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Restored(msgspec.Struct, frozen=True):
    """What a restore brought back. Places are named as `p03:17`.

    `unapplied` are those whose entries no document could be made of; at `unerased` the log says that secrets were erased, and not
    legibly which ones.
    """

    entries: int
    subjects: int
    unapplied: tuple[str, ...]
    unerased: tuple[str, ...]


def verify(
    manifest: BackupManifest,
    location: BackupLocation,
    *,
    keys: BackupLocation | None,
    tell: ReportProgress = lambda _: None,
) -> None:
    """Read every file of a backup and hold it against the list; `keys` is where private ones are, if they are wanted.

    Raises:
        BackupDamaged: names the file that is missing or changed, the stream whose chain does not come out or whose entries are
            neither there nor named as gaps, or a name that would lead out of where files are put.
    """
    _insist_on_names(manifest)
    files = dict.fromkeys(manifest.files())
    for number, file in enumerate(files, 1):
        location.get(file, _what(manifest, file.sha256))
        tell(BackupProgress("verify", number, len(files)))
    if keys is not None and manifest.private_at != HERE:
        for what, file in manifest.private.items():
            keys.get(file, what)
    for stream in manifest.streams:
        _insist_on_all(stream, manifest, location)
    for file in manifest.beside:
        unpack_records(file.name, location.get(file, "what lies beside the log"))


def claim(manifest: BackupManifest, client: Client) -> None:
    """Mark an empty database as being restored into: from here to `finish` nobody opens a log there.

    One where a restore broke off is emptied of it.

    Raises:
        TargetNotEmpty: there is a log, or a part of one, that no restore left.
        LogUnavailable: Redis did not answer.
    """
    with answering():
        if not is_unfinished(client):
            found = next(iter(client.scan_iter(match="{*}:*", count=1000)), None)
            if found is not None:
                raise TargetNotEmpty("the database", found.decode())
            client.set(RESTORING, manifest.id)
            return
        for one in list(client.scan_iter(match="{*}:*", count=1000)):
            if one != RESTORING.encode():
                client.unlink(one)


def restore(
    manifest: BackupManifest,
    location: BackupLocation,
    client: Client,
    *,
    archive: ObjectStore | None = None,
    tell: ReportProgress = lambda _: None,
) -> Restored:
    """Write the log and what lies beside it into a claimed database, and replay every subject's document and head again.

    What was in the archive alone goes into `archive`, the rest into Redis.

    Raises:
        BackupDamaged: a file is not what it was when it was verified.
        ObjectStoreUnavailable: the archive cannot be written.
        LogUnavailable: Redis did not answer; claim it and restore again.
    """
    total = sum(stream.head - stream.trimmed for stream in manifest.streams)
    done, subjects, unapplied = 0, 0, list[str]()
    if archive is not None:
        _restore_archive(manifest, location, client, archive)
    for stream in manifest.streams:
        for some in _batches(_in_redis(stream, location)):
            _add(client, stream, some)
            reached(FailPoint.RESTORE_ENTRIES_PUT)
            done += len(some)
            tell(BackupProgress(stream.name, done, total))
    for file in manifest.beside:
        for record in unpack_records(file.name, location.get(file, "what lies beside the log")):
            _put(client, record)
    skipped = _skipped(manifest, location, client)
    unerased = tuple(_erase_again(manifest, location, client))
    events = [stream for stream in manifest.streams if ":" not in stream.name]
    for number, stream in enumerate(events, 1):
        entries = functools.partial(_all_entries, stream, location, client)
        replay = StreamReplay(stream.name, entries, skipped.get(number_of(stream.name), frozenset()))
        documents = replay.run()
        _set(client, number_of(stream.name), "heads", replay.heads)
        _set(client, number_of(stream.name), "snapshots", documents)
        if stream.head:
            with answering():
                location_in_stream = {"position": stream.head, "at": replay.at}
                client.hset(key(number_of(stream.name), "meta"), mapping=cast("Any", location_in_stream))
        subjects += len(replay.heads)
        unapplied += replay.unapplied
        tell(BackupProgress("documents", number, len(events)))
    return Restored(done, subjects, tuple(unapplied), unerased)


def finish(client: Client) -> None:
    """Let the log be opened: everything is there."""
    reached(FailPoint.RESTORE_BEFORE_FINISH)
    with answering():
        client.delete(RESTORING)


def is_unfinished(client: Client) -> bool:
    """Whether a restore into a database broke off."""
    with answering():
        return bool(client.exists(RESTORING))


# -- entries


def _insist_on_names(manifest: BackupManifest) -> None:
    """Whoever made the list may not say where else on this machine something is written or read."""
    segments = (segment.name for stream in manifest.streams for segment in stream.segments)
    for named in (*manifest.archive, *manifest.local, *manifest.private, *segments):
        path = PurePosixPath(named)
        if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in named:
            raise BackupDamaged(name_of(manifest.id), f"names a file {named[:80]!r}, which is no name of one")
    for file in (*manifest.files(), *manifest.private.values()):
        if _SHA256.fullmatch(file.sha256) is None:
            raise BackupDamaged(name_of(manifest.id), f"names a digest {file.sha256[:80]!r}, which is none")


def _what(manifest: BackupManifest, sha256: str) -> str:
    for stream in manifest.streams:
        for block in stream.blocks:
            if block.file.sha256 == sha256:
                return f"{stream.name}:{block.first}-{block.last}"
    named = {**manifest.archive, **manifest.local, **manifest.private}
    return next((what for what, file in named.items() if file.sha256 == sha256), "what lies beside the log")


def _entries(stream: Stream, location: BackupLocation) -> Iterator[RawEntry]:
    chain, after = bytes.fromhex(stream.chain), 0
    for block in stream.blocks:
        what = f"{stream.name}:{block.first}-{block.last}"
        entries = unpack(block.file.name, location.get(block.file, what))
        if not entries or (entries[0].position, entries[-1].position) != (block.first, block.last):
            raise BackupDamaged(f"{block.file.name} ({what})", "holds other entries than its list says")
        for entry in entries:
            if entry.position <= after:
                raise BackupDamaged(f"{block.file.name} ({what})", "holds entries out of order")
            chain = link(chain, digest(stream.name, entry))
            after = entry.position
        if chain.hex() != block.chain:
            raise BackupDamaged(f"{block.file.name} ({what})", "does not continue the chain of its stream")
        yield from entries


def _insist_on_all(stream: Stream, manifest: BackupManifest, location: BackupLocation) -> None:
    """Every position up to the head is in a block, or a gap, or, before those that Redis is to have, in a segment."""
    segments = [
        (one.first, one.last) for one in stream.segments if one.last <= stream.trimmed and one.name in manifest.archive
    ]
    entries = (
        (entry.position, entry.position) for entry in _entries(stream, location) if entry.position > stream.trimmed
    )
    reached_to = 0
    ends = [(stream.head + 1, stream.head + 1)]
    for first, last in heapq.merge(sorted([*segments, *stream.gaps]), entries, ends):
        if first > reached_to + 1:
            missing = f"has nothing of {stream.name}:{reached_to + 1} to {stream.name}:{first - 1}"
            raise BackupDamaged(name_of(manifest.id), missing)
        reached_to = max(reached_to, last)


def _in_redis(stream: Stream, location: BackupLocation) -> Iterator[RawEntry]:
    return (entry for entry in _entries(stream, location) if entry.position > stream.trimmed)


def _all_entries(stream: Stream, location: BackupLocation, client: Client) -> Iterator[RawEntry]:
    """Every entry of a restored stream, those of the archive first; past gaps."""
    if stream.trimmed:
        yield from RawStreams(client).entries(stream.name, upto=stream.trimmed)
    yield from _in_redis(stream, location)


def _restore_archive(manifest: BackupManifest, location: BackupLocation, client: Client, archive: ObjectStore) -> None:
    for name_in_archive, file in manifest.archive.items():
        archive.put(name_in_archive, location.get(file, name_in_archive))
    if not manifest.archive:
        return
    set_location(client, archive.url, LogInitialised(manifest.epoch, manifest.partitions))
    for stream in manifest.streams:
        for segment in stream.segments:
            note(client, segment)
        if stream.segments:
            archive.put(
                manifest_name(stream.name), canonical.encode(Segments(stream.name, manifest.epoch, stream.segments))
            )
        if stream.trimmed:
            with answering():
                client.hset(archive_key(stream.name), "trimmed", str(stream.trimmed))


def _batches(entries: Iterator[RawEntry]) -> Iterator[list[RawEntry]]:
    some: list[RawEntry] = []
    for entry in entries:
        some.append(entry)
        if len(some) == _BATCH:
            yield some
            some = []
    if some:
        yield some


def _add(client: Client, stream: Stream, entries: list[RawEntry]) -> None:
    with answering():
        pipe = client.pipeline(transaction=False)
        for entry in entries:
            pipe.xadd(stream.key, cast("Any", entry.fields), id=f"{entry.position}-0")
        pipe.execute()


# -- what follows from entries


def _skipped(manifest: BackupManifest, location: BackupLocation, client: Client) -> dict[int, frozenset[int]]:
    found: dict[int, set[int]] = {}
    for stream in manifest.streams:
        if stream.name != name(FLEET):
            continue
        for entry in _all_entries(stream, location, client):
            if entry.fields.get(b"type") == b"BlockResolved":
                with contextlib.suppress(UnreadableEvent):
                    event = decode_entry(stream.name, entry.position, entry.fields).event
                    if isinstance(event, BlockResolved):
                        found.setdefault(event.stream, set()).add(event.position)
    return {number: frozenset(positions) for number, positions in found.items()}


def _erase_again(manifest: BackupManifest, location: BackupLocation, client: Client) -> Iterator[str]:
    """Whatever the log says is erased is so, also where a backup was taken between the event and the deed.

    Yields the places of erasures that nobody can read.
    """
    store = RedisSecretStore(client)
    for stream in manifest.streams:
        if stream.name != name(FLEET):
            continue
        for entry in _all_entries(stream, location, client):
            if entry.fields.get(b"type") != b"SecretsErased":
                continue
            try:
                event = decode_entry(stream.name, entry.position, entry.fields).event
            except UnreadableEvent:
                event = None
            if not isinstance(event, SecretsErased):
                yield f"{stream.name}:{entry.position}"
                continue
            for secret_id in event.ids:
                with contextlib.suppress(SecretNotFound):
                    store.destroy(secret_id)


def _set(client: Client, stream: int, what: str, members: dict[str, bytes]) -> None:
    pairs = list(members.items())
    for start in range(0, len(pairs), _FIELDS):
        with answering():
            client.hset(key(stream, what), mapping=cast("Any", dict(pairs[start : start + _FIELDS])))


def _put(client: Client, record: Record) -> None:
    if not record.members:
        return
    with answering():
        if record.kind == "hash":
            client.hset(record.key, mapping=cast("Any", dict(cast("Any", record.members))))
        else:
            pipe = client.pipeline(transaction=False)
            for entry_id, *parts in record.members:
                fields = dict(zip(parts[::2], parts[1::2], strict=True))
                pipe.xadd(record.key, cast("Any", fields), id=cast("Any", entry_id))
            pipe.execute()
        if record.expires_ms >= 0:
            client.pexpire(record.key, record.expires_ms)
