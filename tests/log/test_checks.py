from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from events import open_producer
from events.log.connect import check_information, connect, refusal_in
from events.log.errors import LogMismatch, LogNotInitialised, LogOfAnotherVersion, LogUnavailable, UnsafeRedis
from events.log.keys import FLEET, key
from events.log.log_factory import FORMAT, initialise, open_log
from services.embedded_redis import EmbeddedRedis
from tests.servers import flush, redis_server

SAFE = {"redis_version": "6.2.14", "maxmemory_policy": "noeviction", "aof_enabled": 1}


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    with redis_server() as server:
        yield server


def test_a_safe_server_passes_by_config_or_by_info_alone() -> None:
    check_information(SAFE, {"maxmemory-policy": "noeviction", "appendonly": "yes"})
    check_information(SAFE, {})


@pytest.mark.parametrize(
    ("information", "configured", "setting"),
    [
        ({**SAFE, "maxmemory_policy": "allkeys-lru"}, {}, "maxmemory-policy"),
        (SAFE, {"maxmemory-policy": "volatile-ttl", "appendonly": "yes"}, "maxmemory-policy"),
        ({**SAFE, "aof_enabled": 0}, {}, "appendonly"),
        (SAFE, {"maxmemory-policy": "noeviction", "appendonly": "no"}, "appendonly"),
        ({**SAFE, "redis_version": "6.0.16"}, {}, "version"),
        ({**SAFE, "redis_version": "5.9"}, {}, "version"),
        ({}, {}, "version"),
    ],
)
def test_an_unsafe_server_is_refused_by_the_name_of_the_setting(
    information: dict[str, Any], configured: dict[str, str], setting: str
) -> None:
    with pytest.raises(UnsafeRedis, match=setting) as caught:
        check_information(information, configured)
    assert caught.value.setting == setting


@pytest.mark.parametrize(
    ("information", "refusal"),
    [
        ({}, None),
        ({"maxmemory": 0, "used_memory": 10**9}, None),
        ({"maxmemory": 1000, "used_memory": 999}, None),
        ({"maxmemory": 1000, "used_memory": 1000}, "memory is full: 1000 of 1000 bytes"),
        ({"maxmemory": 1000, "used_memory": 1099, "mem_not_counted_for_evict": 100}, None),
        ({"aof_last_write_status": "err"}, "the append-only file cannot be written"),
        ({"role": "slave"}, "replica"),
    ],
)
def test_a_server_that_would_refuse_a_write_is_told_from_what_it_says_of_itself(
    information: dict[str, Any], refusal: str | None
) -> None:
    if refusal is None:
        assert refusal_in(information) is None
    else:
        assert refusal in str(refusal_in(information))


@pytest.mark.redis_server
@pytest.mark.parametrize(("setting", "value"), [("appendonly", "no"), ("maxmemory-policy", "allkeys-lru")])
def test_nothing_opens_a_log_on_a_server_that_forgets(server: EmbeddedRedis, setting: str, value: str) -> None:
    initialise(server.url).client.close()
    client = Redis.from_url(server.url)
    client.config_set(setting, value)
    for opening in (open_log, initialise, open_producer):
        with pytest.raises(UnsafeRedis, match=f"{setting} {value}"):
            opening(server.url)
    open_log(server.url, allow_volatile=True).client.close()
    client.close()


@pytest.mark.redis_server
def test_where_config_is_forbidden_info_decides(server: EmbeddedRedis) -> None:
    client = Redis.from_url(server.url)
    client.execute_command("ACL SETUSER app on >secret ~* +@all -config")
    client.close()
    url = f"{server.url}?username=app&password=secret"
    initialise(url).client.close()
    admin = Redis.from_url(server.url)
    admin.config_set("maxmemory-policy", "allkeys-lru")
    admin.close()
    with pytest.raises(UnsafeRedis, match="maxmemory-policy"):
        open_log(url)


@pytest.mark.redis_server
def test_an_empty_database_is_no_log_and_making_one_twice_is_making_it_once(shared_redis: EmbeddedRedis) -> None:
    client = Redis.from_url(shared_redis.url)
    flush(client)
    with pytest.raises(LogNotInitialised):
        open_log(shared_redis.url)
    assert client.keys() == []
    first, second = initialise(shared_redis.url, partitions=3), initialise(shared_redis.url, partitions=3)
    assert (first.epoch, first.partitions) == (second.epoch, second.partitions)
    assert second.head(-1) == 1
    with pytest.raises(LogMismatch, match="3 partitions"):
        initialise(shared_redis.url, partitions=4)
    with pytest.raises(ValueError, match="1 to 1000"):
        initialise(shared_redis.url, partitions=0)
    unnumbered = initialise(shared_redis.url)
    assert (unnumbered.epoch, unnumbered.partitions) == (first.epoch, 3)
    for log in (first, second, unnumbered):
        log.client.close()
    client.close()


@pytest.mark.redis_server
@pytest.mark.parametrize(
    ("stored", "remedy"),
    [(None, "`twinfold backup`.*`twinfold restore`"), (FORMAT + 1, "newer")],
    ids=["older", "newer"],
)
def test_a_log_in_another_storage_format_is_not_opened_and_stays_as_it_is(
    shared_redis: EmbeddedRedis, stored: int | None, remedy: str
) -> None:
    client: Any = Redis.from_url(shared_redis.url)
    flush(client)
    initialise(shared_redis.url, partitions=2).client.close()
    if stored is None:
        # As versions before format 2 have left it.
        client.hdel(key(FLEET, "meta"), "format")
        client.rename(key(FLEET, "subjects"), key(FLEET, "heads"))
    else:
        client.hset(key(FLEET, "meta"), "format", stored)
    before = {name: client.dump(name) for name in client.keys("*")}
    for opening in (open_log, initialise, open_producer):
        with pytest.raises(LogOfAnotherVersion, match=remedy) as caught:
            opening(shared_redis.url)
        assert caught.value.stored == (stored or 1)
    assert {name: client.dump(name) for name in client.keys("*")} == before
    client.close()


def test_a_server_that_is_not_there_is_unavailable_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(LogUnavailable) as caught:
        open_log(f"unix://{tmp_path}/nothing.sock?password=hunter2")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(LogUnavailable):
        connect("redis+cluster://127.0.0.1:1")
