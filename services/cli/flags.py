"""Flags that several commands share, and what follows from them. A flag overrides the variable TWINFOLD_* of its name."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from events.envelope import Principal
from events.log.port import Log
from events.settings import Settings, read_settings
from services.authors import author_of
from services.cli.commands import From, flag
from services.local_api import read_local_api

RedisUrl = Annotated[
    str | None, flag("The Redis that holds the log, as in redis://127.0.0.1:6379/0.", show_default="TWINFOLD_REDIS_URL")
]
Port = Annotated[int | None, flag("Port of the API on this machine.", min=1, max=65535)]
ApiProcesses = Annotated[
    int | None, flag("Number of processes that serve the API on its port.", "--api-processes", min=1, max=64)
]
QueueUrl = Annotated[str | None, flag("The Redis that holds RQ's queue. The default is that of the log.")]
AllowVolatileRedis = Annotated[
    bool | None, flag("Accept a Redis whose settings can lose acknowledged events.", "--allow-volatile-redis")
]
DataDir = Annotated[
    Path | None, flag("The data directory of `twinfold up`.", "--data", show_default="TWINFOLD_DATA_DIR")
]
TlsCertificate = Annotated[Path | None, flag("File with a certificate of your own and its chain, in PEM.")]
TlsKey = Annotated[Path | None, flag("File with the key of --tls-certificate, in PEM without a password.")]
By = Annotated[
    str | None,
    flag("Author of the decision, as in user:ada.", show_default="the token's name, else the operating system's user"),
]
Reason = Annotated[str, flag("Reason, recorded in the log.")]
Kinds = Annotated[list[str] | None, flag("A type of event, or AssignmentChange; can be repeated. The default is all.")]


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
