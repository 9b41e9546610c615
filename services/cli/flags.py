"""Flags that several commands share; each goes before the variable TWINFOLD_* of its name."""

from typing import Annotated

import typer

RedisUrl = Annotated[
    str | None,
    typer.Option(
        help="Where the log is, as in redis://127.0.0.1:6379/0.", envvar=[], show_default="TWINFOLD_REDIS_URL"
    ),
]

AllowVolatileRedis = Annotated[
    bool | None,
    typer.Option("--allow-volatile-redis", help="Start although this Redis would lose acknowledged facts."),
]
