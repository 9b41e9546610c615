"""`twinfold api`: the HTTP API alone."""

import os
import sys
from typing import Annotated

import typer

from events.settings import environment_of, read_settings
from services.cli.flags import AllowVolatileRedis, RedisUrl, TlsCertificate, TlsKey

Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Where the API listens on this machine.")]
QueueUrl = Annotated[str | None, typer.Option(help="Where RQ's queue is; the same server if not given.")]


def api(
    *,
    redis_url: RedisUrl = None,
    queue_url: QueueUrl = None,
    host: Annotated[str | None, typer.Option(help="Where to listen; beyond this machine with TLS alone.")] = None,
    port: Port = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Serve the HTTP API on this machine until Ctrl-C. Workers are started apart, with `twinfold worker`.

    Example: twinfold api --redis-url redis://10.0.0.5:6379/0
    """
    settings = read_settings(
        redis_url=redis_url,
        queue_url=queue_url,
        host=host,
        port=port,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        allow_volatile_redis=allow_volatile_redis,
    )
    command = [sys.executable, "-m", "services.api"]
    os.execve(sys.executable, command, {**os.environ, **environment_of(settings)})  # noqa: S606 - our own module
