"""`twinfold init`: a log in an empty Redis database."""

from typing import Annotated

import typer

from events.log.keys import PARTITIONS_DEFAULT, PARTITIONS_MAX
from events.log.log_factory import initialise
from events.settings import hide_password, read_settings
from events.terminal import print_lines
from services.cli.commands import command
from services.cli.flags import AllowVolatileRedis, RedisUrl


@command(example="twinfold init --partitions 16")
def init(
    *,
    redis_url: RedisUrl = None,
    partitions: Annotated[
        int, typer.Option(min=1, max=PARTITIONS_MAX, help="Number of partitions; it cannot be changed later.")
    ] = PARTITIONS_DEFAULT,
    allow_volatile_redis: AllowVolatileRedis = None,
) -> None:
    """Create a log in an empty Redis database. An existing log is not changed."""
    settings = read_settings(redis_url=redis_url, allow_volatile_redis=allow_volatile_redis)
    log = initialise(settings.redis_url, partitions=partitions, allow_volatile=settings.allow_volatile_redis)
    print_lines(f"log {log.epoch} with {log.partitions} partitions at {hide_password(settings.redis_url)}")
