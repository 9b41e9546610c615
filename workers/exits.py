"""What a process of this package exits with when it cannot work: the codes of services/cli/exits.py, of which it knows these."""

from redis.exceptions import RedisError

from events.log.errors import LogError, LogNotInitialised, LogUnavailable, UnsafeRedis
from events.processes.supervised import UNAVAILABLE
from events.settings import SettingsInvalid

REFUSED = 1
USAGE = 2


def code_of(error: LogError | SettingsInvalid | RedisError) -> int:
    """The exit code that an error stands for."""
    match error:
        case SettingsInvalid():
            return USAGE
        case LogUnavailable() | LogNotInitialised() | UnsafeRedis() | RedisError():
            return UNAVAILABLE
        case LogError():
            return REFUSED
