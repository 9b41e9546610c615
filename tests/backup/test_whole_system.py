"""A system is backed up while it runs, destroyed, and restored: whoever asks afterwards gets the answers of before."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import waiting
from tests.api.signing import signed
from tests.cli.running import up
from tests.servers import eventually
from tests.workers.system import answer_of, base, hub_answer_of

pytestmark = [pytest.mark.redis_server, pytest.mark.long]

READS = (
    "/v1/devices?top=1000",
    "/v1/deployments",
    "/v1/deployments/a",
    "/v1/deployments/b",
    "/v1/deployments/a/status",
    "/v1/deployments/a/status/healthy",
    "/v1/deployments/b/status",
    "/v1/devices/d1/assignments",
    "/v1/readiness",
    "/v1/deployments/c/rollout",
    "/v1/rollouts",
    "/v1/webhooks",
    "/twins/d1",
    "/twins/d1/modules/%24edgeAgent",
    "/v1/devices/d1/effective",
    "/v1/devices/d2/effective",
    "/configurations/a",
)
PASSWORD = "a-password-of-a-registry"


@pytest.fixture
def location() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="t-") as directory:
        yield Path(directory)


def twinfold(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.cli", *words]
    return waiting.run(command, env={**os.environ, **environment}, seconds_max=120)


def content() -> dict[str, Any]:
    """A content with a password in it."""
    whole = base("m")
    agent = whole["modulesContent"]["$edgeAgent"]["properties.desired"]
    credentials = {"r": {"username": "u", "password": PASSWORD, "address": "example.com"}}
    agent["runtime"]["settings"] = {
        "minDockerVersion": "v1.25",
        "loggingOptions": "",
        "registryCredentials": credentials,
    }
    return whole


def fill(http: httpx.Client) -> None:
    for number in range(6):
        body = {"deviceId": f"d{number}", "capabilities": {"iotEdge": True}}
        http.put(f"/devices/d{number}", json=body).raise_for_status()
        http.patch(f"/twins/d{number}", json={"tags": {"site": "north", "n": number}}).raise_for_status()
    http.post("/v1/deployments/a", json={"content": content(), "targetCondition": "tags.n < 4"}).raise_for_status()
    body = {"content": base("n"), "targetCondition": "tags.n >= 4", "priority": 3}
    http.post("/v1/deployments/b", json=body).raise_for_status()
    body = {"content": base("o"), "targetCondition": "tags.n = 5", "priority": 9}
    rollout = {"schedule": {"start": "2099-11-21T08:00:00"}, "rollout": {"phases": ["50%", "100%"]}}
    http.post("/v1/deployments/c", json=body | rollout).raise_for_status()
    # Of a kind that does not come up here, so that nothing is posted anywhere.
    hook = {"url": "https://example.com/hook?key=very-secret", "kinds": ["WaiverGranted"]}
    http.put("/v1/webhooks/w", json=hook).raise_for_status()
    for number in range(6):
        wanted = [("a", "b")[number >= 4]]
        path = f"/v1/devices/d{number}/effective"
        eventually(lambda: seen(http, path).get("layers") == wanted, what="it is deployed")  # noqa: B023
    versions = seen(http, "/v1/devices/d1/effective")["versions"]
    answers = {
        "$edgeAgent": answer_of(versions["$edgeAgent"], m="running"),
        "$edgeHub": hub_answer_of(versions["$edgeHub"]),
    }
    for module, patch in answers.items():
        http.post("/v1/devices/d1/reports", json={"moduleId": module, "patch": patch}).raise_for_status()
    eventually(lambda: seen(http, "/v1/deployments/a/status")["counts"]["healthy"] == 1, what="the report is projected")
    assert http.delete("/devices/d3", headers={"If-Match": "*"}).is_success
    http.post("/v1/webhooks/w/pause", json={"why": "nobody is there"}).raise_for_status()
    eventually(lambda: seen(http, "/v1/deployments/a/status")["counts"]["actual"] == 3, what="it is gone")


def seen(http: httpx.Client, path: str) -> Any:
    answer = http.get(path)
    return answer.json() if answer.is_success else {}


def everything(http: httpx.Client) -> dict[str, Any]:
    return {path: without_progress(seen(http, path)) for path in READS}


def without_progress(value: Any) -> Any:
    """An answer without the progress of projections and webhooks: every read of keys is an event, which moves it."""
    if isinstance(value, dict):
        return {name: without_progress(item) for name, item in value.items() if name not in {"asOf", "lag"}}
    return [without_progress(item) for item in value] if isinstance(value, list) else value


def differences(http: httpx.Client, before: dict[str, Any]) -> dict[str, Any]:
    """The reads that do not answer as before, each with both answers."""
    now = everything(http)
    return {path: (now[path], before[path]) for path in before if now[path] != before[path]}


def own_answer(http: httpx.Client, device_id: str) -> Any:
    """What a device is told to run, asked for with its own key; the secrets are in it."""
    key = seen(http, f"/devices/{device_id}")["authentication"]["symmetricKey"]["primaryKey"]
    signature = signed(key, f"{http.base_url.netloc.decode()}/devices/{device_id}")
    answer = http.get(f"/v1/devices/{device_id}/desired", headers={"Authorization": signature})
    return answer.raise_for_status().json()


def destroy(data: Path) -> None:
    shutil.rmtree(data)


def test_what_is_restored_answers_as_what_was_destroyed_and_keys_are_apart(location: Path) -> None:
    data, backups, keys = location / "d", location / "backups", location / "keys"
    with up(data, TWINFOLD_SEAL_EVERY_SECONDS="0.5") as (_, http, _):
        fill(http)
        before, identity = everything(http), seen(http, "/devices/d1")
        desired = own_answer(http, "d1")
        assert PASSWORD in str(desired)
        made = twinfold("backup", "--to", str(backups), "--keys-to", str(keys), "--data", str(data))
        assert made.returncode == 0, made.stderr
        assert made.stdout.startswith("backup ")
        bare = twinfold("backup", "--to", str(location / "bare"), "--data", str(data))
        assert "WITHOUT KEYS" in bare.stdout
        key = (data / "master.key").read_bytes().strip()
        for stored in (path for folder in ("bare", "backups") for path in (location / folder).rglob("*")):
            assert stored.is_dir() or key not in stored.read_bytes()
        ca, token = (data / "tls/ca.pem").read_bytes(), (data / "admin.token").read_bytes()
    destroy(data)
    back = twinfold("restore", "--from", str(backups), "--keys-from", str(keys), "--data", str(data))
    assert back.returncode == 0, back.stderr
    assert f"key file {data / 'master.key'} opens all" in back.stdout
    assert ((data / "tls/ca.pem").read_bytes(), (data / "admin.token").read_bytes()) == (ca, token)
    with up(data) as (_, http, _):
        # What came after a partition's last assignment change is projected again by the workers.
        with contextlib.suppress(AssertionError):
            eventually(lambda: not differences(http, before), what="every read answers as before")
        assert differences(http, before) == {}
        # Once: a read of keys is an event, which projections have to follow.
        assert seen(http, "/devices/d1") == identity
        assert own_answer(http, "d1") == desired
        environment = {"TWINFOLD_DATA_DIR": str(data), "TWINFOLD_REDIS_URL": f"unix://{data}/redis/redis.sock"}
        verified = twinfold("audit", "verify", **environment)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        http.patch("/twins/d1", json={"tags": {"n": 9}}, headers={"If-Match": "*"}).raise_for_status()
        eventually(
            lambda: seen(http, "/v1/devices/d1/effective").get("layers") == ["b"], what="a new write is projected"
        )

    destroy(data)
    closed = twinfold("restore", "--from", str(location / "bare"), "--data", str(data))
    assert closed.returncode == 0, closed.stderr
    assert "NO KEY" in closed.stdout
    assert not (data / "admin.token").exists()
