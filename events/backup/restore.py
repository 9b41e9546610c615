"""The restore of a backup into an empty database: the entries, and the documents that replaying them gives."""

import contextlib
import functools
import heapq
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, cast

import msgspec

from events import canonical
from events.backup.backup import ReportProgress
from events.backup.document_repair import replay_stream
from events.backup.errors import BackupDamaged, TargetNotEmpty
from events.backup.location import BackupLocation
from events.backup.manifest import HERE, BackupManifest, Record, Stream, name_of, unpack, unpack_records
from events.log.archive.manifest import ArchiveManifest, manifest_name
from events.log.archive.notes import archive_key, note, set_location
from events.log.codec import decode_entry
from events.log.connect import Client, answering
from events.log.entries import RawEntry, digest, fields_of, link, number_of
from events.log.errors import UnreadableEvent
from events.log.events import BlockResolved, LogInitialised, SecretsErased
from events.log.failpoints import FailPoint, reached
from events.log.keys import FLEET, key, name
from events.log.log_factory import FORMAT, RESTORING
from events.log.object_store import ObjectStore
from events.log.raw import RawStreams
from events.log.subject_record import encode_record
from events.redis_cluster import keys_like
from events.secrets.errors import SecretNotFound
from events.secrets.redis import RedisSecretStore

_BATCH = 500
_FIELDS = 1000
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Restored(msgspec.Struct, frozen=True):
    """The result of a restore. Positions are named as `p03:17`.

    `unapplied` are the entries that could not be applied to a document; `unerased` are erasures of secrets whose ids cannot be read.
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
    tell: ReportProgress = lambda _what, _done, _total: None,
) -> None:
    """Read every file of a backup and compare it with the manifest; `keys` is the location of private files, `None` to skip them.

    Raises:
        BackupDamaged: a file is missing or changed, a stream's chain differs, its entries are incomplete, or a name would lead out
            of the target directory.
    """
    _check_names(manifest)
    files = dict.fromkeys(manifest.files())
    contents = {file.sha256: what for what, file in (manifest.private | manifest.local | manifest.archive).items()}
    for stream in manifest.streams:
        contents |= {block.file.sha256: f"{stream.name}:{block.first}-{block.last}" for block in stream.blocks}
    for number, file in enumerate(files, 1):
        location.get(file, contents.get(file.sha256, "keys beside the log"))
        tell("verify", number, len(files))
    if keys is not None and manifest.private_at != HERE:
        for what, file in manifest.private.items():
            keys.get(file, what)
    for stream in manifest.streams:
        _check_complete(stream, manifest, location)
    for file in manifest.beside:
        unpack_records(file.name, location.get(file, "keys beside the log"))


def claim(manifest: BackupManifest, client: Client) -> None:
    """Mark an empty database as the target of a restore: until `finish`, no process opens a log there.

    Empties a database with an unfinished restore.

    Raises:
        TargetNotEmpty: the database has data that is not from an unfinished restore.
        LogUnavailable: Redis did not answer.
    """
    with answering():
        if not is_unfinished(client):
            stored_key = next(iter(keys_like(client, "{*}:*")), None)
            if stored_key is not None:
                raise TargetNotEmpty("the database", stored_key.decode())
            client.set(RESTORING, manifest.id)
            return
        # The mark itself stays until `finish`: a crash in between must not leave an unmarked half of a log.
        for half_key in keys_like(client, "{*}:*"):
            if half_key != RESTORING.encode():
                client.unlink(half_key)


def restore(
    manifest: BackupManifest,
    location: BackupLocation,
    client: Client,
    *,
    archive: ObjectStore | None = None,
    tell: ReportProgress = lambda _what, _done, _total: None,
) -> Restored:
    """Write the log and the keys beside it into a claimed database, and replay every subject's document and head.

    Entries that were only in the archive go into `archive`, all others into Redis.

    Raises:
        BackupDamaged: a file has changed since it was verified.
        ObjectStoreUnavailable: the archive cannot be written.
        LogUnavailable: Redis did not answer; claim the database and restore again.
    """
    total = sum(stream.head - stream.trimmed for stream in manifest.streams)
    done, subjects, unapplied = 0, 0, list[str]()
    if archive is not None:
        _restore_archive(manifest, location, client, archive)
    for stream in manifest.streams:
        entries_left = _in_redis(stream, location)
        while batch := list(itertools.islice(entries_left, _BATCH)):
            _add(client, stream.key, [(f"{entry.position}-0", entry.fields) for entry in batch])
            reached(FailPoint.RESTORE_ENTRIES_PUT)
            done += len(batch)
            tell(stream.name, done, total)
    for file in manifest.beside:
        for record in unpack_records(file.name, location.get(file, "keys beside the log")):
            _put(client, record)
    skipped, unerased = _repeat_decisions(manifest, location, client)
    events = [stream for stream in manifest.streams if ":" not in stream.name]
    for number, stream in enumerate(events, 1):
        partition = number_of(stream.name)
        entries = functools.partial(_all_entries, stream, location, client)
        replayed = replay_stream(stream.name, entries, skipped.get(partition, ()))
        stored = replayed.subjects.items()
        records = {subject: encode_record(partition, entry.head, entry.snapshot) for subject, entry in stored}
        _set(client, key(partition, "subjects"), records)
        if stream.head:
            _set(client, key(partition, "meta"), {"position": stream.head, "at": replayed.at, "format": FORMAT})
        subjects += len(replayed.subjects)
        unapplied += replayed.unapplied
        tell("documents", number, len(events))
    return Restored(done, subjects, tuple(unapplied), tuple(unerased))


def finish(client: Client) -> None:
    """Remove the mark, so that the restored log can be opened."""
    reached(FailPoint.RESTORE_BEFORE_FINISH)
    with answering():
        client.delete(RESTORING)


def is_unfinished(client: Client) -> bool:
    """Returns whether a database has an unfinished restore."""
    with answering():
        return bool(client.exists(RESTORING))


# -- entries


def _check_names(manifest: BackupManifest) -> None:
    """Refuse names that lead out of the target directory."""
    # A backup may come from an attacker, whose manifest must not choose files of this machine to write or read.
    segments = (segment.name for stream in manifest.streams for segment in stream.segments)
    for file_name in (*manifest.archive, *manifest.local, *manifest.private, *segments):
        path = PurePosixPath(file_name)
        if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in file_name:
            raise BackupDamaged(name_of(manifest.id), f"has the invalid file name {file_name[:80]!r}")
    for file in (*manifest.files(), *manifest.private.values()):
        if _SHA256.fullmatch(file.sha256) is None:
            raise BackupDamaged(name_of(manifest.id), f"has the invalid digest {file.sha256[:80]!r}")


def _entries(stream: Stream, location: BackupLocation) -> Iterator[RawEntry]:
    chain, after = bytes.fromhex(stream.chain), 0
    for block in stream.blocks:
        what = f"{stream.name}:{block.first}-{block.last}"
        entries = unpack(block.file.name, location.get(block.file, what))
        if not entries or (entries[0].position, entries[-1].position) != (block.first, block.last):
            raise BackupDamaged(f"{block.file.name} ({what})", "has other entries than its manifest says")
        for entry in entries:
            if entry.position <= after:
                raise BackupDamaged(f"{block.file.name} ({what})", "has entries out of order")
            chain = link(chain, digest(stream.name, entry))
            after = entry.position
        if chain.hex() != block.chain:
            raise BackupDamaged(f"{block.file.name} ({what})", "does not continue the chain of its stream")
        yield from entries


def _check_complete(stream: Stream, manifest: BackupManifest, location: BackupLocation) -> None:
    """Refuse a stream with a position that is in no block, no gap, and no segment of the archive."""
    segments = [
        (segment.first, segment.last)
        for segment in stream.segments
        if segment.last <= stream.trimmed and segment.name in manifest.archive
    ]
    entries = (
        (entry.position, entry.position) for entry in _entries(stream, location) if entry.position > stream.trimmed
    )
    reached_to = 0
    ends = [(stream.head + 1, stream.head + 1)]
    for first, last in heapq.merge(sorted([*segments, *stream.gaps]), entries, ends):
        if first > reached_to + 1:
            missing = f"has no entries {stream.name}:{reached_to + 1} to {stream.name}:{first - 1}"
            raise BackupDamaged(name_of(manifest.id), missing)
        reached_to = max(reached_to, last)


def _in_redis(stream: Stream, location: BackupLocation) -> Iterator[RawEntry]:
    return (entry for entry in _entries(stream, location) if entry.position > stream.trimmed)


def _all_entries(stream: Stream, location: BackupLocation, client: Client) -> Iterator[RawEntry]:
    """Every entry of a restored stream, first those in the archive, across gaps."""
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
            segments = ArchiveManifest(stream.name, manifest.epoch, stream.segments)
            archive.put(manifest_name(stream.name), canonical.encode(segments))
        if stream.trimmed:
            with answering():
                client.hset(archive_key(stream.name), "trimmed", str(stream.trimmed))


def _add(client: Client, stream_key: str, entries: Iterable[tuple[str | bytes, dict[bytes, bytes]]]) -> None:
    with answering():
        pipe = client.pipeline(transaction=False)
        for entry_id, fields in entries:
            pipe.xadd(stream_key, cast("Any", fields), id=cast("Any", entry_id))
        pipe.execute()


# -- derived data


def _repeat_decisions(
    manifest: BackupManifest, location: BackupLocation, client: Client
) -> tuple[dict[int, set[int]], list[str]]:
    """Erase the secrets that the log names as erased.

    Returns the positions that operators resolved as skipped, by partition, and the erasures that cannot be read.
    """
    # The event is stored before the secrets are destroyed: a backup taken in between has the event and the secrets.
    store = RedisSecretStore(client)
    skipped, unerased = dict[int, set[int]](), list[str]()
    fleet = (stream for stream in manifest.streams if stream.name == name(FLEET))
    for entry in (entry for stream in fleet for entry in _all_entries(stream, location, client)):
        event_type = entry.fields.get(b"type")
        if event_type not in {BlockResolved.__name__.encode(), SecretsErased.__name__.encode()}:
            continue
        try:
            event = decode_entry(name(FLEET), entry.position, entry.fields).event
        except UnreadableEvent:
            event = None
        if event_type == BlockResolved.__name__.encode():
            if isinstance(event, BlockResolved):
                skipped.setdefault(event.stream, set()).add(event.position)
        elif isinstance(event, SecretsErased):
            for secret_id in event.ids:
                with contextlib.suppress(SecretNotFound):
                    store.destroy(secret_id)
        else:
            unerased.append(f"{name(FLEET)}:{entry.position}")
    return skipped, unerased


def _set(client: Client, hash_key: str, members: Mapping[Any, Any]) -> None:
    pairs = list(members.items())
    for start in range(0, len(pairs), _FIELDS):
        with answering():
            client.hset(hash_key, mapping=dict(pairs[start : start + _FIELDS]))


def _put(client: Client, record: Record) -> None:
    if record.kind == "hash":
        _set(client, record.key, dict(cast("Any", record.members)))
    else:
        _add(client, record.key, ((entry_id, fields_of(parts)) for entry_id, *parts in record.members))
    if record.members and record.expires_ms >= 0:
        with answering():
            client.pexpire(record.key, record.expires_ms)
