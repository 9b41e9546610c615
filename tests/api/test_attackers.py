"""Whoever comes without good credentials, or asks for more than theirs allow, gets nothing and changes nothing."""

import base64
import contextlib
import json
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from events.access.commands import RevokeToken
from services.credentials import device_key, new_key
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import Guarded, guarded
from tests.api.signing import digest, signed
from tests.servers import eventually
from tests.workers.system import base, fresh_system

pytestmark = pytest.mark.redis_server

READ, WRITE, TWINS_READ, TWINS_WRITE, FACTS, ADMIN, OWN, OPEN = range(8)
OPERATIONS: Sequence[tuple[int, str, str]] = (
    (READ, "GET", "/devices"),
    (READ, "GET", "/devices/victim"),
    (READ, "GET", "/configurations"),
    (READ, "GET", "/configurations/none"),
    (READ, "GET", "/statistics/devices"),
    (READ, "GET", "/metrics"),
    (READ, "GET", "/v1/deployments"),
    (READ, "POST", "/configurations/testQueries"),
    (READ, "GET", "/nowhere"),
    (WRITE, "PUT", "/devices/victim"),
    (WRITE, "PUT", "/devices/query"),
    (WRITE, "DELETE", "/devices/query"),
    (WRITE, "PUT", "/configurations/testQueries"),
    (WRITE, "DELETE", "/devices/victim"),
    (WRITE, "POST", "/devices"),
    (WRITE, "PUT", "/configurations/mine"),
    (WRITE, "DELETE", "/configurations/mine"),
    (WRITE, "POST", "/v1/deployments/mine"),
    (WRITE, "POST", "/devices/victim/applyConfigurationContent"),
    (TWINS_READ, "GET", "/twins/victim"),
    (TWINS_READ, "GET", "/twins/victim/modules/%24edgeAgent"),
    (TWINS_READ, "POST", "/devices/query"),
    (TWINS_READ, "GET", "/v1/devices"),
    (TWINS_READ, "GET", "/v1/devices/victim/effective"),
    (TWINS_WRITE, "PATCH", "/twins/victim"),
    (TWINS_WRITE, "PUT", "/twins/victim"),
    (FACTS, "POST", "/v1/facts"),
    (ADMIN, "GET", "/v1/policies"),
    (ADMIN, "PUT", "/v1/policies/mine"),
    (ADMIN, "GET", "/v1/tokens"),
    (ADMIN, "POST", "/v1/tokens"),
    (ADMIN, "DELETE", "/v1/tokens/one"),
    (OPEN, "GET", "/healthz"),
    (OPEN, "GET", "/readyz"),
    (OPEN, "GET", "/openapi.json"),
)
ALLOWED = {
    "iothubowner": {READ, WRITE, TWINS_READ, TWINS_WRITE, FACTS, ADMIN, OWN, OPEN},
    "service": {TWINS_READ, TWINS_WRITE, OPEN},
    "device": {OWN, OPEN},
    "registryRead": {READ, OPEN},
    "registryReadWrite": {READ, WRITE, OPEN},
}
ROLES_ALLOWED = {
    "read": {READ, TWINS_READ, OPEN},
    "operate": {READ, WRITE, TWINS_READ, TWINS_WRITE, FACTS, OPEN},
    "admin": {READ, WRITE, TWINS_READ, TWINS_WRITE, FACTS, ADMIN, OWN, OPEN},
}
OF_A_DEVICE: Sequence[tuple[str, str]] = (
    ("GET", "/devices/{}/modules"),
    ("GET", "/devices/{}/modules/mine"),
    ("GET", "/v1/devices/{}/desired"),
)


@pytest.fixture(scope="module")
def gate(shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with (
        fresh_system(shared_redis) as system,
        guarded(system, tmp_path_factory.mktemp("gate"), TWINFOLD_REQUEST_SECONDS_MAX="2") as serving,
    ):
        serving.register("victim")
        serving.register("thief")
        for name in ("victim", "thief"):
            serving.http.put(f"/devices/{name}/modules/mine", json={}, headers=serving.policy())
        yield serving


@pytest.fixture
def writing() -> None:
    """A test that has somebody write with good reason."""


@pytest.fixture(autouse=True)
def nothing_is_stored_and_the_api_lives_on(gate: Guarded, request: pytest.FixtureRequest) -> Iterator[None]:
    heads, said = gate.system.log.heads(), len(gate.said())
    yield
    assert gate.http.get("/healthz").status_code == 200
    assert "Traceback" not in gate.said()[said:]
    if "writing" not in request.fixturenames:
        assert gate.system.log.heads() == heads


def ask(gate: Guarded, headers: dict[str, str], method: str, path: str) -> httpx.Response:
    """A request whose body no handler takes, so that nothing comes of it where it is let in."""
    conditions = {} if method == "POST" else {"If-Match": '"bm9uZQ=="'}
    return gate.http.request(method, path, headers={**headers, **conditions}, json=["nothing"])


def refused(answer: httpx.Response, *, said: str = "the credentials are missing, wrong or expired") -> bool:
    """Whether it is the one refusal that all wrong credentials get, in the envelope of its path."""
    if answer.status_code != 401:
        return False
    assert answer.headers["iothub-errorcode"] == "IotHubUnauthorizedAccess"
    request_id = answer.headers["x-ms-request-id"]
    if answer.url.path.startswith("/v1/"):
        told = {"error": {"code": "IotHubUnauthorizedAccess", "message": said, "requestId": request_id}}
    else:
        told = {
            "Message": f"ErrorCode:IotHubUnauthorizedAccess;{said}",
            "ExceptionMessage": f"Tracking ID:{request_id}",
        }
    assert answer.json() == told
    return True


def forbidden(answer: httpx.Response) -> bool:
    return refused(answer, said="these credentials do not allow that")


# -- credentials that are not good


def _header(gate: Guarded, **parts: str) -> str:
    """A good signature of the owner, with some of its parts exchanged, or left out where they are empty."""
    expiry = int(time.time()) + 3600
    sr = gate.host.replace(":", "%3A")
    sig = digest(gate.key("iothubowner"), f"{sr}\n{expiry}").replace("+", "%2B").replace("=", "%3D")
    whole = {"sr": sr, "sig": sig, "se": str(expiry), "skn": "iothubowner", **parts}
    return "SharedAccessSignature " + "&".join(f"{name}={value}" for name, value in whole.items() if value)


def test_the_signature_that_is_tampered_with_below_is_good(gate: Guarded) -> None:
    assert gate.http.get("/devices", headers={"Authorization": _header(gate)}).status_code == 200


@pytest.mark.parametrize(
    "parts",
    [
        {"sr": "elsewhere"},
        {"sr": "127.0.0.1"},
        {"sr": ""},
        {"sr": "%"},
        {"sr": "127.0.0.1%2Fdevices%2F..%2F"},
        {"sig": "AAAA"},
        {"sig": "%00"},
        {"sig": ""},
        {"sig": "=" * 44},
        {"se": str(2**33)},
        {"se": "0"},
        {"se": "9" * 400},
        {"se": ""},
        {"skn": "service"},
        {"skn": "registryReadWrite"},
        {"skn": "IotHubOwner"},
        {"skn": "nobody"},
        {"skn": "token:0123456789abcdef"},
        {"skn": "..%2Fiothubowner"},
        {"skn": "iothubowner%00"},
        {"skn": "iothubowner%0A"},
        {"skn": "x" * 3000},
        {"skn": ""},
        {"SKN": "iothubowner", "skn": ""},
        {"x": "y" * 5000},
        {"sr": "127.0.0.1&sr=127.0.0.1"},
    ],
)
def test_a_tampered_signature_is_refused_without_a_hint(gate: Guarded, parts: dict[str, str]) -> None:
    for path in ("/devices", "/v1/devices"):
        assert refused(gate.http.get(path, headers={"Authorization": _header(gate, **parts)}))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic aW90aHVib3duZXI6",
        "Bearer",
        "Bearer twf_",
        "Bearer twf_0123456789abcdef_" + "A" * 43,
        "Bearer twf_" + "a" * 65 + "_" + "A" * 43,
        "Bearer twf_../policy:iothubowner_" + "A" * 43,
        "bearer twf_0123456789abcdef_" + "A" * 43,
        "SharedAccessSignature",
        "SharedAccessSignature " + "&" * 3000,
        "x" * 30_000,
    ],
)
def test_what_is_no_credential_is_refused_without_a_hint(gate: Guarded, header: str) -> None:
    for path in ("/devices", "/v1/facts"):
        assert refused(gate.http.post(path, headers={"Authorization": header} if header else {}, content=b"[]"))


def test_two_headers_of_credentials_are_not_added_up(gate: Guarded) -> None:
    good, bad = ("Authorization", _header(gate)), ("Authorization", "Bearer nothing")
    assert refused(gate.http.get("/devices", headers=[bad, good]))


def test_wrong_keys_and_old_signatures_are_refused(gate: Guarded) -> None:
    for header in (
        signed(new_key(), gate.host, policy="iothubowner"),
        signed(gate.key("service"), gate.host, policy="iothubowner"),
        signed(gate.key("iothubowner"), gate.host, policy="iothubowner", seconds=-61),
        signed(base64.b64encode(b"").decode(), gate.host, policy="iothubowner"),
        signed(gate.key("iothubowner"), gate.host),
        signed(gate.key("iothubowner"), f"{gate.host}/devices/victim"),
    ):
        assert refused(gate.http.get("/devices", headers={"Authorization": header}))
        assert refused(gate.http.get("/devices/victim/modules", headers={"Authorization": header}))


def test_a_signature_for_one_path_is_not_good_for_another(gate: Guarded) -> None:
    header = {"Authorization": signed(gate.key("iothubowner"), f"{gate.host}/devices/victim", policy="iothubowner")}
    assert gate.http.get("/devices/victim", headers=header).status_code == 200
    for path in ("/devices", "/devices/victim2", "/devices/thief", "/twins/victim", "/v1/devices", "/configurations"):
        assert refused(gate.http.get(path, headers=header))


# -- good credentials that do not allow it


@pytest.mark.parametrize("policy", list(ALLOWED))
def test_a_policy_allows_what_its_rights_say_and_nothing_else(gate: Guarded, policy: str) -> None:
    headers = gate.policy(policy)
    for kind, method, path in OPERATIONS:
        answer = ask(gate, headers, method, path)
        assert forbidden(answer) is (kind not in ALLOWED[policy]), (policy, method, path, answer.text)


@pytest.mark.parametrize("role", list(ROLES_ALLOWED))
@pytest.mark.usefixtures("writing")
def test_a_token_allows_what_its_role_says_and_nothing_else(gate: Guarded, role: str) -> None:
    headers = gate.token(role)
    heads = gate.system.log.heads()
    for kind, method, path in OPERATIONS:
        answer = ask(gate, headers, method, path)
        assert forbidden(answer) is (kind not in ROLES_ALLOWED[role]), (role, method, path, answer.text)
    assert gate.system.log.heads() == heads


def test_a_registry_policy_reads_no_twin(gate: Guarded) -> None:
    assert forbidden(gate.http.get("/twins/victim", headers=gate.policy("registryReadWrite")))


def test_twins_alone_open_no_registry_through_facts(gate: Guarded) -> None:
    line = json.dumps({"command": "RegisterDevice", "device_id": "smuggled"})
    for policy in ("service", "registryReadWrite", "device"):
        assert forbidden(gate.http.post("/v1/facts", content=line, headers=gate.policy(policy)))


def test_facts_say_nothing_of_policies_and_tokens(gate: Guarded) -> None:
    for command in ("DefinePolicy", "DeletePolicy", "IssueToken", "RevokeToken", "TokenIssued"):
        line = {"command": command, "token_id": "a", "name": "a", "role": "admin", "digest": "0" * 64}
        told = gate.http.post("/v1/facts", content=json.dumps(line), headers=gate.policy()).json()
        assert told["written"] == 0
        assert len(told["refused"]) == 1


@pytest.mark.usefixtures("writing")
def test_tokens_end_when_they_are_revoked_or_expire(gate: Guarded) -> None:
    soon = gate.token("admin", expires_at=time.time_ns() // 1_000_000 + 1500)
    assert gate.http.get("/devices", headers=soon).status_code == 200
    eventually(lambda: refused(gate.http.get("/devices", headers=soon)), what="the token expires")
    revoked = gate.token("admin")
    assert gate.http.get("/devices", headers=revoked).status_code == 200
    gate.producer.do(RevokeToken(revoked["Authorization"].split("_")[1]))
    eventually(lambda: refused(gate.http.get("/devices", headers=revoked)), what="the token is revoked")
    longer = {"Authorization": gate.token("read")["Authorization"] + "A"}
    assert refused(gate.http.get("/devices", headers=longer))


@pytest.mark.usefixtures("writing")
def test_a_scoped_token_reaches_the_devices_in_its_scope_alone(gate: Guarded) -> None:
    gate.http.patch("/twins/thief", json={"tags": {"site": "north"}}, headers=gate.policy())
    scoped = gate.token("operate", scope="tags.site = 'north'")
    heads = gate.system.log.heads()
    for path in ("/twins/thief", "/devices/thief", "/devices/thief/modules", "/v1/devices/thief/effective"):
        assert gate.http.get(path, headers=scoped).status_code in {200, 404}
    for _, method, path in (one for one in OPERATIONS if one[0] != OPEN):
        assert forbidden(ask(gate, scoped, method, path)), path
    assert forbidden(gate.http.put("/devices/brand-new", json={}, headers=scoped))
    assert gate.system.log.heads() == heads


# -- devices


def test_a_device_reaches_itself_and_nobody_else(gate: Guarded) -> None:
    own = gate.device("thief")
    for method, path in OF_A_DEVICE:
        assert gate.http.request(method, path.format("thief"), headers=own).status_code in {200, 404}
        assert refused(gate.http.request(method, path.format("victim"), headers=own))
    for kind, method, path in OPERATIONS:
        assert kind == OPEN or refused(ask(gate, own, method, path)), path
    for path in ("/devices/thief", "/twins/thief", "/v1/devices/thief/effective", "/v1/devices/thief/outcomes"):
        assert gate.http.get(path, headers=own).status_code == 401
    assert gate.http.patch("/twins/thief", json={"tags": {"a": 1}}, headers=own).status_code == 401


def test_a_device_with_a_wider_or_a_foreign_resource_is_refused(gate: Guarded) -> None:
    key = device_key(gate.system.log, gate.vault, "thief")
    for resource in ("", "/", "/devices", "/devices/", "/devices/victim", "/devices/victim/modules/mine"):
        header = {"Authorization": signed(key, gate.host + resource)}
        for path in ("/devices/victim/modules", "/devices/victim/modules/mine", "/v1/devices/victim/desired"):
            assert refused(gate.http.get(path, headers=header))
    as_policy = {"Authorization": signed(key, gate.host, policy="thief")}
    assert refused(gate.http.get("/devices/thief/modules", headers=as_policy))


def test_a_module_reaches_itself_and_not_its_device(gate: Guarded) -> None:
    own = gate.device("thief", "mine")
    assert gate.http.get("/devices/thief/modules/mine", headers=own).status_code == 200
    for path in (
        "/devices/thief/modules",
        "/devices/thief/modules/%24edgeAgent",
        "/devices/victim/modules/mine",
        "/v1/devices/thief/desired",
        "/twins/thief/modules/mine",
    ):
        assert gate.http.get(path, headers=own).status_code == 401
    reported = {"patch": {"a": 1}}
    assert gate.http.post("/v1/devices/thief/reports", json=reported, headers=own).status_code == 401
    key = device_key(gate.system.log, gate.vault, "thief", "mine")
    assert refused(gate.http.get("/devices/thief/modules", headers=gate.device("thief", key=key)))


@pytest.mark.usefixtures("writing")
def test_the_key_of_a_device_that_is_off_or_gone_opens_nothing(gate: Guarded) -> None:
    path, owner = "/devices/fickle/modules", gate.policy()
    old_key = gate.register("fickle")["authentication"]["symmetricKey"]["primaryKey"]
    module = gate.http.put(f"{path}/mine", json={}, headers=owner).json()
    of_module = gate.device("fickle", "mine", key=module["authentication"]["symmetricKey"]["primaryKey"])
    own = gate.device("fickle", key=old_key)

    def status() -> tuple[int, int]:
        return (
            gate.http.get(path, headers=own).status_code,
            gate.http.get(f"{path}/mine", headers=of_module).status_code,
        )

    assert status() == (200, 200)
    keys = {"symmetricKey": {"primaryKey": old_key, "secondaryKey": old_key}, "type": "sas"}
    changing = {**owner, "If-Match": "*"}
    gate.http.put("/devices/fickle", json={"status": "disabled", "authentication": keys}, headers=changing)
    eventually(lambda: status() == (401, 401), what="the disabled device is refused")
    gate.http.put("/devices/fickle", json={"status": "enabled", "authentication": keys}, headers=changing)
    eventually(lambda: status() == (200, 200), what="the enabled device is let in")
    assert gate.http.delete("/devices/fickle", headers=changing).status_code == 204
    eventually(lambda: status() == (401, 401), what="the retired device is refused")
    new = gate.register("fickle")["authentication"]["symmetricKey"]["primaryKey"]
    fresh = gate.device("fickle", key=new)
    eventually(lambda: gate.http.get(path, headers=fresh).is_success, what="the registered device is let in")
    assert status() == (401, 401)


# -- paths that are not what they seem


@pytest.mark.parametrize(
    "path",
    [
        "/devices/thief/modules/..%2f..%2fvictim/modules",
        "/devices/thief/modules/../../victim/modules/mine",
        "/devices/thief/modules/%2e%2e/%2e%2e/victim/modules",
        "/devices/thief%2f..%2fvictim/modules",
        "/devices/victim%2fmodules",
        "/v1/devices/thief/desired/../../victim/desired",
        "/v1/devices/victim/desired%00",
        "/v1/devices/victim/desired%0a",
        "/v1/tokens%0a",
        "/v1/tokens%00/healthz",
        "/devices%3f/healthz",
        "/healthz%0a",
        "/healthz/../devices",
        "/healthz%2f..%2fdevices",
        "/docs/../devices",
        "//devices",
        "/v1//devices",
        "/V1/devices",
        "/./devices",
        "/devices;/healthz",
        "/devices%23/healthz",
        "/v1/%0adevices",
    ],
)
def test_a_path_opens_what_it_is_routed_to_and_nothing_else(gate: Guarded, path: str) -> None:
    for own in ({}, gate.device("thief"), gate.device("thief", "mine")):
        answer = _raw(gate, "GET", path, own)
        assert answer.status in {400, 401, 404}, answer.body
        assert b"victim" not in answer.body


@pytest.mark.parametrize("host", ["{}/healthz?", "{}/docs#", "{}%2fhealthz?", "x@{}/healthz?x=", "a:b:c/healthz?"])
@pytest.mark.parametrize("path", ["/devices", "/v1/devices", "/metrics"])
def test_a_host_that_holds_a_path_opens_nothing(gate: Guarded, host: str, path: str) -> None:
    assert _raw(gate, "GET", path, {"Host": host.format(gate.host)}).status == 401


@pytest.mark.parametrize("name", ["%00", "a%00b", "a%2fb", "a%0ab", "%ff", "%F0%9F%92%A9", "%ed%a0%80", "x" * 129])
def test_a_name_that_cannot_be_one_is_refused_everywhere(gate: Guarded, name: str) -> None:
    for method, path in (
        ("GET", "/devices/{}"),
        ("PUT", "/devices/{}"),
        ("DELETE", "/devices/{}"),
        ("GET", "/twins/{}"),
        ("PATCH", "/twins/{}"),
        ("GET", "/twins/victim/modules/{}"),
        ("PUT", "/devices/victim/modules/{}"),
        ("PUT", "/configurations/{}"),
        ("GET", "/configurations/{}"),
        ("POST", "/v1/deployments/{}"),
        ("POST", "/v1/devices/{}/reports"),
        ("GET", "/v1/devices/{}/desired"),
        ("GET", "/v1/deployments/victim/status/{}"),
    ):
        bodies: dict[str, Any] = {
            "/configurations/{}": {"content": base("m")},
            "/v1/deployments/{}": {"content": base("m")},
        }
        body = bodies.get(path, {"patch": {}} if path.endswith("reports") else {})
        answer = _raw(
            gate,
            method,
            path.format(name),
            {**gate.policy(), "If-Match": "*"} if method == "DELETE" else gate.policy(),
            json.dumps(body).encode(),
        )
        assert 400 <= answer.status < 500, (method, path, answer.body)
        assert answer.headers["iothub-errorcode"]


@pytest.mark.parametrize("name", ["$edgeAgent", "$edgeHub", "$mine", "$"])
def test_system_modules_are_nobodys_to_make_or_to_write(gate: Guarded, name: str) -> None:
    for headers in (gate.policy(), gate.device("victim")):
        made = gate.http.put(f"/devices/victim/modules/{name}", json={}, headers=headers)
        assert made.status_code in {400, 401, 409}
        gone = gate.http.delete(f"/devices/victim/modules/{name}", headers={**headers, "If-Match": "*"})
        assert gone.status_code in {400, 401, 404}
        body = {"properties": {"desired": {"a": 1}}}
        assert gate.http.patch(f"/twins/victim/modules/{name}", json=body, headers=headers).status_code in {
            400,
            401,
            404,
        }


def test_methods_made_up_are_refused_and_count_as_one(gate: Guarded) -> None:
    for method in ("BREW", "get", "TRACE", "X" * 50):
        assert _raw(gate, method, "/devices", gate.policy()).status in {400, 405}
    counts = gate.http.get("/metrics", headers=gate.policy()).text
    assert "BREW" not in counts
    assert 'method="other"' in counts


# -- bodies


def _deep(depth: int) -> bytes:
    return b'{"tags":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"


ANSWER_BYTES_MAX = 10_000
BODIES: dict[str, bytes] = {
    "tags of a megabyte": json.dumps({"tags": {"a": "x" * 1_000_000}}).encode(),
    "many keys": json.dumps({"tags": {f"k{number}": 1 for number in range(100_000)}}).encode(),
    "900 deep": _deep(900),
    "10,000 deep": _deep(10_000),
    "arrays 10,000 deep": b'{"tags":{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}}",
    "NaN": b'{"tags":{"a":NaN}}',
    "Infinity": b'{"tags":{"a":-Infinity}}',
    "beyond what is finite": b'{"tags":{"a":1e999}}',
    "an integer of 4,000 digits": b'{"tags":{"a":' + b"9" * 4000 + b"}}",
    "an integer of 100,000 digits": b'{"tags":{"a":' + b"9" * 100_000 + b"}}",
    "no UTF-8": b'{"tags":{"a":"\xff\xfe"}}',
    "half a character": b'{"tags":{"a":"\xc3"}}',
    "a lone surrogate": b'{"tags":{"a":"\\ud800"}}',
    "a lone surrogate as a key": b'{"tags":{"\\udfff":1}}',
    "a NUL as a key": b'{"tags":{"\\u0000":1}}',
    "no object": b"[]",
    "a text": b'"x"',
    "half": b'{"tags":',
    "two": b"{}{}",
    "nothing": b"",
}


@pytest.mark.parametrize("name", list(BODIES))
def test_a_twin_with_a_hostile_body_is_refused(gate: Guarded, name: str) -> None:
    for method, path in (("PATCH", "/twins/victim"), ("PUT", "/twins/victim")):
        _assert_refused(gate, method, path, BODIES[name])
    reported = BODIES[name].replace(b'"tags"', b'"patch"')
    _assert_refused(gate, "POST", "/v1/devices/victim/reports", reported)
    desired = BODIES[name].replace(b'{"tags":', b'{"properties":{"desired":') + b"}"
    _assert_refused(gate, "PATCH", "/twins/victim/modules/mine", desired)


@pytest.mark.parametrize("name", list(BODIES))
@pytest.mark.parametrize("member", ["content", "labels", "priority", "targetCondition", "metrics"])
def test_a_deployment_with_a_hostile_member_is_refused(gate: Guarded, name: str, member: str) -> None:
    good = {"content": base("m"), "labels": {}, "priority": 1, "targetCondition": "", "metrics": {"queries": {}}}
    value = b'{"queries":' + _value(name) + b"}" if member == "metrics" else _value(name)
    body = _with(good, member, value)
    for method, path in (("PUT", "/configurations/hostile"), ("POST", "/v1/deployments/hostile")):
        _assert_refused(gate, method, path, body)


@pytest.mark.parametrize("name", [name for name in BODIES if name not in {"no object", "a text"}])
def test_a_manifest_with_a_hostile_value_is_refused(gate: Guarded, name: str) -> None:
    body = json.dumps({"content": base("m")}).encode()
    for where in (b'"routes": {}', b'"settings": {}'):
        assert where in body
        _assert_refused(gate, "PUT", "/configurations/hostile", body.replace(where, where[:-2] + _value(name)))


@pytest.mark.parametrize("name", [name for name in BODIES if name != "a text"])
@pytest.mark.parametrize("member", ["status", "statusReason", "authentication"])
def test_an_identity_with_a_hostile_member_is_refused(gate: Guarded, name: str, member: str) -> None:
    value = _value(name)
    if member == "authentication":
        value = b'{"type":"sas","symmetricKey":{"primaryKey":' + value + b',"secondaryKey":""}}'
    _assert_refused(gate, "PUT", "/devices/hostile", _with({"deviceId": "hostile"}, member, value))
    if member != "authentication":
        _assert_refused(gate, "PUT", "/devices/victim/modules/x", _with({}, "managedBy", value))


@pytest.mark.parametrize("name", list(BODIES))
def test_a_bulk_change_with_a_hostile_line_is_refused(gate: Guarded, name: str) -> None:
    body = b"[" + _with({"id": "victim", "importMode": "updateTwin"}, "tags", _value(name)) + b"]"
    headers = {**gate.policy(), "Content-Type": "application/json"}
    answer = gate.http.post("/devices", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert len(answer.content) < ANSWER_BYTES_MAX


def _value(name: str) -> bytes:
    """What a hostile body has at its only member, or all of it where it has none."""
    body = BODIES[name]
    return body.removeprefix(b'{"tags":').removesuffix(b"}") if body.startswith(b'{"tags":') else body


def _with(good: dict[str, Any], member: str, value: bytes) -> bytes:
    """A body as JSON whose member has any bytes as its value."""
    rest = json.dumps({name: one for name, one in good.items() if name != member}).encode()[1:-1]
    return b'{"' + member.encode() + b'":' + value + (b"," + rest if rest else b"") + b"}"


@pytest.mark.parametrize("name", list(BODIES))
def test_facts_with_a_hostile_line_are_refused(gate: Guarded, name: str) -> None:
    for member in (b"tags", b"patch", b"device_id"):
        rest = BODIES[name].removeprefix(b'{"tags":') or b"x"
        line = b'{"command":"PatchTags","device_id":"victim","' + member + b'":' + rest
        answer = gate.http.post("/v1/facts", content=line, headers=gate.policy())
        assert answer.status_code in {200, 400}, answer.text
        if answer.is_success:
            told = answer.json()
            assert (told["written"], len(told["refused"])) == (0, 1)


def _assert_refused(gate: Guarded, method: str, path: str, body: bytes) -> None:
    headers = {**gate.policy(), "Content-Type": "application/json"}
    answer = gate.http.request(method, path, content=body, headers=headers)
    assert 400 <= answer.status_code < 500, (path, answer.text)
    assert answer.headers["iothub-errorcode"]
    assert len(answer.content) < ANSWER_BYTES_MAX


@pytest.mark.usefixtures("writing")
def test_of_two_members_of_one_name_the_last_one_counts_everywhere(gate: Guarded) -> None:
    body = b'{"tags":{"a":1},"tags":{"b":1,"b":2}}'
    headers = {**gate.policy(), "Content-Type": "application/json"}
    gate.http.patch("/twins/victim", json={"tags": {"a": None, "b": None}}, headers=headers)
    assert gate.http.patch("/twins/victim", content=body, headers=headers).json()["tags"] == {"b": 2}


# -- on the wire


class Raw:
    """An answer as it came over a socket."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def _connect(gate: Guarded) -> socket.socket:
    assert gate.http.base_url.port is not None
    return socket.create_connection(("127.0.0.1", gate.http.base_url.port), timeout=20)


def _head(gate: Guarded, method: str, path: str, headers: dict[str, str]) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        *(f"{name}: {value}" for name, value in ({"Host": gate.host} | headers).items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _raw(gate: Guarded, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Raw:
    """A request with a path that no client would leave as it is."""
    length = {"Content-Length": str(len(body)), "Content-Type": "application/json"} if body else {}
    with _connect(gate) as wire:
        wire.sendall(_head(gate, method, path, {**headers, **length, "Connection": "close"}) + body)
        return Raw(_rest(wire))


def _rest(wire: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    data = b""
    with contextlib.suppress(ConnectionResetError):  # It may be closed while we still had something to say.
        while chunk := wire.recv(65536):
            data += chunk
    return data


def test_a_body_is_not_waited_for_before_it_is_known_who_sends_it(gate: Guarded) -> None:
    for path in ("/devices/x", "/v1/facts", "/configurations/x"):
        with _connect(gate) as wire:
            wire.sendall(_head(gate, "PUT", path, {"Content-Length": "1000000", "Expect": "100-continue"}))
            assert Raw(_until(wire, b"ExceptionMessage" if not path.startswith("/v1") else b"requestId")).status == 401


def _until(wire: socket.socket, wanted: bytes) -> bytes:
    data = b""
    while wanted not in data:
        chunk = wire.recv(65536)
        assert chunk, data
        data += chunk
    return data


@pytest.mark.parametrize("path", ["/twins/victim", "/v1/facts"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_slow_body_is_cut_off_and_holds_up_nobody(gate: Guarded, path: str, *, chunked: bool) -> None:
    method = "PATCH" if path.startswith("/twins") else "POST"
    length = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": "1000"}
    wires = [_connect(gate) for _ in range(100)]
    for wire in wires:
        wire.sendall(_head(gate, method, path, {**gate.policy(), **length, "Connection": "close"}))
        wire.sendall(b"1\r\n{\r\n" if chunked else b"{")
    assert gate.http.get("/twins/victim", headers=gate.policy()).status_code == 200
    for wire in wires:
        answer = Raw(_rest(wire))
        assert (answer.status, answer.headers["iothub-errorcode"]) == (408, "RequestTimeout")
        wire.close()


@pytest.mark.parametrize("begun", [b"", b"GET /devices HT", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: "])
def test_a_connection_without_a_request_is_closed(gate: Guarded, begun: bytes) -> None:
    with _connect(gate) as wire:
        wire.sendall(begun)
        assert _rest(wire) == b""


def test_whoever_goes_on_sending_after_a_refusal_is_cut_off(gate: Guarded) -> None:
    with _connect(gate) as wire:
        wire.sendall(_head(gate, "PUT", "/devices/x", {"Content-Length": "1000000000"}))
        assert Raw(_until(wire, b"ExceptionMessage")).status == 401
        wire.settimeout(0.05)

        def is_closed() -> bool:
            try:
                wire.sendall(b"x")
                return wire.recv(100) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        eventually(is_closed, what="the connection is closed")


@pytest.mark.parametrize("path", ["/twins/victim", "/v1/facts", "/configurations/big"])
def test_a_body_that_is_too_large_is_refused(gate: Guarded, path: str) -> None:
    method = {"/twins/victim": "PATCH", "/v1/facts": "POST"}.get(path, "PUT")
    with _connect(gate) as wire:
        wire.sendall(
            _head(gate, method, path, {**gate.policy(), "Content-Length": str(9 << 20), "Connection": "close"})
        )
        answer = Raw(_rest(wire))
    assert (answer.status, answer.headers["iothub-errorcode"]) == (413, "MessageTooLarge")
    chunk = b'{"a": "' + b"x" * 65_529
    parts = (chunk for _ in range(9 << 4))
    try:
        told = gate.http.request(method, path, content=parts, headers=gate.policy())
    except httpx.TransportError:
        return  # It was closed before all was sent.
    assert told.status_code in {400, 413}


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_fault_of_ours(gate: Guarded) -> None:
    for method, path in (("PATCH", "/twins/victim"), ("POST", "/v1/facts")):
        with _connect(gate) as wire:
            wire.sendall(_head(gate, method, path, {**gate.policy(), "Content-Length": "1000"}) + b"{")
        seen = gate.said().count('"status": 400')
        eventually(lambda seen=seen: gate.said().count('"status": 400') > seen, what="it is noted")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /devices HTTP/1.1\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n",
        b"GET /devices HTTP/1.1\r\nX-A: " + b"b" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /devices HTTP/1.1\r\n\r\n",
        b"GET /dev ices HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
        b"POST /v1/facts HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/facts HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/facts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"GET /devices\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_in_our_words(gate: Guarded, sent: bytes) -> None:
    with _connect(gate) as wire:
        with contextlib.suppress(OSError):  # It may be refused before all was sent.
            wire.sendall(sent)
        data = _rest(wire)
    if data:
        answer = Raw(data)
        assert (answer.status, answer.headers["iothub-errorcode"]) == (400, "ArgumentInvalid")
        assert json.loads(answer.body)["Message"].startswith("ErrorCode:ArgumentInvalid;")


@pytest.mark.parametrize("sent", ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding : chunked"])
def test_a_request_hides_no_other_one(gate: Guarded, sent: str) -> None:
    hidden = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with _connect(gate) as wire:
        wire.sendall(f"POST /v1/facts HTTP/1.1\r\nHost: x\r\n{sent}\r\n\r\n0\r\n\r\n{hidden}".encode())
        assert _rest(wire).startswith((b"HTTP/1.1 400", b"HTTP/1.1 401"))


def test_a_websocket_is_not_opened_past_the_gate(gate: Guarded) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "eA==",
    }
    with _connect(gate) as wire:
        wire.sendall(_head(gate, "GET", "/devices", upgrade))
        assert Raw(_until(wire, b"ExceptionMessage")).status == 401


# -- how much


@pytest.fixture
def throttled(gate: Guarded, tmp_path: Path) -> Iterator[Guarded]:
    more = {"TWINFOLD_KEY_FILE": str(gate.directory / "master.key"), "TWINFOLD_REQUESTS_PER_MINUTE": "20"}
    with guarded(gate.system, tmp_path, **more) as serving:
        yield Guarded(serving.system, serving.http, gate.vault, gate.producer, tmp_path)


def test_who_asks_too_much_waits_and_nobody_else(throttled: Guarded) -> None:
    owner, reader = throttled.policy(), throttled.policy("registryRead")
    statuses = [throttled.http.get("/devices/victim", headers=owner).status_code for _ in range(40)]
    assert statuses[:20] == [200] * 20
    assert 429 in statuses[20:]
    answer = eventually_throttled(throttled, owner, "/devices/victim")
    assert answer.headers["iothub-errorcode"] == "ThrottlingException"
    assert "retry-after" not in answer.headers
    told = answer.json()
    assert told["errorCode"] == 429001
    assert told["Message"].startswith("ErrorCode:ThrottlingException;The request has been throttled. Wait ")
    assert told["Message"].endswith(" seconds and try again. Operation type: Read")
    own = eventually_throttled(throttled, owner, "/v1/devices")
    assert own.json()["error"]["code"] == "ThrottlingException"
    assert throttled.http.get("/devices/victim", headers=reader).status_code == 200
    assert throttled.http.get("/healthz").status_code == 200


def eventually_throttled(gate: Guarded, headers: dict[str, str], path: str) -> httpx.Response:
    answer = gate.http.get(path, headers=headers)
    while answer.status_code != 429:
        answer = gate.http.get(path, headers=headers)
    return answer


def test_who_guesses_waits_and_good_credentials_from_there_do_not(throttled: Guarded) -> None:
    guesses = [
        throttled.http.get("/devices", headers={"Authorization": f"Bearer twf_{number}_" + "A" * 43}).status_code
        for number in range(40)
    ]
    assert guesses[:20] == [401] * 20
    assert 429 in guesses[20:]
    assert throttled.http.get("/devices", headers=throttled.policy()).status_code == 200


# -- what must not be told


def test_no_answer_log_line_or_metric_shows_a_credential(gate: Guarded) -> None:
    key, owner = gate.key("iothubowner"), gate.policy()
    sig = owner["Authorization"].split("sig=")[1].split("&")[0]
    wrong = {"Authorization": owner["Authorization"].replace("skn=iothubowner", "skn=service")}
    texts = [gate.http.request(method, path, headers=wrong).text for _, method, path in OPERATIONS]
    texts += [gate.http.get("/devices/none", headers=owner).text, gate.http.get("/metrics", headers=owner).text]
    for text in (*texts, gate.said()):
        assert key not in text
        assert sig not in text
        assert "SharedAccessSignature" not in text
        assert "twf_" not in text
        assert "Bearer" not in text


def test_policies_and_tokens_are_in_the_log_without_what_opens(gate: Guarded) -> None:
    client = Redis.from_url(gate.system.url)
    kept = repr([client.dump(name) for name in client.scan_iter()])
    client.close()
    assert gate.key("iothubowner") not in kept
