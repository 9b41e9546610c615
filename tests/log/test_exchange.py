"""Commands that are sent at once, and whose answers are read later."""

from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from events.log.connect import connect
from events.log.exchange import Exchange
from services.embedded_redis import EmbeddedRedis
from tests.servers import flush


@pytest.mark.redis_server
def test_an_error_within_a_transaction_is_raised_after_all_answers_and_the_connection_goes_on(
    shared_redis: EmbeddedRedis,
) -> None:
    client = connect(shared_redis.url)
    assert isinstance(client, Redis)
    flush(client)
    assert Exchange(client, [[("SET", "a", "1"), ("GET", "a")], [("INCR", "a")]]).answers() == [b"OK", b"1", 2]
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        Exchange(client, [[("LPUSH", "a", "x"), ("SET", "b", "2")], [("SET", "c", "3")]]).answers()
    # A command that is refused when it is queued: nothing of its transaction runs.
    with pytest.raises(ResponseError, match="unknown command"):
        Exchange(client, [[("SET", "d", "4"), ("NOTHING", "a")], [("SET", "e", "5")]]).answers()
    assert client.mget("a", "b", "c", "d", "e") == [b"2", b"2", b"3", None, b"5"]
    client.close()


@pytest.mark.redis_server
def test_an_interrupt_between_two_answers_leaves_no_answer_to_the_next_command(
    shared_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(shared_redis.url)
    assert isinstance(client, Redis)
    flush(client)
    client.mset({"a": "1", "b": "2"})
    connection: Any = client.connection_pool.get_connection()
    client.connection_pool.release(connection)
    read_response = connection.read_response

    def interrupted() -> None:
        read_response()
        monkeypatch.undo()
        raise KeyboardInterrupt

    exchange = Exchange(client, [[("GET", "a")], [("BLPOP", "none", "0.3")]])
    monkeypatch.setattr(connection, "read_response", interrupted)
    with pytest.raises(KeyboardInterrupt):
        exchange.answers()
    assert client.get("b") == b"2"
    client.close()
