"""`twinfold scheduler`: what happens by itself, and when."""

import os
import sys

from events.settings import environment_of, read_settings
from services.cli.api import QueueUrl
from services.cli.flags import AllowVolatileRedis, RedisUrl


def scheduler(
    *, redis_url: RedisUrl = None, queue_url: QueueUrl = None, allow_volatile_redis: AllowVolatileRedis = None
) -> None:
    """Start and end deployments at their times, and carry rollouts through. Of several, one works and the others stand by.

    Example: twinfold scheduler --redis-url redis://10.0.0.5:6379/0
    """
    settings = read_settings(redis_url=redis_url, queue_url=queue_url, allow_volatile_redis=allow_volatile_redis)
    command = [sys.executable, "-m", "services.scheduler"]
    os.execve(sys.executable, command, {**os.environ, **environment_of(settings)})  # noqa: S606 - our own module
