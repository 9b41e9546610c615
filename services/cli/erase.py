"""`twinfold erase`: secrets and personal tags destroyed for good; history stays, and still verifies."""

from typing import Annotated

import typer

from events.log.opening import open_log
from events.producer.erasing import InUse, Kind, erasable
from events.producer.erasing import erase as erase_secrets
from events.producer.producer import Producer
from events.secrets.redis import RedisSecretStore
from events.terminal import say
from services.cli.flags import AllowVolatileRedis, By, DataDir, RedisUrl, author
from services.cli.log_place import log_settings


def erase(
    kind: Annotated[Kind, typer.Argument(help="Whose secrets: device, deployment or webhook.")],
    subject: Annotated[str, typer.Argument(help="Its id.")],
    *,
    reason: Annotated[str, typer.Option(help="Why; recorded in the log.")],
    tags: Annotated[
        bool, typer.Option("--tags", help="Of a device: the personal tags alone, its keys go on working.")
    ] = False,
    even_in_use: Annotated[bool, typer.Option("--even-in-use", help="Although something needs them.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    by: By = None,
    redis_url: RedisUrl = None,
    data: DataDir = None,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Destroy the keys of secrets: nobody reads them again, and every fact that refers to them stays as it is.

    Backups taken before still have them: delete those, as with `twinfold backup --keep 1`.

    Example: twinfold erase device edge-1 --tags --reason "its owner asked for it"
    """
    if tags and kind is not Kind.DEVICE:
        raise typer.BadParameter("only devices have tags", param_hint="--tags")
    settings = log_settings(data_dir=data, redis_url=redis_url, allow_volatile_redis=allow_volatile_redis)
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    store = RedisSecretStore(log.client)
    found = erasable(log, store, kind, subject, tags_alone=tags)
    if found.users and not even_in_use:
        raise InUse(found.of, found.users)
    if not yes:
        typer.confirm(f"{len(found.ids)} secrets of {found.of} can never be read again. Go on?", abort=True)
    erase_secrets(log, store, Producer(log, by=author(log, settings, by)), found, reason=reason)
    say(f"{len(found.ids)} secrets of {found.of} are erased; backups taken before still have them")
