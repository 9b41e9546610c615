"""A producer that a script opens by a URL, on a real server."""

from collections.abc import Iterator

import pytest
from redis import Redis

from events import RegisterDevice, open_producer
from events.log.log_factory import initialise
from services.embedded_redis import EmbeddedRedis
from tests.servers import flush

pytestmark = pytest.mark.redis_server


@pytest.fixture
def url(shared_redis: EmbeddedRedis) -> Iterator[str]:
    client = Redis.from_url(shared_redis.url)
    flush(client)
    initialise(shared_redis.url, partitions=1).client.close()
    yield shared_redis.url
    client.close()


def jobs(url: str) -> int:
    with Redis.from_url(url) as client:
        return len(client.keys("rq:job:*"))


def test_workers_are_woken_in_the_queue_that_the_variable_names(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINFOLD_QUEUE_URL", f"{url}?db=1")
    with open_producer(url) as producer:
        producer.do(RegisterDevice("edge-1"))
    assert (jobs(url), jobs(f"{url}?db=1")) == (0, 1)


def test_an_argument_overrides_the_variable(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINFOLD_QUEUE_URL", f"{url}?db=1")
    with open_producer(url, queue_url=f"{url}?db=2") as producer:
        producer.do(RegisterDevice("edge-1"))
    assert (jobs(f"{url}?db=1"), jobs(f"{url}?db=2")) == (0, 1)


def test_the_log_on_a_cluster_needs_a_queue_and_the_error_names_the_variable() -> None:
    with pytest.raises(ValueError, match="TWINFOLD_QUEUE_URL"):
        open_producer("redis+cluster://127.0.0.1:1")
