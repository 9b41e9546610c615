"""`twinfold backup` and `restore`: a copy of the whole system, taken while it runs, and restored into an empty one."""

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from events.backup.errors import TargetNotEmpty
from events.clock import now_ms
from events.device.times import time_text
from events.log.keys import name
from events.number_text import counted
from events.secrets.errors import KeyFileUnreadable
from events.settings import Settings, environment_of, read_settings
from events.terminal import print_lines
from services.cli.client import AsJson, show_json
from services.cli.commands import command, flag
from services.cli.exits import INCOMPLETE, RestoreFailed
from services.cli.flags import AllowVolatileRedis, DataDir, LogSettings
from services.cli.progress import ShowProgress, progress_bar
from services.up.directory import held

if TYPE_CHECKING:
    from events.backup.location import BackupLocation, Pruned
    from events.backup.manifest import BackupManifest
    from events.backup.restore import Restored
    from events.log.object_store import ObjectStore


@command(example="backup --to /mnt/backups --keys-to /mnt/safe")
def backup(
    *,
    to: Annotated[str, flag("Where to store backups: a directory, or a URL as in s3://bucket/prefix.")],
    with_keys: Annotated[
        bool, flag("Store the key file and other private files in the backup.", "--with-keys")
    ] = False,
    keys_to: Annotated[str | None, flag("Store them apart: in another directory or URL.")] = None,
    keep: Annotated[int | None, flag("Number of newest backups to keep there; older ones are deleted.", min=1)] = None,
    json: AsJson = False,
    settings: LogSettings,
) -> None:
    """Copy the log, its documents, the archive and the files of the data directory, while the system runs.

    Files of earlier backups are not copied again. Without the key file, a backup restores everything except secrets. Exits with 4
    if the backup is complete but the log misses entries, which are named.
    """
    from events.backup.backup import take
    from events.backup.location import BackupLocation, Pruned
    from events.log.log_factory import open_log
    from services import local_files

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
            {
                "id": made.id,
                "at": made.at,
                "location": location.url,
                "heads": {stream.name: stream.head for stream in made.streams},
                "files": len(made.files()),
                "newFiles": location.written_files,
                "newBytes": location.written_bytes,
                "keys": made.private_at or None,
                "keyFiles": made.key_ids,
                "missing": missing,
                "deleted": list(pruned.ids),
                "leftFor": list(pruned.under_way),
            }
        )
    else:
        _show(made, location, missing, pruned)
        print_lines(_about_keys(made, keys_to))
    if missing:
        raise typer.Exit(INCOMPLETE)


def _show(made: "BackupManifest", location: "BackupLocation", missing: list[str], pruned: "Pruned") -> None:
    entries = sum(stream.head for stream in made.streams)
    print_lines(f"backup {made.id} at {location.url}")
    print_lines(f"{entries} entries of {counted(len(made.streams), 'stream')}, {counted(len(made.files()), 'file')};")
    new_files = counted(location.written_files, "new file")
    print_lines(f"{location.written_bytes} bytes in {new_files}, read back and checked")
    print_lines(*(f"MISSING in the log: {gap}" for gap in missing))
    if pruned.ids or pruned.files:
        print_lines(f"deleted {counted(len(pruned.ids), 'older backup')}, {counted(pruned.files, 'file')}")
    if pruned.under_way:
        print_lines(f"unused files are not deleted: backup {', '.join(pruned.under_way)} is in progress, or was killed")


def _about_keys(made: "BackupManifest", keys_to: str | None) -> str:
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


@command(example="restore --from /mnt/backups --keys-from /mnt/safe --data ./twinfold-data")
def restore(
    *,
    source: Annotated[str, flag("Where the backups are: a directory or a URL.", "--from")],
    backup: Annotated[str | None, flag("Id of the backup. The default is the newest.")] = None,
    data: DataDir = None,
    redis_url: Annotated[
        str | None, flag("An empty Redis of your own. The default is an embedded one in the data directory.")
    ] = None,
    archive_url: Annotated[
        str | None,
        flag("Where to put archived events: an empty directory or URL.", show_default="TWINFOLD_ARCHIVE_URL"),
    ] = None,
    keys_from: Annotated[str | None, flag("Where the keys are: the --keys-to of the backup.")] = None,
    list_only: Annotated[bool, flag("List the backups and exit.", "--list")] = False,
    verify_only: Annotated[bool, flag("Read and check every file and exit.", "--verify")] = False,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Restore a backup into an empty Redis and data directory. Every file is checked before anything is written.

    If it is interrupted, run it again: it starts from the beginning. Exits with 4 if everything is restored but partitions are
    stopped; each is named with the reason.
    """
    from events.backup.location import BackupLocation
    from events.backup.restore import claim, finish, is_unfinished, verify
    from events.backup.restore import restore as restore_log
    from events.log.connect import check_server, connect
    from services import local_files
    from services.embedded_redis import redis_of

    location = BackupLocation(source)
    if list_only:
        _list(location)
        return
    manifest = location.manifest(backup)
    keys = _keys(manifest, location, keys_from)
    with progress_bar(quiet=False) as show_progress:
        verify(manifest, location, keys=keys, tell=show_progress)
    if verify_only:
        print_lines(f"backup {manifest.id}: {counted(len(manifest.files()), 'file')} read, all unchanged")
        return
    settings = read_settings(
        data_dir=data, redis_url=redis_url, archive_url=archive_url, allow_volatile_redis=allow_volatile_redis
    )
    if (foreign := local_files.blocking_file(settings)) is not None:
        raise TargetNotEmpty(str(settings.data_dir), foreign)
    with (
        held(settings.data_dir) as roles,
        redis_of(settings, keeps=[roles]) as (url, embedded),
        progress_bar(quiet=False) as show_progress,
    ):
        client = connect(url)
        if not settings.allow_volatile_redis:
            check_server(client)
        object_store = _archive(settings, manifest, again=is_unfinished(client))
        # Both marks are set before anything is written, so that an interrupted restore is recognised in Redis and in the
        # directory, and the next one may empty them.
        claim(manifest, client)
        local_files.write(settings, local_files.RESTORING, manifest.id.encode())
        result = restore_log(manifest, location, client, archive=object_store, tell=show_progress)
        for named, file in manifest.local.items():
            local_files.write(settings, named, location.get(file, named))
        if keys is not None:
            for named, file in manifest.private.items():
                local_files.write(settings, named, keys.get(file, named))
        stopped = _rebuild_projections(settings, url, manifest, show_progress)
        finish(client)
        (settings.data_dir / local_files.RESTORING).unlink()
    _show_restored(result, manifest)
    print_lines(_opened_by(settings, manifest))
    print_lines(
        f"start it with: twinfold up --data {settings.data_dir}" + (" --redis-url …" if embedded is None else "")
    )
    print_lines(*(f"STOPPED: {why}" for why in stopped))
    if stopped:
        print_lines(
            "these partitions wait without projections, all others run; docs/guides/backup.md says what you can do"
        )
        raise typer.Exit(INCOMPLETE)


def _list(location: "BackupLocation") -> None:
    from events.backup.manifest import HERE

    for backup_id in location.ids() or [location.manifest().id]:  # Without any backup, `manifest` raises the error.
        manifest = location.manifest(backup_id)
        entries = sum(stream.head for stream in manifest.streams)
        keys = {"": "without keys", HERE: "with keys"}.get(manifest.private_at, f"keys at {manifest.private_at}")
        print_lines(f"{backup_id} log {manifest.epoch} at {time_text(manifest.at)}, {entries} entries, {keys}")


def _show_restored(result: "Restored", manifest: "BackupManifest") -> None:
    print_lines(f"restored {manifest.id}: {result.entries} entries, {result.subjects} subjects, log {manifest.epoch}")
    for entry in result.unapplied:
        print_lines(f"{entry} cannot be applied; `twinfold blocked` shows the reason once workers run")
    for entry in result.unerased:
        print_lines(
            f"NOT ERASED AGAIN: {entry} records an erasure and cannot be read. If the backup is older than the erasure,"
            " those secrets are restored: run `twinfold erase` again for what was erased at that time"
        )


def _keys(manifest: "BackupManifest", location: "BackupLocation", keys_from: str | None) -> "BackupLocation | None":
    from events.backup.location import BackupLocation
    from events.backup.manifest import HERE

    if manifest.private_at == HERE:
        return location
    if keys_from is not None and not manifest.private_at:
        raise typer.BadParameter(
            f"backup {manifest.id} has no keys; choose one that has (--list), or omit --keys-from"
            " and put the key file into the data directory yourself"
        )
    return None if keys_from is None else BackupLocation(keys_from)


def _archive(settings: Settings, manifest: "BackupManifest", *, again: bool) -> "ObjectStore | None":
    """The object store for the archive, which must be empty unless this restore repeats one that was interrupted."""
    from events.log.object_store import ObjectStore

    if not manifest.archive:
        return None
    object_store = ObjectStore(settings.effective_archive_url)
    names = object_store.names()
    if names and not again:
        raise TargetNotEmpty(f"the archive {object_store.url}", names[0])
    return object_store


def _rebuild_projections(
    settings: Settings, url: str, manifest: "BackupManifest", show_progress: ShowProgress
) -> list[str]:
    """Compute the projections; returns the reason for each partition that is stopped before its recorded position."""
    # A process started by name, because services may not import workers (the import contracts in pyproject.toml).
    environment = {**os.environ, **environment_of(settings.model_copy(update={"redis_url": url}))}
    command = [sys.executable, "-m", "workers.restored", str(manifest.partitions), manifest.epoch]
    stopped = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        assert process.stdout is not None
        for line in process.stdout:
            done, _, why = line.strip().partition(" ")
            show_progress("projections", int(done), manifest.partitions)
            if why:
                partition = f"{name(int(done) - 1)}: "
                stopped.append(partition + why.removeprefix(partition))
    if process.returncode:
        raise RestoreFailed("the projections cannot be computed from what was restored; see above")
    return stopped


def _opened_by(settings: Settings, manifest: "BackupManifest") -> str:
    from events.secrets import keyfile

    if not manifest.key_ids:
        return "the backup has no secrets"
    path = settings.effective_key_file
    try:
        key_id = keyfile.KeyFile(keyfile.read_key(path)).id
    except KeyFileUnreadable:
        key_id = "missing or unreadable"
    missing = {file_id: count for file_id, count in manifest.key_ids.items() if file_id != key_id}
    if not missing:
        return f"key file {path} opens all {counted(sum(manifest.key_ids.values()), 'secret')}"
    needed = " and ".join(f"{counted(count, 'secret')} with key file {file_id}" for file_id, count in missing.items())
    return f"NO KEY: {needed} cannot be read, because {path} is {key_id}. Put that key file there before you start the system."
