import pytest
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,  # noqa: A004 - redis-py's name
    NoScriptError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)

from events.log.connect import answering
from events.log.errors import LogUnavailable
from events.redis_errors import unavailable

IN_SCRIPT = "Error running script (call to f_1b): @user_script:12: @user_script: 12: -{} in its own words"


@pytest.mark.parametrize("code", ["OOM", "MISCONF", "READONLY", "NOREPLICAS", "LOADING", "BUSY", "MASTERDOWN"])
@pytest.mark.parametrize(
    "text",
    [
        "{} in its own words",
        IN_SCRIPT,
        f"Command # 1 (EVALSHA …) of pipeline caused error: {IN_SCRIPT}",
        "Command # 2 (SET a b) of pipeline caused error: {} in its own words",
    ],
    ids=["of a command", "in a script of Redis 6.2", "in a script in a pipeline", "in a pipeline"],
)
def test_wherever_redis_names_its_reason_it_is_unavailable(text: str, code: str) -> None:
    with pytest.raises(LogUnavailable, match=code), answering():
        raise ResponseError(text.format(code))


@pytest.mark.parametrize("error", [ConnectionError("refused"), BusyLoadingError(), OutOfMemoryError("full")])
def test_what_redis_py_has_a_class_for_is_unavailable(error: RedisError) -> None:
    assert unavailable(error)


@pytest.mark.parametrize(
    "error",
    [
        ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
        ResponseError("ERR Error running script: @user_script:3: it says BUSY somewhere"),
        NoScriptError("No matching script"),
    ],
)
def test_what_asking_again_would_not_help_is_raised_as_it_is(error: ResponseError) -> None:
    with pytest.raises(type(error)), answering():
        raise error
