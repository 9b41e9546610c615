"""`twinfold backup`: a copy of the whole system, taken while it runs."""

from typing import Annotated

import typer

from events.backup.backup import take
from events.backup.location import BackupLocation, Pruned
from events.backup.manifest import BackupManifest
from events.clock import now_ms
from events.log.log_factory import open_log
from events.number_text import counted
from events.terminal import print_lines
from services import local_files
from services.cli.client import AsJson, show_json
from services.cli.commands import command
from services.cli.exits import INCOMPLETE
from services.cli.flags import LogSettings
from services.cli.progress import progress_bar


@command(example="twinfold backup --to /mnt/backups --keys-to /mnt/safe")
def backup(
    *,
    to: Annotated[str, typer.Option(help="Where to store backups: a directory, or a URL as in s3://bucket/prefix.")],
    with_keys: Annotated[
        bool, typer.Option("--with-keys", help="Store the key file and other private files in the backup.")
    ] = False,
    keys_to: Annotated[str | None, typer.Option(help="Store them apart: in another directory or URL.")] = None,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Number of newest backups to keep there; older ones are deleted.")
    ] = None,
    json: AsJson = False,
    settings: LogSettings,
) -> None:
    """Copy the log, its documents, the archive and the files of the data directory, while the system runs.

    Files of earlier backups are not copied again. Without the key file, a backup restores everything except secrets. Exits with 4
    if the backup is complete but the log misses entries, which are named.
    """
    if with_keys and keys_to is not None:
        raise typer.BadParameter("give --with-keys or --keys-to, not both: they store the keys in different places")
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    location = BackupLocation(to)
    keys = location if with_keys else None if keys_to is None else BackupLocation(keys_to)
    public, private = local_files.read(settings)
    with progress_bar(quiet=json) as show_progress:
        made = take(log, location, local=public, private=private, keys=keys, at=now_ms(), tell=show_progress)
    # Older backups are deleted only once the new one is complete.
    pruned = Pruned((), 0, ()) if keep is None else location.prune(log.epoch, keep=keep, at=now_ms())
    missing = [
        f"{stream.name}:{first} to {stream.name}:{last}" for stream in made.streams for first, last in stream.gaps
    ]
    if json:
        show_json(
            _as_json(made, location)
            | {"missing": missing, "deleted": list(pruned.ids), "leftFor": list(pruned.under_way)}
        )
    else:
        _show(made, location, missing, pruned)
        print_lines(_about_keys(made, keys_to))
    if missing:
        raise typer.Exit(INCOMPLETE)


def _show(made: BackupManifest, location: BackupLocation, missing: list[str], pruned: Pruned) -> None:
    entries = sum(stream.head for stream in made.streams)
    print_lines(f"backup {made.id} at {location.url}")
    print_lines(f"{entries} entries of {counted(len(made.streams), 'stream')}, {counted(len(made.files()), 'file')};")
    print_lines(
        f"{location.written_bytes} bytes in {counted(location.written_files, 'new file')}, read back and checked"
    )
    for gap in missing:
        print_lines(f"MISSING in the log: {gap}")
    if pruned.ids or pruned.files:
        print_lines(f"deleted {counted(len(pruned.ids), 'older backup')}, {counted(pruned.files, 'file')}")
    if pruned.under_way:
        print_lines(f"unused files are not deleted: backup {', '.join(pruned.under_way)} is in progress, or was killed")


def _about_keys(made: BackupManifest, keys_to: str | None) -> str:
    number, ids = sum(made.key_ids.values()), ", ".join(made.key_ids) or "none"
    if made.private_at == "":
        return (
            f"WITHOUT KEYS: {counted(number, 'secret')} can be read only with key file {ids}. It is not in this backup, nor are"
            " the authority's key and the administrator's token. Store them yourself, or back up with --keys-to."
        )
    if keys_to is None:
        return (
            "WITH KEYS: anyone who can read this backup can read every secret in it, impersonate this server and change"
            " everything. Restrict access to it, or use --keys-to."
        )
    return f"keys are stored apart, at {made.private_at}: secrets can be read only with both"


def _as_json(made: BackupManifest, location: BackupLocation) -> dict[str, object]:
    return {
        "id": made.id,
        "at": made.at,
        "location": location.url,
        "heads": {stream.name: stream.head for stream in made.streams},
        "files": len(made.files()),
        "newFiles": location.written_files,
        "newBytes": location.written_bytes,
        "keys": made.private_at or None,
        "keyFiles": made.key_ids,
    }
