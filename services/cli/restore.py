"""`twinfold restore`: a system out of a backup, into an empty Redis and an empty data directory."""

import os
import subprocess
import sys
from typing import Annotated

import typer

from events.backup.backup import BackupProgress
from events.backup.errors import TargetNotEmpty
from events.backup.location import BackupLocation
from events.backup.manifest import HERE, BackupManifest
from events.backup.restore import claim, finish, is_unfinished, verify
from events.backup.restore import restore as restore_log
from events.device.times import time_text
from events.log.checks import check_server
from events.log.connect import Client, connect
from events.log.keys import name
from events.log.object_store import ObjectStore
from events.number_text import counted
from events.secrets import keyfile
from events.secrets.errors import KeyFileUnreadable
from events.settings import Settings, environment_of, read_settings
from events.terminal import print_lines
from services import local_files
from services.cli.exits import INCOMPLETE, RestoreFailed
from services.cli.flags import AllowVolatileRedis, DataDir
from services.cli.progress import ProgressBar
from services.embedded_redis import redis_of
from services.up.directory import held


def restore(
    *,
    source: Annotated[str, typer.Option("--from", help="Where backups are: a directory or a URL.")],
    backup: Annotated[str | None, typer.Option(help="The id of one; the newest if not given.")] = None,
    data: DataDir = None,
    redis_url: Annotated[
        str | None, typer.Option(help="An empty Redis of your own; the one of the data directory if not given.")
    ] = None,
    archive_url: Annotated[
        str | None,
        typer.Option(help="Where archived events go: an empty directory or URL.", show_default="TWINFOLD_ARCHIVE_URL"),
    ] = None,
    keys_from: Annotated[str | None, typer.Option(help="Where --keys-to put the keys.")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Show the backups that are there, and leave.")] = False,
    verify_only: Annotated[bool, typer.Option("--verify", help="Read and check every file, and leave.")] = False,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Bring a backup back. Nothing is written before every file of it has been checked; then `twinfold up` goes on.

    It goes into an empty Redis and data directory alone. When it breaks off, start it again: it begins anew. Exits with 4 where
    everything is restored and partitions are stopped all the same, each named with the reason.

    Example: twinfold restore --from /mnt/backups --keys-from /mnt/safe --data ./twinfold-data
    """
    location = BackupLocation(source)
    if list_only:
        _show(location)
        return
    manifest = location.manifest(backup)
    keys = _keys(manifest, location, keys_from)
    with ProgressBar(quiet=False) as progress:
        verify(manifest, location, keys=keys, tell=progress.tell)
    if verify_only:
        print_lines(f"backup {manifest.id}: {counted(len(manifest.files()), 'file')} read, all as written")
        return
    settings = read_settings(
        data_dir=data, redis_url=redis_url, archive_url=archive_url, allow_volatile_redis=allow_volatile_redis
    )
    _check_free_space(settings)
    with held(settings.data_dir) as roles:
        own_redis = "redis_url" not in settings.model_fields_set
        embedding = redis_of(settings, own_redis=own_redis, keeps=[roles])
        with embedding as (url, _), ProgressBar(quiet=False) as progress:
            client = connect(url)
            if not settings.allow_volatile_redis:
                check_server(client)
            object_store = _archive(settings, manifest, again=is_unfinished(client))
            claim(manifest, client)
            local_files.write(settings, local_files.RESTORING, manifest.id.encode())
            restored = restore_log(manifest, location, client, archive=object_store, tell=progress.tell)
            for named, file in manifest.local.items():
                local_files.write(settings, named, location.get(file, named))
            if keys is not None:
                for named, file in manifest.private.items():
                    local_files.write(settings, named, keys.get(file, named))
            stopped = _rebuild_projections(settings, url, manifest, progress)
            _finish(settings, client)
    print_lines(
        f"restored {manifest.id}: {restored.entries} entries, {restored.subjects} subjects, log {manifest.epoch}"
    )
    for location_of_entry in restored.unapplied:
        print_lines(f"{location_of_entry} cannot be applied: `twinfold blocked` says more when workers run")
    for location_of_entry in restored.unerased:
        print_lines(
            f"NOT ERASED AGAIN: {location_of_entry} says that secrets were erased, and cannot be read; if the backup was taken before"
            " they were destroyed they are back: `twinfold erase` whatever was erased at that time"
        )
    print_lines(_about_keys(settings, manifest))
    print_lines(f"start it with: twinfold up --data {settings.data_dir}" + ("" if own_redis else " --redis-url …"))
    for why in stopped:
        print_lines(f"STOPPED: {why}")
    if stopped:
        print_lines(
            "these partitions have no projections and wait; all others go on. docs/guides/backup.md says what can be done"
        )
        raise typer.Exit(INCOMPLETE)


def _show(location: BackupLocation) -> None:
    for backup_id in location.ids() or [location.manifest().id]:  # Where there is none, that says so.
        found = location.manifest(backup_id)
        entries = sum(stream.head for stream in found.streams)
        keys = {"": "without keys", HERE: "with keys"}.get(found.private_at, f"keys at {found.private_at}")
        print_lines(f"{backup_id} log {found.epoch} at {time_text(found.at)}, {entries} entries, {keys}")


def _keys(manifest: BackupManifest, location: BackupLocation, keys_from: str | None) -> BackupLocation | None:
    if manifest.private_at == HERE:
        return location
    if keys_from is not None and not manifest.private_at:
        raise typer.BadParameter(
            f"backup {manifest.id} was made without keys; take one that has them (--list), or leave --keys-from out"
            " and put the key file into the data directory yourself"
        )
    return None if keys_from is None else BackupLocation(keys_from)


def _check_free_space(settings: Settings) -> None:
    found = local_files.blocking_file(settings)
    if found is not None:
        raise TargetNotEmpty(str(settings.data_dir), found)


def _archive(settings: Settings, manifest: BackupManifest, *, again: bool) -> ObjectStore | None:
    """Where the archive goes; only a restore that broke off may have left something there."""
    if not manifest.archive:
        return None
    object_store = ObjectStore(settings.effective_archive_url)
    there = object_store.names()
    if there and not again:
        raise TargetNotEmpty(f"the archive {object_store.url}", there[0])
    return object_store


def _rebuild_projections(settings: Settings, url: str, manifest: BackupManifest, progress: ProgressBar) -> list[str]:
    """Apply the projections; answers why partitions are stopped that cannot be applied to where they were."""
    # Workers and services do not know each other; what composes a system starts them by name.
    environment = {**os.environ, **environment_of(settings.model_copy(update={"redis_url": url}))}
    command = [sys.executable, "-m", "workers.restored", str(manifest.partitions), manifest.epoch]
    stopped = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        assert process.stdout is not None
        for line in process.stdout:
            done, _, why = line.strip().partition(" ")
            progress.tell(BackupProgress("projections", int(done), manifest.partitions))
            if why:
                partition = f"{name(int(done) - 1)}: "
                stopped.append(partition + why.removeprefix(partition))
    if process.returncode:
        raise RestoreFailed("projections cannot be applied from what was restored; see above")
    return stopped


def _finish(settings: Settings, client: Client) -> None:
    finish(client)
    (settings.data_dir / local_files.RESTORING).unlink()


def _about_keys(settings: Settings, manifest: BackupManifest) -> str:
    if not manifest.key_ids:
        return "there are no secrets to open"
    path = settings.effective_key_file
    try:
        found = keyfile.load(path).id
    except KeyFileUnreadable:
        found = "not there"
    missing = {one: count for one, count in manifest.key_ids.items() if one != found}
    if not missing:
        return f"key file {path} opens all secrets there are ({sum(manifest.key_ids.values())})"
    wanted = " and ".join(f"{counted(count, 'secret')} with key file {one} alone" for one, count in missing.items())
    return f"NO KEY: one can open {wanted}, and {path} is {found}. Put that key file there before anybody starts."
