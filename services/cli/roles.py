"""`twinfold up`: all roles on one machine; `api`, `worker` and `scheduler`: one role in this process."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

from events.settings import Settings, environment_of, read_settings
from services.cli.commands import From, command, flag
from services.cli.flags import AllowVolatileRedis, ApiProcesses, Port, QueueUrl, RedisUrl, TlsCertificate, TlsKey


@command(example="up --data ./twinfold-data --workers 4")
def up(
    *,
    data: Annotated[Path | None, flag("Directory that holds all data.", show_default="TWINFOLD_DATA_DIR")] = None,
    port: Port = None,
    redis_url: Annotated[
        str | None, flag("A Redis of your own. The default is an embedded one in the data directory.")
    ] = None,
    queue_url: QueueUrl = None,
    workers: Annotated[int | None, flag("Number of worker processes.", min=1, max=64)] = None,
    api_processes: ApiProcesses = None,
    host: Annotated[str | None, flag("Address to listen on, as in 0.0.0.0. The default is this machine only.")] = None,
    name: Annotated[
        list[str] | None, flag("A further name of this machine for its certificate; can be repeated.")
    ] = None,
    tls: Annotated[bool, flag("Serve HTTPS, with a certificate from an authority in the data directory.")] = True,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Start Redis, the API, the workers and the scheduler, and keep them running until Ctrl-C."""
    # The roles start sooner without what `up` imports, such as cryptography.
    from services.up.run import run

    settings = read_settings(
        data_dir=data,
        port=port,
        redis_url=redis_url,
        queue_url=queue_url,
        workers=workers,
        api_processes=api_processes,
        host=host,
        names=",".join(name) if name else None,
        tls="local" if tls else "off",
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        allow_volatile_redis=allow_volatile_redis,
    )
    run(settings)


def _settings(**flags: Any) -> From:
    """The settings of one role: its servers and its own flags."""
    return From(read_settings, redis_url=RedisUrl, queue_url=QueueUrl, **flags, allow_volatile_redis=AllowVolatileRedis)


@command(example="api --redis-url redis://10.0.0.5:6379/0")
def api(
    *,
    settings: Annotated[
        Settings,
        _settings(
            host=Annotated[str | None, flag("Address to listen on. Any address beyond this machine requires TLS.")],
            port=Port,
            api_processes=ApiProcesses,
            tls_certificate=TlsCertificate,
            tls_key=TlsKey,
        ),
    ],
) -> None:
    """Serve the HTTP API on this machine until Ctrl-C. `twinfold worker` starts the workers."""
    become("services.api", settings)


@command(example="worker --count 4")
def worker(
    *,
    settings: Annotated[
        Settings,
        _settings(
            workers=Annotated[int | None, flag("Number of worker processes to keep alive.", "--count", min=1, max=64)]
        ),
    ],
) -> None:
    """Apply the log to the projections until Ctrl-C, with a pool of worker processes and the reconciler."""
    become("workers.pool", settings)


@command(example="scheduler --redis-url redis://10.0.0.5:6379/0")
def scheduler(*, settings: Annotated[Settings, _settings()]) -> None:
    """Start and end deployments at their times, and advance rollouts, until Ctrl-C.

    Of several schedulers one works and the others wait to take over.
    """
    become("services.scheduler", settings)


def become(module: str, settings: Settings, *arguments: str) -> NoReturn:
    """Replace this process by a module, started with the settings as TWINFOLD_* variables."""
    # By name, because services and workers may not import each other (the import contracts in pyproject.toml). In place of
    # this process, so that its id, signals and exit code are those of the role.
    command = [sys.executable, "-m", module, *arguments]
    os.execve(sys.executable, command, {**os.environ, **environment_of(settings)})  # noqa: S606 - our own module
