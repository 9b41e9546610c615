"""Where backups are: files named by their digests, and lists of them; nothing that is there is ever changed."""

import contextlib
import hashlib
from collections.abc import Iterator

import msgspec

from events.backup.errors import BackupDamaged, BackupUnwritten, FileWentAway, NoBackup
from events.backup.manifest import FOLDER, BackupManifest, File, decode, encode, name_of
from events.log.errors import ObjectStoreUnavailable
from events.log.failpoints import FailPoint, reached
from events.log.object_store import ObjectStore
from events.settings import hide_password

UNDER_WAY_MS = 24 * 3_600_000
"""For so long a backup that has not ended keeps files that no list names; one that was killed is forgotten then."""

_MARK = ".under-way"


class Pruned(msgspec.Struct, frozen=True):
    """What became of older backups: the ids of those that are gone, how many files went, and for whom the others were left.

    `under_way` names the marks of backups that have not ended; whose files are whose nobody knows before their lists are there.
    """

    ids: tuple[str, ...]
    files: int
    under_way: tuple[str, ...]


class _UnderWay(msgspec.Struct, frozen=True):
    id: str
    at: int


class BackupLocation:
    """One directory, or one prefix of an object store, with any number of backups of one or several systems."""

    def __init__(self, url: str) -> None:
        """Open a place; see `ObjectStore`.

        Raises:
            ObjectStoreUnavailable: there is no such place.
        """
        self._object_store = ObjectStore(url)
        self._known: set[str] | None = None
        self.written_bytes = 0
        self.written_files = 0

    @property
    def url(self) -> str:
        """Where it is, as it may be shown and written down."""
        return hide_password(self._object_store.url)

    def put(self, data: bytes) -> File:
        """Keep some bytes, and read them back; those that are there already are not written again.

        Raises:
            ObjectStoreUnavailable: there is no room, or no right.
            BackupUnwritten: they do not read back.
        """
        file = File(hashlib.sha256(data).hexdigest(), len(data))
        if self._known is None:
            self._known = set(self._object_store.names("files"))
        if file.name not in self._known:
            self._object_store.put(file.name, data)
            if _digest(self._object_store.get(file.name)) != file.sha256:
                raise BackupUnwritten(file.name)
            self._known.add(file.name)
            self.written_bytes += file.bytes
            self.written_files += 1
            reached(FailPoint.BACKUP_FILE_PUT)
        return file

    def get(self, file: File, what: str) -> bytes:
        """The bytes of a file; `what` says of what, for people.

        Raises:
            BackupDamaged: it is missing, or not what was written.
        """
        data = self._object_store.get(file.name)
        if data is None:
            raise BackupDamaged(f"{file.name} ({what})", "is missing")
        if _digest(data) != file.sha256:
            raise BackupDamaged(f"{file.name} ({what})", "is not what was written: its digest differs")
        return data

    def has(self, file: File) -> bool:
        """Whether a file of that name is there, without looking into it."""
        if self._known is None:
            self._known = set(self._object_store.names("files"))
        return file.name in self._known

    def finish(self, manifest: BackupManifest) -> None:
        """Make a backup of what is kept: from here on it is whole.

        Raises:
            BackupUnwritten, ObjectStoreUnavailable: it is not.
        """
        name, data = name_of(manifest.id), encode(manifest)
        reached(FailPoint.BACKUP_BEFORE_LIST)
        self._object_store.put(name, data)
        if self._object_store.get(name) != data:
            raise BackupUnwritten(name)

    def ids(self) -> tuple[str, ...]:
        """The ids of all whole backups, oldest first."""
        names = (one.removeprefix(f"{FOLDER}/") for one in self._object_store.names(FOLDER))
        return tuple(sorted(name.removesuffix(".json") for name in names if name.endswith(".json")))

    def manifest(self, backup_id: str | None = None) -> BackupManifest:
        """The list of a backup, of the newest where none is named.

        Raises:
            NoBackup, BackupDamaged: there is none that can be used.
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
        """Say that a backup is being taken, from `at` on (milliseconds), so that nobody deletes its files before they are listed.

        Raises:
            ObjectStoreUnavailable: the place does not take it.
        """
        mark = f"{FOLDER}/{backup_id}{_MARK}"
        self._object_store.put(mark, msgspec.json.encode(_UnderWay(backup_id, at)))
        # What was there before the mark may be gone by now.
        self._known = None
        try:
            yield
        except BaseException:
            with contextlib.suppress(ObjectStoreUnavailable):
                self._object_store.delete(mark)
            raise
        self._object_store.delete(mark)

    def insist_on(self, manifest: BackupManifest) -> None:
        """Look once more, when a backup is listed, whether all of its files are there; where one is not, it is none.

        Raises:
            FileWentAway: names the file; the list is gone, too.
            ObjectStoreUnavailable: the place cannot be read.
        """
        self._known = None
        missing = next((file for file in manifest.files() if not self.has(file)), None)
        if missing is not None:
            self._object_store.delete(name_of(manifest.id))
            raise FileWentAway(missing.name)

    def prune(self, epoch: str, *, keep: int, at: int) -> Pruned:
        """Keep the newest backups of a log alone, and no file that no backup needs; `at` is now, in milliseconds.

        While another backup is under way, begun less than `UNDER_WAY_MS` ago, lists alone are deleted: its files are in none yet.

        Raises:
            BackupDamaged: a list cannot be read, so that nobody knows which files it needs; nothing is deleted.
        """
        of_log = [one.id for one in self._lists() if one.epoch == epoch]
        gone = of_log[: max(0, len(of_log) - keep)]
        for one in gone:
            self._object_store.delete(name_of(one))
        files, under_way = self._remove_unused(at)
        return Pruned(tuple(gone), files, under_way)

    def _remove_unused(self, at: int) -> tuple[int, tuple[str, ...]]:
        """Delete files that no list names; answers how many, and the marks for which that was not done, or not to its end."""
        # In this order: what is put later is not among the names, and whoever ends meanwhile has a list when lists are read.
        names = self._object_store.names("files")
        there = set(self._object_store.names(FOLDER))
        marks = self._marks(there, at)
        if marks:
            return 0, marks
        wanted = {file.name for one in self._lists() for file in _needed(one)}
        deleted = 0
        for name in (one for one in names if one not in wanted):
            # Whoever has begun since may need a file that nobody needed.
            since = set(self._object_store.names(FOLDER)) - there
            if since:
                return deleted, tuple(sorted(since))
            self._object_store.delete(name)
            deleted += 1
        self._known = None
        return deleted, ()

    def _lists(self) -> Iterator[BackupManifest]:
        for name in map(name_of, self.ids()):
            data = self._object_store.get(name)
            # Another run may delete older ones as well.
            if data is not None:
                yield decode(name, data)

    def _marks(self, there: set[str], at: int) -> tuple[str, ...]:
        found = []
        for name in sorted(one for one in there if one.endswith(_MARK)):
            data = self._object_store.get(name)
            if data is None:
                continue
            try:
                begun = msgspec.json.decode(data, type=_UnderWay).at
            except msgspec.DecodeError:
                begun = at
            if begun > at - UNDER_WAY_MS:
                found.append(name)
            else:
                self._object_store.delete(name)
                there.discard(name)
        return tuple(found)


def _needed(manifest: BackupManifest) -> list[File]:
    # Keys that are said to be elsewhere can be here all the same: one place may have two URLs.
    return [*manifest.files(), *manifest.private.values()]


def _digest(data: bytes | None) -> str:
    return "" if data is None else hashlib.sha256(data).hexdigest()
