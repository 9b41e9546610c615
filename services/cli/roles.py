"""`twinfold api`, `worker` and `scheduler`: one role in this process, instead of all of them as with `twinfold up`."""

import os
import sys
from typing import Annotated, NoReturn

import typer

from events.settings import Settings, environment_of, read_settings
from services.cli.commands import command
from services.cli.flags import AllowVolatileRedis, Port, QueueUrl, RedisUrl, TlsCertificate, TlsKey


@command(example="twinfold api --redis-url redis://10.0.0.5:6379/0")
def api(
    *,
    redis_url: RedisUrl = None,
    queue_url: QueueUrl = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Any address beyond this machine requires TLS.")
    ] = None,
    port: Port = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Serve the HTTP API on this machine until Ctrl-C. `twinfold worker` starts the workers."""
    settings = read_settings(
        redis_url=redis_url,
        queue_url=queue_url,
        host=host,
        port=port,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        allow_volatile_redis=allow_volatile_redis,
    )
    become("services.api", settings)


@command(example="twinfold worker --count 4")
def worker(
    *,
    redis_url: RedisUrl = None,
    queue_url: QueueUrl = None,
    count: Annotated[int | None, typer.Option(min=1, max=64, help="Number of worker processes to keep alive.")] = None,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Apply the log to the projections until Ctrl-C, with a pool of worker processes and the reconciler."""
    settings = read_settings(
        redis_url=redis_url, queue_url=queue_url, workers=count, allow_volatile_redis=allow_volatile_redis
    )
    become("workers.pool", settings)


@command(example="twinfold scheduler --redis-url redis://10.0.0.5:6379/0")
def scheduler(
    *, redis_url: RedisUrl = None, queue_url: QueueUrl = None, allow_volatile_redis: AllowVolatileRedis = None
) -> None:
    """Start and end deployments at their times, and advance rollouts, until Ctrl-C.

    Of several schedulers one works and the others wait to take over.
    """
    settings = read_settings(redis_url=redis_url, queue_url=queue_url, allow_volatile_redis=allow_volatile_redis)
    become("services.scheduler", settings)


def become(module: str, settings: Settings, *arguments: str) -> NoReturn:
    """Replace this process by a module, started with the settings as TWINFOLD_* variables."""
    # By name, because services and workers may not import each other (the import contracts in pyproject.toml). In place of
    # this process, so that its id, signals and exit code are those of the role.
    command = [sys.executable, "-m", module, *arguments]
    os.execve(sys.executable, command, {**os.environ, **environment_of(settings)})  # noqa: S606 - our own module
