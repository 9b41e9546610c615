"""Where backups are: files named by their digests, and lists of them; nothing that is there is ever changed."""

import hashlib
from collections.abc import Iterable

from events.backup.errors import BackupDamaged, BackupUnwritten, NoBackup
from events.backup.manifest import FOLDER, File, Manifest, decode, encode, name_of
from events.log.depot import Depot
from events.log.failpoints import FailPoint, reached
from events.settings import hide_password


class Place:
    """One directory, or one prefix of an object store, with any number of backups of one or several systems."""

    def __init__(self, url: str) -> None:
        """Open a place; see `Depot`.

        Raises:
            DepotUnavailable: there is no such place.
        """
        self._depot = Depot(url)
        self._known: set[str] | None = None
        self.written_bytes = 0
        self.written_files = 0

    @property
    def url(self) -> str:
        """Where it is, as it may be shown and written down."""
        return hide_password(self._depot.url)

    def put(self, data: bytes) -> File:
        """Keep some bytes, and read them back; those that are there already are not written again.

        Raises:
            DepotUnavailable: there is no room, or no right.
            BackupUnwritten: they do not read back.
        """
        file = File(hashlib.sha256(data).hexdigest(), len(data))
        if self._known is None:
            self._known = set(self._depot.names("files"))
        if file.name not in self._known:
            self._depot.put(file.name, data)
            if _digest(self._depot.get(file.name)) != file.sha256:
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
        data = self._depot.get(file.name)
        if data is None:
            raise BackupDamaged(f"{file.name} ({what})", "is missing")
        if _digest(data) != file.sha256:
            raise BackupDamaged(f"{file.name} ({what})", "is not what was written: its digest differs")
        return data

    def has(self, file: File) -> bool:
        """Whether a file of that name is there, without looking into it."""
        if self._known is None:
            self._known = set(self._depot.names("files"))
        return file.name in self._known

    def finish(self, manifest: Manifest) -> None:
        """Make a backup of what is kept: from here on it is whole.

        Raises:
            BackupUnwritten, DepotUnavailable: it is not.
        """
        name, data = name_of(manifest.id), encode(manifest)
        reached(FailPoint.BACKUP_BEFORE_LIST)
        self._depot.put(name, data)
        if self._depot.get(name) != data:
            raise BackupUnwritten(name)

    def ids(self) -> tuple[str, ...]:
        """The ids of all whole backups, oldest first."""
        names = (one.removeprefix(f"{FOLDER}/") for one in self._depot.names(FOLDER))
        return tuple(sorted(name.removesuffix(".json") for name in names if name.endswith(".json")))

    def manifest(self, backup_id: str | None = None) -> Manifest:
        """The list of a backup, of the newest where none is named.

        Raises:
            NoBackup, BackupDamaged: there is none that can be used.
        """
        ids = self.ids()
        if not ids or (backup_id is not None and backup_id not in ids):
            raise NoBackup(self.url, ids, backup_id)
        name = name_of(backup_id or ids[-1])
        data = self._depot.get(name)
        if data is None:
            raise NoBackup(self.url, self.ids(), backup_id)
        return decode(name, data)

    def prune(self, epoch: str, *, keep: int) -> tuple[tuple[str, ...], int]:
        """Keep the newest backups of a log alone; answers the ids of those that are gone, and how many files went with them.

        No other backup may be under way at the same place: its files have no list yet.

        Raises:
            BackupDamaged: a list cannot be read, so that nobody knows which files it needs; nothing is deleted.
        """
        manifests = [self.manifest(one) for one in self.ids()]
        of_log = [manifest for manifest in manifests if manifest.epoch == epoch]
        gone = of_log[: max(0, len(of_log) - keep)]
        left = [manifest for manifest in manifests if manifest not in gone]
        for manifest in gone:
            self._depot.delete(name_of(manifest.id))
        return tuple(one.id for one in gone), self._sweep(file for manifest in left for file in manifest.files())

    def _sweep(self, wanted: Iterable[File]) -> int:
        names = {file.name for file in wanted}
        unwanted = [name for name in self._depot.names("files") if name not in names]
        for name in unwanted:
            self._depot.delete(name)
        self._known = None
        return len(unwanted)


def _digest(data: bytes | None) -> str:
    return "" if data is None else hashlib.sha256(data).hexdigest()
