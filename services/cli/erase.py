"""`twinfold erase`: destroys secrets and personal tags for good; the history stays and still verifies."""

from typing import Annotated

import typer

from events.secrets.owner import SecretOwner
from events.terminal import print_lines
from services.cli.commands import argument, command, flag
from services.cli.flags import By, LogSettings, Reason, author


@command(example='erase device edge-1 --tags --reason "its owner asked for it"')
def erase(
    kind: Annotated[SecretOwner, argument("What the secrets belong to: device, deployment or webhook.")],
    subject: Annotated[str, argument("Its id.")],
    *,
    reason: Reason,
    tags: Annotated[bool, flag("For a device: only the personal tags. Its keys keep working.", "--tags")] = False,
    even_in_use: Annotated[bool, flag("Erase them although something still uses them.", "--even-in-use")] = False,
    yes: Annotated[bool, flag("Do not ask.", "--yes")] = False,
    by: By = None,
    settings: LogSettings,
) -> None:
    """Destroy the keys of secrets, so that they can never be read again. The events that refer to them stay unchanged.

    Older backups still contain the secrets: delete those, as with `twinfold backup --keep 1`.
    """
    from events.log.log_factory import open_log
    from events.producer.erasure import InUse, erasable
    from events.producer.erasure import erase as erase_secrets
    from events.producer.producer import Producer
    from events.secrets.redis import RedisSecretStore

    if tags and kind is not SecretOwner.DEVICE:
        raise typer.BadParameter(f"only a device has tags, not a {kind.value}", param_hint="--tags")
    log = open_log(settings.redis_url, allow_volatile=settings.allow_volatile_redis)
    store = RedisSecretStore(log.client)
    secrets = erasable(log, store, kind, subject, tags_alone=tags)
    # Something that uses an erased secret fails later, far from this command: a deployment that can no longer be delivered.
    if secrets.users and not even_in_use:
        raise InUse(secrets.of, secrets.users)
    if not yes:
        typer.confirm(f"{len(secrets.ids)} secrets of {secrets.of} can never be read again. Continue?", abort=True)
    erase_secrets(log, store, Producer(log, by=author(log, settings, by)), secrets, reason=reason)
    print_lines(f"{len(secrets.ids)} secrets of {secrets.of} are erased; older backups still have them")
