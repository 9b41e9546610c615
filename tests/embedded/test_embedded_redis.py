"""The embedded server is started again when it ends, also because the disk is full, and ends with whoever embeds it."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from events import RegisterDevice, open_producer
from events.log.log_factory import initialise
from events.settings import read_settings
from services.embedded_redis import EmbeddedRedis, find_server
from tests.process_tree import is_stopped, is_there
from tests.servers import eventually, oldest_server

pytestmark = pytest.mark.redis_server

SERVER = find_server(read_settings().redis_server)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short, as a socket's path must be."""
    with tempfile.TemporaryDirectory(prefix="t-") as name:
        yield Path(name)


def answers(url: str) -> bool:
    with contextlib.closing(Redis.from_url(url)) as client, contextlib.suppress(RedisError):
        return bool(client.ping())
    return False


def tend_until(redis: EmbeddedRedis, said: list[str], text: str) -> None:
    def is_said() -> bool:
        redis.tend()
        return any(text in line for line in said)

    eventually(is_said, what=f"{text!r} is said")


def test_one_that_is_killed_is_started_again_with_all_that_was_acknowledged(directory: Path) -> None:
    said: list[str] = []
    with EmbeddedRedis(directory, server=SERVER, print_line=said.append) as redis:
        client = Redis.from_url(redis.url)
        for number in range(3):
            assert client.rpush("numbers", number) == number + 1
            os.kill(redis.pid, signal.SIGKILL)
            said.clear()
            tend_until(redis, said, "redis ended with -9")
            tend_until(redis, said, "redis is back")
        assert client.lrange("numbers", 0, -1) == [b"0", b"1", b"2"]
        client.close()


@pytest.mark.full
def test_a_log_that_the_oldest_redis_wrote_is_read_and_goes_on(directory: Path) -> None:
    for number, server in enumerate((oldest_server(), SERVER)):
        with EmbeddedRedis(directory, server=server) as redis:
            log = initialise(redis.url, partitions=1)
            with open_producer(redis.url, by="user:ada") as producer:
                producer.do(RegisterDevice(f"edge-{number}"))
            assert log.head(0) == number + 1
            log.client.close()


def test_one_that_is_stopped_is_continued(directory: Path) -> None:
    said: list[str] = []
    with EmbeddedRedis(directory, server=SERVER, print_line=said.append) as redis:
        os.kill(redis.pid, signal.SIGSTOP)
        tend_until(redis, said, "was stopped and is continued")
        eventually(lambda: answers(redis.url), what="it answers")


def test_while_the_disk_is_full_it_is_tried_on_and_with_context_it_goes_on_with_all_that_was_acknowledged(
    directory: Path,
) -> None:
    # A limit to the size of a file is a full disk to the server: it cannot write its file further, and ends.
    limited = directory / "limited"
    limited.touch()
    server = directory / "server"
    server.write_text(f'#!/bin/bash\ntrap "" XFSZ\n[ -e {limited} ] && ulimit -f 64\nexec {SERVER} "$@"\n')
    server.chmod(0o755)
    said: list[str] = []
    acknowledged = 0
    with EmbeddedRedis(directory / "redis", server=server, print_line=said.append) as redis:
        client = Redis.from_url(redis.url)
        with contextlib.suppress(RedisError):
            while True:
                acknowledged = int(client.rpush("numbers", b"x" * 1000))
        assert acknowledged > 10
        tend_until(redis, said, "redis ended with 1")
        limited.unlink()
        tend_until(redis, said, "redis is back")
        assert client.llen("numbers") >= acknowledged
        eventually(lambda: client.rpush("numbers", b"y" * 100_000), what="it takes writes")
        client.close()


PARENT = f"""
import pathlib, sys, time
from services.embedded_redis import EmbeddedRedis
with EmbeddedRedis(pathlib.Path(sys.argv[1]), server=pathlib.Path({str(SERVER)!r})) as redis:
    print(redis.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("stopped", [False, True], ids=["", "while it is stopped"])
def test_it_ends_with_whoever_embeds_it_and_loses_nothing(directory: Path, *, stopped: bool) -> None:
    command = [sys.executable, "-c", PARENT, str(directory / "redis")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        with contextlib.closing(Redis.from_url(f"unix://{directory}/redis/redis.sock")) as client:
            client.set("a", "b")
        if stopped:
            os.kill(pid, signal.SIGSTOP)
            eventually(lambda: is_stopped(pid), what="it is stopped")
        parent.kill()
    eventually(lambda: not is_there(pid), what="the server has ended")
    with (
        EmbeddedRedis(directory / "redis", server=SERVER) as redis,
        contextlib.closing(Redis.from_url(redis.url)) as client,
    ):
        assert client.get("a") == b"b"
