"""`twinfold up`: all roles on one machine."""

from pathlib import Path
from typing import Annotated

import typer

from events.settings import read_settings
from events.terminal import print_lines
from services.cli.commands import command
from services.cli.flags import AllowVolatileRedis, Port, QueueUrl, TlsCertificate, TlsKey
from services.up.run import run


@command(example="twinfold up --data ./twinfold-data --workers 4")
def up(
    *,
    data: Annotated[
        Path | None, typer.Option(help="Directory that holds all data.", show_default="TWINFOLD_DATA_DIR")
    ] = None,
    port: Port = None,
    redis_url: Annotated[
        str | None, typer.Option(help="A Redis of your own. The default is an embedded one in the data directory.")
    ] = None,
    queue_url: QueueUrl = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Number of worker processes.")] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on, as in 0.0.0.0. The default is this machine only.")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="A further name of this machine for its certificate; can be repeated.")
    ] = None,
    tls: Annotated[
        bool, typer.Option(help="Serve HTTPS, with a certificate from an authority in the data directory.")
    ] = True,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Start Redis, the API, the workers and the scheduler, and keep them running until Ctrl-C."""
    settings = read_settings(
        data_dir=data,
        port=port,
        redis_url=redis_url,
        queue_url=queue_url,
        workers=workers,
        host=host,
        names=",".join(name) if name else None,
        tls="local" if tls else "off",
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        allow_volatile_redis=allow_volatile_redis,
    )
    # A variable counts as well: with TWINFOLD_REDIS_URL set, no Redis is embedded.
    own_redis = "redis_url" not in settings.model_fields_set
    run(settings, own_redis=own_redis, print_line=print_lines)
