"""Why a backup is not made, or not restored.

BackupError
├── NoBackup          refused: there is none at the place, or none of that id
├── BackupDamaged     refused: a file of it is missing, or is not what was written
├── ArchiveDamaged    stop: a segment of the archive cannot be copied
├── BackupUnwritten   stop: what was written does not read back as it was
├── FileWentAway      stop: somebody deleted a file of it while it was taken
└── TargetNotEmpty    refused: a restore goes into an empty database and an empty place
"""


class BackupError(Exception):
    """Any trouble with backups."""


class NoBackup(BackupError):
    """There is no whole backup at a place. One that was not finished has no list of its files, and is none."""

    def __init__(self, url: str, known: tuple[str, ...], wanted: str | None = None) -> None:
        which = "no backup" if wanted is None else f"no backup {wanted!r}"
        there = ", ".join(known) or "none"
        super().__init__(f"{url}: {which} there; whole ones: {there}")
        self.url, self.known, self.wanted = url, known, wanted


class BackupDamaged(BackupError):
    """A file of a backup is not what its list says; nothing was restored."""

    def __init__(self, file: str, why: str) -> None:
        super().__init__(f"the backup is damaged: {file} {why}; nothing is restored, take another backup")
        self.file, self.why = file, why


class ArchiveDamaged(BackupError):
    """The archive does not have a segment as it was written."""

    def __init__(self, segment: str) -> None:
        super().__init__(
            f"{segment} is missing in the archive, or is not what was written; see `twinfold archive verify`"
        )
        self.segment = segment


class BackupUnwritten(BackupError):
    """A file read back is not what was written."""

    def __init__(self, file: str) -> None:
        super().__init__(f"{file} does not read back as it was written; look at the disk, or give another place")
        self.file = file


class FileWentAway(BackupError):
    """A file that was at the place is gone when the backup ends."""

    def __init__(self, file: str) -> None:
        super().__init__(f"{file} was there and is gone: somebody deletes files at this place; take the backup again")
        self.file = file


class TargetNotEmpty(BackupError):
    """A restore never mixes with what is there."""

    def __init__(self, location: str, found: str) -> None:
        super().__init__(f"{location} is not empty ({found}); restore into an empty one")
        self.location, self.found = location, found
