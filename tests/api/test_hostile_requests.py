"""Paths and bodies that are made to be misread are refused, and nothing comes of them."""

import json
from typing import Any

import pytest

from tests.api.raw import raw
from tests.api.serving import Guarded
from tests.workers.system import base

pytestmark = [pytest.mark.redis_server, pytest.mark.usefixtures("unharmed"), pytest.mark.full]

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
        answer = raw(gate, "GET", path, own)
        assert answer.status in {400, 401, 404}, answer.body
        assert b"victim" not in answer.body


@pytest.mark.parametrize("end", ["%0a", "%0d%0a", "%00"])
def test_a_path_is_not_routed_by_another_rule_than_it_was_let_in_by(gate: Guarded, end: str) -> None:
    line = json.dumps({"command": "RegisterDevice", "device_id": "smuggled"}).encode()
    for policy in ("registryReadWrite", "iothubowner"):
        answer = raw(gate, "POST", f"/v1/events{end}", gate.policy(policy), line)
        assert (answer.status, answer.headers["iothub-errorcode"]) == (400, "ArgumentInvalid")


@pytest.mark.parametrize("host", ["{}/healthz?", "{}/docs#", "{}%2fhealthz?", "x@{}/healthz?x=", "a:b:c/healthz?"])
@pytest.mark.parametrize("path", ["/devices", "/v1/devices", "/metrics"])
def test_a_host_that_holds_a_path_opens_nothing(gate: Guarded, host: str, path: str) -> None:
    assert raw(gate, "GET", path, {"Host": host.format(gate.host)}).status == 401


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
        answer = raw(
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
        assert raw(gate, method, "/devices", gate.policy()).status in {400, 405}
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
    value = _value(name)
    _assert_refused(gate, "POST", "/v1/deployments/hostile", _with({**good, "metrics": {}}, member, value))
    queries = b'{"queries":' + value + b"}" if member == "metrics" else value
    _assert_refused(gate, "PUT", "/configurations/hostile", _with(good, member, queries))


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
    assert answer.status_code == (413 if name == "many keys" else 400), answer.text
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
def test_events_with_a_hostile_line_are_refused(gate: Guarded, name: str) -> None:
    for member in (b"tags", b"patch", b"device_id"):
        rest = BODIES[name].removeprefix(b'{"tags":') or b"x"
        line = b'{"command":"PatchTags","device_id":"victim","' + member + b'":' + rest
        answer = gate.http.post("/v1/events", content=line, headers=gate.policy())
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
