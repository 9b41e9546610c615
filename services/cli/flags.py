"""Flags that several commands share, and what follows from them. A flag overrides the variable TWINFOLD_* of its name."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from events.envelope import Principal
from events.log.port import Log
from events.settings import Settings, read_settings
from services.authors import author_of
from services.cli.commands import From
from services.local_api import read_local_api

# `envvar=[]`: `read_settings` reads the variable, as it does for the roles, which have no flags. typer would read it twice.
RedisUrl = Annotated[
    str | None,
    typer.Option(
        help="The Redis that holds the log, as in redis://127.0.0.1:6379/0.",
        envvar=[],
        show_default="TWINFOLD_REDIS_URL",
    ),
]

Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the API on this machine.")]

QueueUrl = Annotated[str | None, typer.Option(help="The Redis that holds RQ's queue. The default is that of the log.")]

AllowVolatileRedis = Annotated[
    bool | None,
    typer.Option("--allow-volatile-redis", help="Accept a Redis whose settings can lose acknowledged events."),
]

DataDir = Annotated[
    Path | None, typer.Option("--data", help="The data directory of `twinfold up`.", show_default="TWINFOLD_DATA_DIR")
]

TlsCertificate = Annotated[
    Path | None, typer.Option("--tls-certificate", help="File with a certificate of your own and its chain, in PEM.")
]

TlsKey = Annotated[
    Path | None, typer.Option("--tls-key", help="File with the key of --tls-certificate, in PEM without a password.")
]


By = Annotated[
    str | None,
    typer.Option(
        help="Author of the decision, as in user:ada.",
        show_default="the token's name, else the operating system's user",
    ),
]

Reason = Annotated[str, typer.Option(help="Reason, recorded in the log.")]

Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", help="A type of event, or AssignmentChange; can be repeated. The default is all."),
]


def log_settings(**flags: Any) -> Settings:
    """Settings that lead to the log; `flags` override variables, as in `read_settings`.

    Raises:
        SettingsInvalid: a flag or a variable is invalid.
    """
    settings = read_settings(**flags)
    local = None if "redis_url" in settings.model_fields_set else read_local_api(settings.data_dir)
    if local is None:
        return settings
    queue = {} if "queue_url" in settings.model_fields_set else {"queue_url": local.queue_url}
    return settings.model_copy(update={"redis_url": local.redis_url, **queue})


QueueFlags = Annotated[
    dict[str, Any],
    From(dict, redis_url=RedisUrl, data_dir=DataDir, queue_url=QueueUrl, allow_volatile_redis=AllowVolatileRedis),
]
LogSettings = Annotated[
    Settings, From(log_settings, redis_url=RedisUrl, data_dir=DataDir, allow_volatile_redis=AllowVolatileRedis)
]


def author(log: Log, settings: Settings, by: str | None) -> Principal:
    """The author that `--by` names; without it the person who runs the command.

    Raises:
        typer.BadParameter: --by is not kind:id.
        TokenNotAccepted, LoginsUnreadable, LogUnavailable: as `author_of`.
    """
    if by is None:
        return author_of(log, settings)
    try:
        return Principal.parse(by)
    except ValueError:
        raise typer.BadParameter(f"{by!r} is not kind:id, as in user:ada", param_hint="--by") from None


def point_in_time(text: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 time, as in 2026-01-31T12:00:00Z; without a zone it is UTC.

    Raises:
        typer.BadParameter: it is no such time.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time, as in 2026-05-01 or 2026-05-01T12:30:00Z") from None
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
