"""Commands that are sent at once, and whose answers are read later."""

from typing import Any

import pytest
from redis import Redis

from events.log.connect import connect
from events.log.exchange import Exchange
from services.embedded_redis import EmbeddedRedis
from tests.servers import flush


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

    exchange = Exchange(client, [("GET", "a"), ("BLPOP", "none", "0.3")])
    monkeypatch.setattr(connection, "read_response", interrupted)
    with pytest.raises(KeyboardInterrupt):
        exchange.answers()
    assert client.get("b") == b"2"
    client.close()
