"""Which of Redis's errors say *not now*, wherever in the error Redis names its reason."""

import re

from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,  # noqa: A004 - redis-py's name
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004 - redis-py's name
)

_UNAVAILABLE = (
    ConnectionError,
    TimeoutError,
    BusyLoadingError,
    ReadOnlyError,
    OutOfMemoryError,
    ClusterDownError,
    RedisClusterException,
)

# A command of Lua that Redis 6.2 refuses is told as `Error running script (call to f_…): @user_script:12: -OOM command not
# allowed …`; Redis 7 puts the code first, as for a command of its own.
_CODE = re.compile(
    r"(?:^|: ?-|caused error: )(?:BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|NOREPLICAS|OOM|READONLY|TRYAGAIN)\b"
)


def unavailable(error: RedisError | RedisClusterException) -> str | None:
    """Why Redis cannot do now what it was asked; `None` where asking again would not help."""
    text = str(error) or type(error).__name__
    if isinstance(error, _UNAVAILABLE):
        return text
    return text if isinstance(error, ResponseError) and _CODE.search(text) else None
