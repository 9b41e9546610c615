"""`twinfold restore`: restores a backup into an empty Redis and an empty data directory."""

import os
import subprocess
import sys
from typing import Annotated

import typer

from events.backup.errors import TargetNotEmpty
from events.backup.location import BackupLocation
from events.backup.manifest import HERE, BackupManifest
from events.backup.restore import Restored, claim, finish, is_unfinished, verify
from events.backup.restore import restore as restore_log
from events.device.times import time_text
from events.log.connect import check_server, connect
from events.log.keys import name
from events.log.object_store import ObjectStore
from events.number_text import counted
from events.secrets import keyfile
from events.secrets.errors import KeyFileUnreadable
from events.settings import Settings, environment_of, read_settings
from events.terminal import print_lines
from services import local_files
from services.cli.commands import command
from services.cli.exits import INCOMPLETE, RestoreFailed
from services.cli.flags import AllowVolatileRedis, DataDir
from services.cli.progress import ShowProgress, progress_bar
from services.embedded_redis import redis_of
from services.up.directory import held


@command(example="twinfold restore --from /mnt/backups --keys-from /mnt/safe --data ./twinfold-data")
def restore(
    *,
    source: Annotated[str, typer.Option("--from", help="Where the backups are: a directory or a URL.")],
    backup: Annotated[str | None, typer.Option(help="Id of the backup. The default is the newest.")] = None,
    data: DataDir = None,
    redis_url: Annotated[
        str | None,
        typer.Option(help="An empty Redis of your own. The default is an embedded one in the data directory."),
    ] = None,
    archive_url: Annotated[
        str | None,
        typer.Option(
            help="Where to put archived events: an empty directory or URL.", show_default="TWINFOLD_ARCHIVE_URL"
        ),
    ] = None,
    keys_from: Annotated[str | None, typer.Option(help="Where the keys are: the --keys-to of the backup.")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="List the backups and exit.")] = False,
    verify_only: Annotated[bool, typer.Option("--verify", help="Read and check every file and exit.")] = False,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Restore a backup into an empty Redis and data directory. Every file is checked before anything is written.

    If it is interrupted, run it again: it starts from the beginning. Exits with 4 if everything is restored but partitions are
    stopped; each is named with the reason.
    """
    location = BackupLocation(source)
    if list_only:
        _show(location)
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
    with held(settings.data_dir) as roles:
        own_redis = "redis_url" not in settings.model_fields_set
        embedding = redis_of(settings, own_redis=own_redis, keeps=[roles])
        with embedding as (url, _), progress_bar(quiet=False) as show_progress:
            client = connect(url)
            if not settings.allow_volatile_redis:
                check_server(client)
            object_store = _archive(settings, manifest, again=is_unfinished(client))
            # Both marks are set before anything is written, so that an interrupted restore is recognised in Redis and in the
            # directory, and the next one may empty them.
            claim(manifest, client)
            local_files.write(settings, local_files.RESTORING, manifest.id.encode())
            restored = restore_log(manifest, location, client, archive=object_store, tell=show_progress)
            for named, file in manifest.local.items():
                local_files.write(settings, named, location.get(file, named))
            if keys is not None:
                for named, file in manifest.private.items():
                    local_files.write(settings, named, keys.get(file, named))
            stopped = _rebuild_projections(settings, url, manifest, show_progress)
            finish(client)
            (settings.data_dir / local_files.RESTORING).unlink()
    _print_restored(restored, manifest)
    print_lines(_about_keys(settings, manifest))
    print_lines(f"start it with: twinfold up --data {settings.data_dir}" + ("" if own_redis else " --redis-url …"))
    for why in stopped:
        print_lines(f"STOPPED: {why}")
    if stopped:
        print_lines(
            "these partitions wait without projections, all others run; docs/guides/backup.md says what you can do"
        )
        raise typer.Exit(INCOMPLETE)


def _print_restored(restored: Restored, manifest: BackupManifest) -> None:
    print_lines(
        f"restored {manifest.id}: {restored.entries} entries, {restored.subjects} subjects, log {manifest.epoch}"
    )
    for location_of_entry in restored.unapplied:
        print_lines(f"{location_of_entry} cannot be applied; `twinfold blocked` shows the reason once workers run")
    for location_of_entry in restored.unerased:
        print_lines(
            f"NOT ERASED AGAIN: {location_of_entry} records an erasure and cannot be read. If the backup is older than the erasure,"
            " those secrets are restored: run `twinfold erase` again for what was erased at that time"
        )


def _show(location: BackupLocation) -> None:
    for backup_id in location.ids() or [location.manifest().id]:  # Without any backup, `manifest` raises the error.
        manifest = location.manifest(backup_id)
        entries = sum(stream.head for stream in manifest.streams)
        keys = {"": "without keys", HERE: "with keys"}.get(manifest.private_at, f"keys at {manifest.private_at}")
        print_lines(f"{backup_id} log {manifest.epoch} at {time_text(manifest.at)}, {entries} entries, {keys}")


def _keys(manifest: BackupManifest, location: BackupLocation, keys_from: str | None) -> BackupLocation | None:
    if manifest.private_at == HERE:
        return location
    if keys_from is not None and not manifest.private_at:
        raise typer.BadParameter(
            f"backup {manifest.id} has no keys; choose one that has (--list), or omit --keys-from"
            " and put the key file into the data directory yourself"
        )
    return None if keys_from is None else BackupLocation(keys_from)


def _archive(settings: Settings, manifest: BackupManifest, *, again: bool) -> ObjectStore | None:
    """The object store for the archive, which must be empty unless this restore repeats one that was interrupted."""
    if not manifest.archive:
        return None
    object_store = ObjectStore(settings.effective_archive_url)
    names = object_store.names()
    if names and not again:
        raise TargetNotEmpty(f"the archive {object_store.url}", names[0])
    return object_store


def _rebuild_projections(
    settings: Settings, url: str, manifest: BackupManifest, show_progress: ShowProgress
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


def _about_keys(settings: Settings, manifest: BackupManifest) -> str:
    if not manifest.key_ids:
        return "the backup has no secrets"
    path = settings.effective_key_file
    try:
        key_id = keyfile.KeyFile(keyfile.read_key(path)).id
    except KeyFileUnreadable:
        key_id = "missing or unreadable"
    missing = {needed_id: count for needed_id, count in manifest.key_ids.items() if needed_id != key_id}
    if not missing:
        return f"key file {path} opens all {counted(sum(manifest.key_ids.values()), 'secret')}"
    needed = " and ".join(
        f"{counted(count, 'secret')} with key file {needed_id}" for needed_id, count in missing.items()
    )
    return f"NO KEY: {needed} cannot be read, because {path} is {key_id}. Put that key file there before you start the system."
