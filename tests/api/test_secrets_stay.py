"""Secrets that pass through are in no file, key, job, log line, metric or refusal; only who may read them gets them."""

import base64
import contextlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from events.log.subject_record import decode_record
from services.credentials import new_key
from tests.api.serving import Guarded, guarded
from tests.servers import eventually, redis_server
from tests.workers.system import answer, base, fresh_system

pytestmark = pytest.mark.redis_server

PASSWORD = "planted-registry-password-4711"
VARIABLE = "planted-variable-0815"
KEY = base64.b64encode(b"planted-device-key-of-32-bytes!!").decode()
MODULE_KEY = base64.b64encode(b"planted-module-key-of-32-bytes!!").decode()
POLICY_KEY = base64.b64encode(b"planted-policy-key-of-32-bytes!!").decode()
BAD_KEY = "planted-key-that-is-not-base64!"


def content(password: Any = PASSWORD, **variables: Any) -> dict[str, Any]:
    """A deployment's content with a registry password, and a module with variables."""
    found = base("m", env={name: {"value": value} for name, value in variables.items()})
    agent = found["modulesContent"]["$edgeAgent"]["properties.desired"]
    agent["runtime"]["settings"]["registryCredentials"] = {
        "mine": {"address": "example.com", "username": "u", "password": password}
    }
    return found


def sas(primary: Any, secondary: Any = KEY) -> dict[str, Any]:
    return {"type": "sas", "symmetricKey": {"primaryKey": primary, "secondaryKey": secondary}}


def refusals(gate: Guarded) -> Iterator[httpx.Response]:
    """Requests with the secrets in them, each refused for another reason."""
    http, owner = gate.http, gate.policy()
    etag = {**owner, "If-Match": '"bm9uZQ=="'}
    good = {"content": content(), "targetCondition": "*", "priority": 1}
    yield http.put("/configurations/dep", json=good, headers=owner)
    yield http.put("/configurations/dep", json=good, headers=etag)
    yield http.post("/v1/deployments/dep", json=good, headers=owner)
    for name in ("/configurations/new", "/v1/deployments/new"):
        method = "PUT" if name.startswith("/conf") else "POST"
        for wrong in (
            {"priority": -1},
            {"priority": PASSWORD},
            {"targetCondition": "tags."},
            {"labels": {"a": 1}},
            {"content": content([PASSWORD])},
            {"content": content({"value": PASSWORD})},
            {"content": content(PASSWORD * 200)},
            {"content": content(PASSWORD + "\ud800")},
            {"content": content(TOKEN={"$secret_text": [VARIABLE]})},
            {"content": content(TOKEN={"$secret_text": VARIABLE, "more": 1})},
            {"content": {**content(), "deviceContent": {}}},
            {"content": {"modulesContent": {**content()["modulesContent"], "m": {"tags.x": 1}}}},
        ):
            body = json.dumps({**good, **wrong})
            yield http.request(method, name, content=body, headers={**owner, "Content-Type": "application/json"})
        for broken in (json.dumps(good)[:-1], json.dumps(good).replace('"priority"', "priority"), f'"{PASSWORD}"'):
            yield http.request(method, name, content=broken, headers={**owner, "Content-Type": "application/json"})
        yield http.request(method, name, json=good, headers=gate.policy("service"))
        yield http.request(method, name, json=good)
    for authentication in (
        sas(BAD_KEY),
        sas(KEY, None),
        sas([KEY]),
        sas({"$secret": KEY}),
        {**sas(KEY), "type": "x"},
        {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": KEY, "secondaryThumbprint": KEY}},
        {"type": "sas", "symmetricKey": KEY},
        KEY,
    ):
        body = {"authentication": authentication}
        yield http.put("/devices/new", json=body, headers=owner)
        yield http.put("/devices/edge/modules/new", json=body, headers=owner)
        yield http.post("/devices", json=[{"id": "new", **body}], headers=owner)
        yield _event(gate, {"command": "RegisterDevice", "device_id": "new", **body})
    yield http.put("/devices/edge", json={"authentication": sas(KEY)}, headers=owner)
    yield http.put("/devices/edge", json={"authentication": sas(KEY)}, headers=etag)
    yield _event(gate, {"command": "CreateDeployment", "deployment_id": "dep", "content": content()})
    yield _event(gate, {"command": "CreateDeployment", "deployment_id": "New", "content": content()})
    yield _event(gate, {"command": "CreateDeployment", "deployment_id": "new", "content": content(), PASSWORD[:5]: 1})
    yield _event(gate, {"command": PASSWORD})
    yield http.get("/devices", headers={"Authorization": f"SharedAccessSignature {POLICY_KEY}"})
    yield http.get(
        "/devices", headers={"Authorization": f"SharedAccessSignature sr=h&sig={POLICY_KEY}&se=1&skn=service"}
    )
    yield http.get("/devices", headers={"Authorization": f"Bearer {POLICY_KEY}"})


def _event(gate: Guarded, line: dict[str, Any]) -> httpx.Response:
    return gate.http.post("/v1/events", content=json.dumps(line), headers=gate.policy())


def texts_in(value: Any) -> Iterator[bytes]:
    """Everything in a value of Redis, jobs that are packed and documents that are compressed included."""
    if isinstance(value, bytes):
        yield value
        yield decode_record(value).snapshot or b""
        with contextlib.suppress(zlib.error):
            yield zlib.decompress(value)
    elif isinstance(value, dict):
        yield from texts_in(list(value.items()))
    elif isinstance(value, list | tuple | set):
        for one in value:
            yield from texts_in(one)


def everything_in(client: Redis) -> bytes:
    """All keys and values of a server, whatever their type."""
    found: list[Any] = []
    for name in client.scan_iter():
        found.append(name)
        match client.type(name):
            case b"string":
                found.append(client.get(name))
            case b"hash":
                found.append(client.hgetall(name))
            case b"list":
                found.append(client.lrange(name, 0, -1))
            case b"set":
                found.append(client.smembers(name))
            case b"zset":
                found.append(client.zrange(name, 0, -1))
            case b"stream":
                found.append(client.xrange(name))
            case b"none":
                pass  # A lease that has ended since the scan.
            case kind:
                raise AssertionError(kind)
    return b"\n".join(texts_in(found))


def test_no_secret_is_anywhere_but_in_the_answers_of_those_who_may_have_it(tmp_path: Path) -> None:
    with (
        redis_server(appendfsync="always") as server,
        fresh_system(server) as system,
        (tmp_path / "workers").open("wb") as says,
        system.process("-m", "workers.pool", says=says, TWINFOLD_LOG_LEVEL="debug"),
        guarded(system, tmp_path) as gate,
    ):
        gate.give_keys("service", POLICY_KEY, new_key())
        http, owner = gate.http, gate.policy()
        token = gate.token("admin")
        gate.register("edge", capabilities={"iotEdge": True}, authentication=sas(KEY))
        module = {"authentication": sas(MODULE_KEY)}
        assert http.put("/devices/edge/modules/mine", json=module, headers=token).is_success
        created = {"content": content(TOKEN={"$secret_text": VARIABLE}), "targetCondition": "*", "priority": 5}
        assert http.put("/configurations/dep", json=created, headers=owner).is_success
        assert http.put("/configurations/dep", json=created, headers={**owner, "If-Match": "*"}).is_success
        layer = {
            "modulesContent": {"$edgeAgent": {"properties.desired.modules.m.env.A.value": {"$secret_text": VARIABLE}}}
        }
        assert http.post("/v1/deployments/layer", json={"content": layer, "priority": 9}, headers=owner).is_success
        system.settle()

        as_device = gate.device("edge", key=KEY)
        told = http.get("/v1/devices/edge/desired", headers=as_device).text
        assert PASSWORD in told
        assert VARIABLE in told
        assert KEY in http.get("/devices/edge", headers=owner).text
        assert http.get("/devices/edge/modules/mine", headers=gate.device("edge", "mine", key=MODULE_KEY)).is_success
        assert http.get("/twins/edge", headers=gate.policy("service")).is_success

        secrets = [PASSWORD, VARIABLE, KEY, MODULE_KEY, POLICY_KEY, BAD_KEY, gate.key("iothubowner")]
        secrets += [token["Authorization"].split("_", 2)[2], gate.key("device")]
        for name in ("effective", "desired", "modules", "assignments", "conflicts", "not-applied"):
            _assert_absent(secrets, http.get(f"/v1/devices/edge/{name}", headers=owner).content, name)
        for path in ("/configurations", "/configurations/dep", "/twins/edge/modules/%24edgeAgent", "/v1/deployments"):
            _assert_absent(secrets, http.get(path, headers=owner).content, path)
        for number, refused in enumerate(refusals(gate)):
            assert refused.is_client_error or json.loads(refused.content)["written"] == 0, (number, refused.text)
            _assert_absent(secrets, refused.content, f"refusal {number}: {refused.text}")
        system.do(answer(system, "edge", m="running"))
        system.settle()

        client = Redis.from_url(server.url)
        _assert_absent(secrets, everything_in(client), "Redis")
        directory = Path(client.config_get("dir")["dir"])
        client.close()
        files = [path for path in directory.rglob("*") if path.is_file()]
        assert any("aof" in path.name for path in files)
        for path in files:
            _assert_absent(secrets, path.read_bytes(), path.name)
        _assert_absent(secrets, http.get("/metrics", headers=owner).content, "/metrics")
        eventually(lambda: '"path": "/metrics"' in gate.said(), what="the log is written")
        _assert_absent(secrets, gate.said().encode(), "the API's log")
        _assert_absent(secrets, (tmp_path / "workers").read_bytes(), "the workers' log")


def _assert_absent(secrets: list[str], where: bytes, what: str) -> None:
    for secret in secrets:
        for spelling in (secret.encode(), json.dumps(secret)[1:-1].encode(), base64.b64encode(secret.encode())):
            assert spelling not in where, f"{secret[:12]}… is in {what}"
