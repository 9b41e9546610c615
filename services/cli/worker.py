"""`twinfold worker`: a pool of worker processes, and the reconciler."""

import os
import sys
from typing import Annotated

import typer

from events.settings import environment_of, read_settings
from services.cli.flags import AllowVolatileRedis, RedisUrl


def worker(
    *,
    redis_url: RedisUrl = None,
    queue_url: Annotated[str | None, typer.Option(help="Where RQ's queue is; the same server if not given.")] = None,
    count: Annotated[int | None, typer.Option(min=1, max=64, help="How many worker processes to keep alive.")] = None,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Apply the log into projections: N worker processes, and the reconciler that leaves no partition behind. Ends on Ctrl-C.

    Example: twinfold worker --count 4
    """
    settings = read_settings(
        redis_url=redis_url, queue_url=queue_url, workers=count, allow_volatile_redis=allow_volatile_redis
    )
    # The pool takes this process over: services and workers know each other by name only.
    command = [sys.executable, "-m", "workers.pool"]
    os.execve(sys.executable, command, {**os.environ, **environment_of(settings)})  # noqa: S606 - our own module
