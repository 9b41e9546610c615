"""The location of backups: files named by their digests, and manifests. No stored file is ever changed."""

import contextlib
import hashlib
from collections.abc import Iterator

import msgspec

from events.backup.errors import BackupDamaged, BackupUnwritten, FileDeleted, NoBackup
from events.backup.manifest import FOLDER, BackupManifest, File, decode, encode, name_of
from events.log.errors import ObjectStoreUnavailable
from events.log.failpoints import FailPoint, reached
from events.log.object_store import ObjectStore
from events.settings import hide_password

UNDER_WAY_MS = 24 * 3_600_000
"""How long an unfinished backup protects files that no manifest names; after that, it counts as killed."""

_MARK = ".under-way"


class Pruned(msgspec.Struct, frozen=True):
    """The result of pruning: the ids of deleted backups, the number of deleted files, and unfinished backups.

    `under_way` has the marks of unfinished backups. Until they have manifests, it is unknown which files they need.
    """

    ids: tuple[str, ...]
    files: int
    under_way: tuple[str, ...]


class _UnderWay(msgspec.Struct, frozen=True):
    id: str
    at: int


class BackupLocation:
    """A directory, or a prefix of an object store, with backups of one or several systems.

    Every method raises `ObjectStoreUnavailable` if the location does not exist or answer, has no space, or denies access.
    """

    def __init__(self, url: str) -> None:
        """Open a location; `url` is as in `ObjectStore`."""
        self._object_store = ObjectStore(url)
        self._names: set[str] | None = None
        self.written_bytes = self.written_files = 0
        self.url = hide_password(url)
        """The URL without its password, for messages and manifests."""

    def put(self, data: bytes) -> File:
        """Store bytes as a file and read them back; an existing file is not written again.

        Raises:
            BackupUnwritten: the bytes read back differently.
        """
        file = File(hashlib.sha256(data).hexdigest(), len(data))
        names = self._file_names()
        if file.name not in names:
            self._object_store.put(file.name, data)
            if self._object_store.get(file.name) != data:
                raise BackupUnwritten(file.name)
            names.add(file.name)
            self.written_bytes += file.bytes
            self.written_files += 1
            reached(FailPoint.BACKUP_FILE_PUT)
        return file

    def get(self, file: File, what: str) -> bytes:
        """Returns the bytes of a file; `what` names its content in errors.

        Raises:
            BackupDamaged: the file is missing or changed.
        """
        data = self._object_store.get(file.name)
        if data is None:
            raise BackupDamaged(f"{file.name} ({what})", "is missing")
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise BackupDamaged(f"{file.name} ({what})", "was changed: its digest differs")
        return data

    def has(self, file: File) -> bool:
        """Returns whether a file exists, without reading it."""
        return file.name in self._file_names()

    def _file_names(self) -> set[str]:
        # Listed once: a backup of a large log asks for thousands of files.
        if self._names is None:
            self._names = set(self._object_store.names("files"))
        return self._names

    def finish(self, manifest: BackupManifest) -> None:
        """Store the manifest, which completes the backup.

        Raises:
            BackupUnwritten: the manifest reads back differently.
        """
        name, data = name_of(manifest.id), encode(manifest)
        reached(FailPoint.BACKUP_BEFORE_LIST)
        self._object_store.put(name, data)
        if self._object_store.get(name) != data:
            raise BackupUnwritten(name)

    def ids(self) -> tuple[str, ...]:
        """Returns the ids of all complete backups, oldest first."""
        names = (name.removeprefix(f"{FOLDER}/") for name in self._object_store.names(FOLDER))
        return tuple(sorted(name.removesuffix(".json") for name in names if name.endswith(".json")))

    def manifest(self, backup_id: str | None = None) -> BackupManifest:
        """Returns the manifest of a backup, by default of the newest.

        Raises:
            NoBackup, BackupDamaged: the backup does not exist, or its manifest is damaged.
        """
        ids = self.ids()
        if not ids or (backup_id is not None and backup_id not in ids):
            raise NoBackup(self.url, ids, backup_id)
        name = name_of(backup_id or ids[-1])
        data = self._object_store.get(name)
        if data is None:
            raise NoBackup(self.url, self.ids(), backup_id)
        return decode(name, data)

    @contextlib.contextmanager
    def under_way(self, backup_id: str, *, at: int) -> Iterator[None]:
        """Mark a backup as running since `at` (milliseconds), so that pruning does not delete its files before the manifest exists."""
        mark = f"{FOLDER}/{backup_id}{_MARK}"
        self._object_store.put(mark, msgspec.json.encode(_UnderWay(backup_id, at)))
        # A prune before the mark may have deleted files that were listed earlier.
        self._names = None
        try:
            yield
        except BaseException:
            with contextlib.suppress(ObjectStoreUnavailable):
                self._object_store.delete(mark)
            raise
        self._object_store.delete(mark)

    def check_files(self, manifest: BackupManifest) -> None:
        """Check that all files of a new backup exist; otherwise delete its manifest.

        Raises:
            FileDeleted: a file is missing; the manifest is deleted.
        """
        self._names = None
        missing = next((file for file in manifest.files() if not self.has(file)), None)
        if missing is not None:
            self._object_store.delete(name_of(manifest.id))
            raise FileDeleted(missing.name)

    def prune(self, epoch: str, *, keep: int, at: int) -> Pruned:
        """Delete all but the newest `keep` backups of a log, and all files that no backup needs; `at` is now, in milliseconds.

        While another backup runs (started less than `UNDER_WAY_MS` ago), only manifests are deleted: its files are in none yet.

        Raises:
            BackupDamaged: a manifest cannot be read, so that the files it needs are unknown; nothing is deleted.
        """
        of_log = [manifest.id for manifest in self._manifests() if manifest.epoch == epoch]
        deleted = of_log[: max(0, len(of_log) - keep)]
        for backup_id in deleted:
            self._object_store.delete(name_of(backup_id))
        # In this order: a file stored later is not among the names, and a backup that ends meanwhile has a manifest in time.
        names = self._object_store.names("files")
        folder_names = set(self._object_store.names(FOLDER))
        marks = self._marks(folder_names, at)
        if marks:
            return Pruned(tuple(deleted), 0, marks)
        # Private files of another location can still be here: one location can have two URLs.
        manifests = self._manifests()
        needed = {file.name for manifest in manifests for file in (*manifest.files(), *manifest.private.values())}
        files = 0
        for name in (name for name in names if name not in needed):
            # A backup that has started since may reuse a file that no manifest names.
            since = set(self._object_store.names(FOLDER)) - folder_names
            if since:
                return Pruned(tuple(deleted), files, tuple(sorted(since)))
            self._object_store.delete(name)
            files += 1
        self._names = None
        return Pruned(tuple(deleted), files, ())

    def _manifests(self) -> Iterator[BackupManifest]:
        for name in map(name_of, self.ids()):
            data = self._object_store.get(name)
            # Another prune may delete a manifest meanwhile.
            if data is not None:
                yield decode(name, data)

    def _marks(self, folder_names: set[str], at: int) -> tuple[str, ...]:
        marks = []
        for name in sorted(name for name in folder_names if name.endswith(_MARK)):
            data = self._object_store.get(name)
            if data is None:
                continue
            try:
                started_at = msgspec.json.decode(data, type=_UnderWay).at
            except msgspec.DecodeError:
                # A half-written mark is of a backup that has just started.
                started_at = at
            if started_at > at - UNDER_WAY_MS:
                marks.append(name)
            else:
                self._object_store.delete(name)
                folder_names.discard(name)
        return tuple(marks)
