"""`twinfold rebuild`: projections computed beside the live ones, which they replace in one step."""

from typing import Annotated

import msgspec
import typer

from events.log.keys import FLEET
from services.cli.flags import AllowVolatileRedis, DataDir, RedisUrl, log_settings
from services.cli.replay import Workers, stream_named
from services.cli.roles import become


def rebuild(
    *,
    partition: Annotated[
        list[str] | None, typer.Option("--partition", help="p00, p01, …; can be repeated. The default is all.")
    ] = None,
    workers: Workers = None,
    json: Annotated[bool, typer.Option("--json", help="JSON, for programs.")] = False,
    redis_url: RedisUrl = None,
    data: DataDir = None,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Compute the projections anew from the log and replace the stored ones, while the system runs.

    Exits with 0 if all are replaced, 2 if a partition could not be rebuilt; its projections then stay as they were.

    Example: twinfold rebuild --partition p03
    """
    settings = log_settings(data_dir=data, redis_url=redis_url, allow_volatile_redis=allow_volatile_redis)
    streams = [stream_named(text) for text in partition or []]
    if FLEET in streams:
        raise typer.BadParameter(
            "the fleet's stream has no projections; name a partition, as in p03", param_hint="--partition"
        )
    request = {"streams": streams, "workers": workers or 0, "json": json, "rebuild": True}
    become("workers.replay", settings, msgspec.json.encode(request).decode())
