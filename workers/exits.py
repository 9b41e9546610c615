"""Exit codes of the worker processes, a part of those in services/cli/exits.py."""

from redis.exceptions import RedisError

from events.log.errors import LogError, LogNotInitialised, LogUnavailable, UnsafeRedis
from events.processes.supervised import UNAVAILABLE
from events.settings import SettingsInvalid

REFUSED, USAGE = 1, 2


def code_of(error: LogError | SettingsInvalid | RedisError) -> int:
    """The exit code for an error."""
    match error:
        case SettingsInvalid():
            return USAGE
        # Services cannot be imported here (import-linter). UNAVAILABLE tells the supervisor that a restart may succeed.
        case LogUnavailable() | LogNotInitialised() | UnsafeRedis() | RedisError():
            return UNAVAILABLE
        case LogError():
            return REFUSED
