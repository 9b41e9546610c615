"""A Redis whose memory is full refuses writes in commands and in scripts: everybody is told to come back, and reads go on."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from redis import Redis

from services.embedded_redis import EmbeddedRedis
from tests.api.serving import served
from tests.servers import eventually, redis_server
from tests.workers.system import System, base, join

pytestmark = pytest.mark.redis_server

Served = tuple[System, httpx.Client]


@contextlib.contextmanager
def memory_full(url: str) -> Iterator[None]:
    client = Redis.from_url(url)
    client.config_set("maxmemory", 1_000_000)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)
        client.close()


@pytest.fixture(scope="module")
def full(shared_redis: EmbeddedRedis) -> Iterator[Served]:
    """A system whose Redis takes no writes any more."""
    with served(shared_redis) as (system, http):
        system.do(*join("edge-1", site="north"))
        http.post("/v1/deployments/a", json={"content": base("m"), "targetCondition": "*"}).raise_for_status()
        system.settle()
        with memory_full(shared_redis.url):
            yield system, http


WRITES: list[tuple[str, str, Any]] = [
    ("PUT", "/devices/edge-2", {"deviceId": "edge-2"}),
    ("PATCH", "/twins/edge-1", {"tags": {"site": "south"}}),
    ("DELETE", "/devices/edge-1", None),
    ("POST", "/devices", [{"id": "edge-3", "importMode": "create"}]),
    ("PUT", "/configurations/b", {"id": "b", "content": base("n"), "targetCondition": "", "priority": 1}),
    ("POST", "/v1/deployments/b", {"content": base("n"), "targetCondition": "*"}),
    ("DELETE", "/configurations/a", None),
    ("PUT", "/v1/deployments/a/schedule", {"end": "2999-01-01T00:00:00Z"}),
    ("POST", "/v1/devices/edge-1/reports", {"patch": {"model": "x"}}),
    ("POST", "/v1/events", {"command": "RegisterDevice", "device_id": "edge-4"}),
    ("PUT", "/v1/waivers/w", {"rule": "privileged", "reason": "it is meant so", "until": "2999-01-01"}),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_write_is_answered_with_503_and_when_to_come_back(full: Served, method: str, path: str, body: Any) -> None:
    headers = {"If-Match": "*"} if method == "DELETE" else {}
    answer = full[1].request(method, path, json=body, headers=headers)
    assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "1"), answer.text


def test_readiness_and_metrics_say_that_memory_is_full_while_health_and_reads_go_on(full: Served) -> None:
    _, http = full
    ready = http.get("/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert "memory is full" in ready.json()["redis"]
    metrics = http.get("/metrics").text
    assert "twinfold_redis_up 1.0" in metrics
    assert "twinfold_redis_writable 0.0" in metrics
    assert http.get("/healthz").is_success
    assert http.get("/v1/devices/edge-1/effective").json()["layers"] == ["a"]


def test_a_command_that_writes_exits_with_3(full: Served) -> None:
    system, _ = full
    words = [sys.executable, "-m", "services.cli", "token", "issue", "ada", "--role", "read"]
    environment = {**os.environ, "TWINFOLD_REDIS_URL": system.url, "TWINFOLD_DATA_DIR": str(system.data_dir)}
    ran = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout, "maxmemory" in ran.stderr) == (3, "", True), ran.stderr


@pytest.mark.full
def test_workers_and_the_scheduler_go_on_once_there_is_memory_again() -> None:
    with (
        redis_server() as server,
        served(server) as (system, http),
        system.process("-m", "services.scheduler") as scheduler,
    ):
        with memory_full(server.url):
            assert http.put("/devices/edge-9", json={"deviceId": "edge-9"}).status_code == 503
            eventually(lambda: not http.get("/readyz").is_success, what="it is not ready")
        eventually(lambda: http.get("/readyz").is_success, what="it is ready")
        http.put("/devices/edge-9", json={"deviceId": "edge-9"}).raise_for_status()
        system.settle()
        assert scheduler.poll() is None
