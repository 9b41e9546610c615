"""Flags that several commands share; each goes before the variable TWINFOLD_* of its name."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from events.envelope import Principal
from events.log.port import Log
from events.settings import Settings
from services.authors import author_of

RedisUrl = Annotated[
    str | None,
    typer.Option(
        help="Where the log is, as in redis://127.0.0.1:6379/0.", envvar=[], show_default="TWINFOLD_REDIS_URL"
    ),
]

AllowVolatileRedis = Annotated[
    bool | None,
    typer.Option("--allow-volatile-redis", help="Start although this Redis would lose acknowledged events."),
]

DataDir = Annotated[
    Path | None,
    typer.Option("--data", help="The data directory of `twinfold up`.", show_default="TWINFOLD_DATA_DIR"),
]

TlsCertificate = Annotated[
    Path | None, typer.Option("--tls-certificate", help="A certificate of your own, with its chain, in PEM.")
]

TlsKey = Annotated[Path | None, typer.Option("--tls-key", help="Its key, in PEM without a password.")]


By = Annotated[
    str | None,
    typer.Option(
        help="The person who decides, as in user:ada.",
        show_default="the token's name, else the operating system's user",
    ),
]


def author(log: Log, settings: Settings, by: str | None) -> Principal:
    """The author that --by names, else the person who runs the command.

    Raises:
        typer.BadParameter: --by is not kind:id.
        TokenNotAccepted, LoginsUnreadable, LogUnavailable: as `author_of`.
    """
    if by is None:
        return author_of(log, settings)
    try:
        return Principal.parse(by)
    except ValueError:
        raise typer.BadParameter(f"--by {by!r} is not kind:id, as in user:ada") from None


def point_in_time(text: str) -> int:
    """Milliseconds since 1970 of a time as people give it, as in 2026-01-31T12:00:00Z; UTC where it has no zone.

    Raises:
        typer.BadParameter: it is none.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time, as in 2026-01-31T12:00:00Z") from None
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
