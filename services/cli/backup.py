"""`twinfold backup`: a copy of the whole system, taken while it runs."""

from typing import Annotated

import typer

from events.backup.backup import BackupContents, take
from events.backup.location import BackupLocation, Pruned
from events.backup.manifest import BackupManifest
from events.clock import now_ms
from events.log.log_factory import open_log
from events.number_text import counted
from events.terminal import print_lines
from services import local_files
from services.cli.client import AsJson, show_json
from services.cli.exits import INCOMPLETE
from services.cli.flags import AllowVolatileRedis, DataDir, RedisUrl
from services.cli.log_location import log_settings
from services.cli.progress import ProgressBar


def backup(
    *,
    to: Annotated[str, typer.Option(help="Where backups are kept: a directory, or a URL as s3://bucket/prefix.")],
    data: DataDir = None,
    redis_url: RedisUrl = None,
    with_keys: Annotated[
        bool, typer.Option("--with-keys", help="Put the key file and other private files beside the data they open.")
    ] = False,
    keys_to: Annotated[str | None, typer.Option(help="Put them there instead: another directory or URL.")] = None,
    keep: Annotated[int | None, typer.Option(min=1, help="Delete all but so many of the newest backups there.")] = None,
    json: AsJson = False,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Copy the log, what lies beside it, the archive and the files of the data directory, while everything runs.

    What is there from a former backup is not copied again. Without its key file a backup restores everything but secrets. Leaves
    with 4 where the backup is there and the log misses entries, which are named.

    Example: twinfold backup --to /mnt/backups --keys-to /mnt/safe
    """
    if with_keys and keys_to is not None:
        raise typer.BadParameter("--with-keys puts them into the backup, --keys-to elsewhere; give one of the two")
    settings = log_settings(data_dir=data, redis_url=redis_url, allow_volatile_redis=allow_volatile_redis)
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    location = BackupLocation(to)
    files = local_files.read(settings)
    keys = location if with_keys else None if keys_to is None else BackupLocation(keys_to)
    contents = BackupContents(files.public, files.private, keys)
    with ProgressBar(quiet=json) as progress:
        made = take(log, location, contents, at=now_ms(), tell=progress.tell)
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
    print_lines(f"{location.written_bytes} bytes in {counted(location.written_files, 'new file')}, read back")
    for gap in missing:
        print_lines(f"MISSING in the log: {gap}")
    if pruned.ids or pruned.files:
        print_lines(f"deleted {counted(len(pruned.ids), 'older backup')}, {counted(pruned.files, 'file')}")
    if pruned.under_way:
        print_lines(f"files that no backup needs are left: {', '.join(pruned.under_way)} is under way, or was killed")


def _about_keys(made: BackupManifest, keys_to: str | None) -> str:
    number, ids = sum(made.key_ids.values()), ", ".join(made.key_ids) or "none"
    if made.private_at == "":
        return (
            f"WITHOUT KEYS: {counted(number, 'secret')} for which key file {ids} is needed, which is not in this backup, nor are the"
            " authority's key and the administrator's token. Keep them yourself, or back up with --keys-to a place apart."
        )
    if keys_to is None:
        return (
            "WITH KEYS: whoever can read this backup can read every secret in it, pass for this server and do"
            " everything. Lock it away, or use --keys-to a place apart."
        )
    return f"keys are apart, at {made.private_at}: neither place opens anything without the other"


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
