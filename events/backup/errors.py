"""Why a backup is not made, or not restored.

BackupError
├── NoBackup          refused: the location has no backup, or none of this id
├── BackupDamaged     refused: a file of the backup is missing or changed
├── ArchiveDamaged    stop: a segment of the archive is missing or changed
├── BackupUnwritten   stop: a file reads back differently than it was written
├── FileDeleted       stop: a file was deleted while the backup ran
└── TargetNotEmpty    refused: a restore needs an empty database and an empty directory
"""


class BackupError(Exception):
    """Base of all errors of backups."""


class NoBackup(BackupError):
    """The location has no complete backup. An unfinished backup has no manifest, so it does not count."""

    def __init__(self, url: str, ids: tuple[str, ...], backup_id: str | None = None) -> None:
        which = "no backup" if backup_id is None else f"no backup {backup_id!r}"
        available = ", ".join(ids) or "none"
        super().__init__(f"{url}: {which}; complete backups: {available}")
        self.url, self.ids, self.backup_id = url, ids, backup_id


class BackupDamaged(BackupError):
    """A file of a backup differs from its manifest; nothing was restored."""

    def __init__(self, file: str, why: str) -> None:
        super().__init__(f"the backup is damaged: {file} {why}; nothing is restored; use another backup")
        self.file, self.why = file, why


class ArchiveDamaged(BackupError):
    """A segment of the archive is missing or changed."""

    def __init__(self, segment: str) -> None:
        super().__init__(f"{segment} is missing in the archive, or was changed; run `twinfold archive verify`")
        self.segment = segment


class BackupUnwritten(BackupError):
    """A file reads back differently than it was written."""

    def __init__(self, file: str) -> None:
        super().__init__(f"{file} reads back differently than it was written; check the disk, or use another location")
        self.file = file


class FileDeleted(BackupError):
    """A file of the location was deleted while the backup ran."""

    def __init__(self, file: str) -> None:
        super().__init__(
            f"{file} was deleted while the backup ran; run the backup again, and delete no files at its location meanwhile"
        )
        self.file = file


class TargetNotEmpty(BackupError):
    """The target of a restore is not empty; a restore never mixes with existing data."""

    def __init__(self, location: str, content: str) -> None:
        super().__init__(f"{location} is not empty: it has {content}; restore into an empty one")
        self.location, self.content = location, content
