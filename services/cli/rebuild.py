"""`twinfold rebuild`: the projections replayed beside the live ones, and put in their place in one step."""

from typing import Annotated

import typer

from events.log.keys import FLEET
from services.cli.flags import AllowVolatileRedis, DataDir, RedisUrl
from services.cli.log_location import log_settings
from services.cli.replay import Workers, become_replay, stream_named


def rebuild(
    *,
    partition: Annotated[
        list[str] | None, typer.Option("--partition", help="p00, p01, …; again for more. All if not given.")
    ] = None,
    workers: Workers = None,
    json: Annotated[bool, typer.Option("--json", help="JSON, for programs.")] = False,
    redis_url: RedisUrl = None,
    data: DataDir = None,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Apply the projections anew from the log alone, and put them in place of what is there; everything goes on meanwhile.

    Exits with 0 when all are in place, 2 where one could not be rebuilt: its projections are as they were.

    Example: twinfold rebuild --partition p03
    """
    settings = log_settings(data_dir=data, redis_url=redis_url, allow_volatile_redis=allow_volatile_redis)
    streams = [stream_named(text) for text in partition or []]
    if FLEET in streams:
        raise typer.BadParameter("projections are kept by partition; the fleet's stream has none of its own")
    request = {"streams": streams, "workers": workers or 0, "json": json, "rebuild": True}
    become_replay(request, settings)
