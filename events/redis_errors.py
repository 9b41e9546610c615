"""Recognises the errors of Redis that are temporary."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redis import exceptions

_UNAVAILABLE = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.BusyLoadingError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.ClusterDownError,
    exceptions.RedisClusterException,
    # While a slot moves: a redirection that led nowhere (MovedError is an AskError), keys on two servers, and redirections or
    # refusals that did not end.
    exceptions.AskError,
    exceptions.TryAgainError,
    exceptions.ClusterError,
)

# For a command that fails within a script, Redis 6.2 answers `Error running script (call to f_…): @user_script:12: -OOM command
# not allowed …`. Redis 7 puts the code first, as for any other command.
_CODE = re.compile(
    r"(?:^|: ?-|caused error: )(?:BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|NOREPLICAS|OOM|READONLY|TRYAGAIN)\b"
)


@contextmanager
def unavailable_as(error_type: Callable[[str], Exception]) -> Iterator[None]:
    """Convert the temporary errors of Redis within the block into `error_type(why)`; other errors pass."""
    try:
        yield
    except (exceptions.RedisError, exceptions.RedisClusterException) as error:
        why = unavailable(error)
        if why is None:
            raise
        raise error_type(why) from error


def unavailable(error: exceptions.RedisError | exceptions.RedisClusterException) -> str | None:
    """Why Redis cannot execute a command now; `None` if a retry would not help."""
    text = str(error) or type(error).__name__
    if isinstance(error, _UNAVAILABLE):
        return text
    return text if isinstance(error, exceptions.ResponseError) and _CODE.search(text) else None
