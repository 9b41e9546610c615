"""`twinfold api`, `worker` and `scheduler`: one role in this process, instead of all of them as with `twinfold up`."""

import os
import sys
from typing import Annotated, NoReturn

import typer

from events.settings import Settings, environment_of, read_settings
from services.cli.commands import From, command
from services.cli.flags import AllowVolatileRedis, Port, QueueUrl, RedisUrl, TlsCertificate, TlsKey

RoleSettings = Annotated[
    Settings, From(read_settings, redis_url=RedisUrl, queue_url=QueueUrl, allow_volatile_redis=AllowVolatileRedis)
]


@command(example="twinfold api --redis-url redis://10.0.0.5:6379/0")
def api(
    *,
    settings: Annotated[
        Settings,
        From(
            read_settings,
            redis_url=RedisUrl,
            queue_url=QueueUrl,
            host=Annotated[
                str | None, typer.Option(help="Address to listen on. Any address beyond this machine requires TLS.")
            ],
            port=Port,
            tls_certificate=TlsCertificate,
            tls_key=TlsKey,
            allow_volatile_redis=AllowVolatileRedis,
        ),
    ],
) -> None:
    """Serve the HTTP API on this machine until Ctrl-C. `twinfold worker` starts the workers."""
    become("services.api", settings)


@command(example="twinfold worker --count 4")
def worker(
    *,
    settings: RoleSettings,
    count: Annotated[int | None, typer.Option(min=1, max=64, help="Number of worker processes to keep alive.")] = None,
) -> None:
    """Apply the log to the projections until Ctrl-C, with a pool of worker processes and the reconciler."""
    become("workers.pool", settings if count is None else settings.model_copy(update={"workers": count}))


@command(example="twinfold scheduler --redis-url redis://10.0.0.5:6379/0")
def scheduler(*, settings: RoleSettings) -> None:
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
