"""Whoever comes without good credentials, or asks for more than theirs allow, gets nothing and changes nothing."""

import base64
import json
import time
from collections.abc import Sequence

import httpx
import pytest

from events.access.commands import RevokeToken
from services.credentials import device_key, new_key
from tests.api.serving import Guarded, written
from tests.api.signing import digest, signed
from tests.servers import eventually
from tests.workers.system import base

pytestmark = [pytest.mark.redis_server, pytest.mark.usefixtures("unharmed"), pytest.mark.full]

READ, WRITE, TWINS_READ, TWINS_WRITE, EVENTS, ADMIN, OWN, OPEN, FOLLOW, AUDIT = range(10)
OPERATIONS: Sequence[tuple[int, str, str]] = (
    (READ, "GET", "/devices"),
    (READ, "GET", "/devices/victim"),
    (READ, "GET", "/configurations"),
    (READ, "GET", "/configurations/none"),
    (READ, "GET", "/statistics/devices"),
    (READ, "GET", "/metrics"),
    (READ, "GET", "/v1/deployments"),
    (READ, "GET", "/v1/readiness"),
    (READ, "GET", "/v1/readiness/privileged"),
    (READ, "GET", "/v1/waivers"),
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
    (WRITE, "PUT", "/v1/waivers/mine"),
    (WRITE, "DELETE", "/v1/waivers/none"),
    (WRITE, "POST", "/devices/victim/applyConfigurationContent"),
    (TWINS_READ, "GET", "/twins/victim"),
    (TWINS_READ, "GET", "/twins/victim/modules/%24edgeAgent"),
    (TWINS_READ, "POST", "/devices/query"),
    (TWINS_READ, "GET", "/v1/devices"),
    (TWINS_READ, "GET", "/v1/devices/victim/effective"),
    (TWINS_READ, "GET", "/v1/devices/victim/readiness"),
    (TWINS_WRITE, "PATCH", "/twins/victim"),
    (TWINS_WRITE, "PUT", "/twins/victim"),
    (EVENTS, "POST", "/v1/events"),
    (READ, "GET", "/v1/nowhere"),
    (WRITE, "PUT", "/v1/nowhere"),
    (ADMIN, "GET", "/v1/webhooks"),
    (ADMIN, "PUT", "/v1/webhooks/mine"),
    (ADMIN, "DELETE", "/v1/webhooks/mine"),
    (ADMIN, "GET", "/v1/webhooks/mine/deliveries"),
    (ADMIN, "POST", "/v1/webhooks/mine/test"),
    (FOLLOW, "GET", "/v1/stream"),
    (AUDIT, "GET", "/v1/audit/events"),
    (AUDIT, "GET", "/v1/audit/events/fleet/1"),
    (AUDIT, "GET", "/v1/audit/events/fleet/1/causes"),
    (AUDIT, "GET", "/v1/audit/export"),
    (OPEN, "GET", "/healthz"),
    (OPEN, "GET", "/readyz"),
    (OPEN, "GET", "/openapi.json"),
)
ALLOWED = {
    "iothubowner": {READ, WRITE, TWINS_READ, TWINS_WRITE, EVENTS, ADMIN, OWN, OPEN, FOLLOW, AUDIT},
    "service": {TWINS_READ, TWINS_WRITE, EVENTS, OPEN},
    "device": {OWN, OPEN},
    "registryRead": {READ, OPEN},
    "registryReadWrite": {READ, WRITE, OPEN},
}
ROLES_ALLOWED = {
    "read": {READ, TWINS_READ, OPEN},
    "operate": {READ, WRITE, TWINS_READ, TWINS_WRITE, EVENTS, OPEN, FOLLOW},
    "audit": {AUDIT, OPEN},
    "admin": {READ, WRITE, TWINS_READ, TWINS_WRITE, EVENTS, ADMIN, OWN, OPEN, FOLLOW, AUDIT},
}
OF_A_DEVICE: Sequence[tuple[str, str]] = (
    ("GET", "/devices/{}/modules"),
    ("GET", "/devices/{}/modules/mine"),
    ("GET", "/v1/devices/{}/desired"),
)


def ask(gate: Guarded, headers: dict[str, str], method: str, path: str) -> httpx.Response:
    """A request whose body no handler takes, so that nothing comes of it where it is let in."""
    conditions = {} if method == "POST" else {"If-Match": '"bm9uZQ=="'}
    ended = {"follow": "false"}  # Of a stream; to all others it says nothing.
    return gate.http.request(method, path, headers={**headers, **conditions}, json=["nothing"], params=ended)


NO_ENTRY = (
    "the credentials are missing, wrong or expired; the header Authorization takes a token, or a shared access"
    " signature with a key of a policy, a device or a module that covers the path (docs/reference/api.md)"
)
FORBIDDEN = "these credentials do not allow that: "


def refused(answer: httpx.Response, *, said: str = NO_ENTRY) -> bool:
    """Whether it is the one refusal that all wrong credentials get, in the envelope of its path."""
    if answer.status_code != 401:
        return False
    assert answer.headers["iothub-errorcode"] == "IotHubUnauthorizedAccess"
    request_id = answer.headers["x-ms-request-id"]
    if answer.url.path.startswith("/v1/"):
        told = {"error": {"code": "IotHubUnauthorizedAccess", "message": said, "requestId": request_id}}
    else:
        time = answer.json()["ExceptionMessage"].rpartition("-TimeStamp:")[2]
        told = {
            "Message": f"ErrorCode:IotHubUnauthorizedAccess;{said}",
            "ExceptionMessage": f"Tracking ID:{request_id}-G:0-TimeStamp:{time}",
            "errorCode": 401002,
        }
    assert answer.json() == told
    return True


def forbidden(answer: httpx.Response) -> bool:
    """Whether it is refused to credentials that are good, and says why."""
    if answer.status_code != 401:
        return False
    body = answer.json()
    said: str = body["error"]["message"] if "error" in body else body["Message"].partition(";")[2]
    return said.startswith(FORBIDDEN) and refused(answer, said=said)


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
    for path in ("/devices", "/v1/events"):
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


@pytest.mark.parametrize("resource", ["/v1/devices", "/v1/devices/", "/v1/devices/victim", "/devices"])
def test_a_signature_may_name_a_path_with_our_prefix(gate: Guarded, resource: str) -> None:
    header = {"Authorization": signed(gate.key("iothubowner"), gate.host + resource, policy="iothubowner")}
    assert gate.http.get("/v1/devices/victim/modules", headers=header).status_code in {200, 404}
    for path in ("/v1/deployments", "/v1/devices2", "/twins/victim", "/configurations"):
        assert refused(gate.http.get(path, headers=header))
    assert refused(gate.http.get("/devices/victim", headers=header)) is resource.startswith("/v1")


def test_a_device_may_sign_its_path_with_our_prefix(gate: Guarded) -> None:
    key = device_key(gate.system.log, gate.vault, "thief")
    header = {"Authorization": signed(key, f"{gate.host}/v1/devices/thief")}
    assert gate.http.get("/v1/devices/thief/desired", headers=header).status_code in {200, 404}
    for path in ("/devices/thief/modules", "/v1/devices/victim/desired"):
        assert refused(gate.http.get(path, headers=header))


@pytest.mark.usefixtures("writing")
def test_the_name_of_a_scheme_is_the_same_in_upper_and_lower_case(gate: Guarded) -> None:
    token, signature = gate.token("read")["Authorization"], gate.policy()["Authorization"]
    for header in (token, signature):
        scheme, _, credentials = header.partition(" ")
        for spelled in (scheme.lower(), scheme.upper()):
            given = {"Authorization": f"{spelled} {credentials}"}
            assert gate.http.get("/devices", headers=given).status_code == 200


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
    heads = written(gate.system)
    for kind, method, path in OPERATIONS:
        answer = ask(gate, headers, method, path)
        assert forbidden(answer) is (kind not in ROLES_ALLOWED[role]), (role, method, path, answer.text)
    assert written(gate.system) == heads


@pytest.mark.usefixtures("writing")
def test_whoever_may_not_do_something_is_told_which_right_is_missing_and_who_has_it(gate: Guarded) -> None:
    def refusal(headers: dict[str, str], method: str, path: str) -> str:
        answer = ask(gate, headers, method, path)
        assert forbidden(answer), answer.text
        body = answer.json()
        said: str = body["error"]["message"] if "error" in body else body["Message"].partition(";")[2]
        return said.removeprefix(FORBIDDEN)

    reader, scoped = gate.token("read"), gate.token("operate", scope="tags.site = 'north'")
    change = (
        "they lack the permission TwinWrite, which comes with the role operate or admin; policy iothubowner or service"
    )
    assert refusal(reader, "PATCH", "/twins/victim") == refusal(reader, "PATCH", "/twins/missing") == change
    assert refusal(gate.policy("service"), "GET", "/v1/stream") == (
        "they lack the permission RegistryRead, which comes with the role operate or admin; policy iothubowner"
    )
    assert refusal(reader, "GET", "/v1/audit/events").startswith(
        "they lack the permission AuditRead, which comes with the role "
    )
    assert refusal(gate.policy("device"), "GET", "/v1/diff").startswith(
        "they lack the permission RegistryRead and TwinRead, "
    )
    assert (
        refusal(scoped, "GET", "/v1/stream") == "they are limited to a scope, and this request has no answer within one"
    )
    for path in ("/devices/thief", "/v1/devices/thief/effective"):
        assert refusal(gate.device("thief"), "GET", path) == (
            "those of a device or a module reach its own modules, `desired` and `reports`"
        )
    line = json.dumps({"command": "RegisterDevice", "device_id": "smuggled"})
    (refused,) = gate.http.post("/v1/events", content=line, headers=gate.policy("service")).json()["refused"]
    assert refused["error"].startswith(f"{FORBIDDEN}they lack the permission RegistryWrite, which comes with ")


def test_a_registry_policy_reads_no_twin(gate: Guarded) -> None:
    assert forbidden(gate.http.get("/twins/victim", headers=gate.policy("registryReadWrite")))


def test_twins_alone_open_no_registry_through_events(gate: Guarded) -> None:
    line = json.dumps({"command": "RegisterDevice", "device_id": "smuggled"})
    for policy in ("registryReadWrite", "device"):
        assert forbidden(gate.http.post("/v1/events", content=line, headers=gate.policy(policy)))
    result = gate.http.post("/v1/events", content=line, headers=gate.policy("service")).json()
    assert (result["written"], len(result["refused"])) == (0, 1)


def test_events_say_nothing_of_policies_and_tokens(gate: Guarded) -> None:
    for command in ("DefinePolicy", "DeletePolicy", "IssueToken", "RevokeToken", "TokenIssued"):
        line = {"command": command, "token_id": "a", "name": "a", "role": "admin", "digest": "0" * 64}
        result = gate.http.post("/v1/events", content=json.dumps(line), headers=gate.policy()).json()
        assert result["written"] == 0
        assert len(result["refused"]) == 1


@pytest.mark.usefixtures("writing")
def test_a_password_is_not_read_as_the_key_of_a_device_of_ones_own(gate: Guarded) -> None:
    content = base("m")
    agent = content["modulesContent"]["$edgeAgent"]["properties.desired"]
    registry = {"address": "example.com", "username": "u", "password": "not for everybody"}
    agent["runtime"]["settings"]["registryCredentials"] = {"mine": registry}
    assert gate.http.put("/configurations/kept", json={"content": content}, headers=gate.policy()).is_success
    operator = gate.token("operate")
    shown = gate.http.get("/configurations/kept", headers=operator).json()["content"]["modulesContent"]["$edgeAgent"]
    reference = shown["properties.desired"]["runtime"]["settings"]["registryCredentials"]["mine"]["password"]
    assert list(reference) == ["$secret"]
    keys = {"type": "sas", "symmetricKey": {"primaryKey": reference, "secondaryKey": reference}}
    heads = written(gate.system)
    for command in (
        {"command": "RegisterDevice", "device_id": "mine"},
        {"command": "UpdateDevice", "device_id": "victim"},
        {"command": "CreateModule", "device_id": "victim", "module_id": "reader"},
        {"command": "UpdateModule", "device_id": "victim", "module_id": "mine"},
    ):
        line = json.dumps({**command, "authentication": keys})
        assert gate.http.post("/v1/events", content=line, headers=operator).json()["written"] == 0
    assert gate.http.put("/devices/mine", json={"authentication": keys}, headers=operator).status_code == 400
    assert written(gate.system) == heads


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
def test_a_scoped_token_learns_of_nobody_else_and_changes_nothing_there(gate: Guarded) -> None:
    gate.http.patch("/twins/thief", json={"tags": {"site": "north"}}, headers=gate.policy())
    scoped = gate.token("operate", scope="tags.site = 'north'")
    heads = written(gate.system)
    for path in ("/twins/thief", "/devices/thief", "/devices/thief/modules", "/v1/devices/thief/effective"):
        assert gate.http.get(path, headers=scoped).status_code in {200, 404}
    for kind, method, path in OPERATIONS:
        answer = ask(gate, scoped, method, path)
        assert "victim" not in answer.text.replace("no device 'victim' is registered", ""), path
        assert kind != ADMIN or forbidden(answer)
        assert "victim" not in path or answer.status_code in {400, 404}
    assert gate.http.put("/devices/brand-new", json={}, headers=scoped).status_code == 401
    assert written(gate.system) == heads


# -- devices


def test_a_device_reaches_itself_and_nobody_else(gate: Guarded) -> None:
    own = gate.device("thief")
    for method, path in OF_A_DEVICE:
        assert gate.http.request(method, path.format("thief"), headers=own).status_code in {200, 404}
        assert refused(gate.http.request(method, path.format("victim"), headers=own))
    for kind, method, path in OPERATIONS:
        assert kind == OPEN or refused(ask(gate, own, method, path)), path
    for path in ("/devices/thief", "/twins/thief", "/v1/devices/thief/effective", "/v1/devices/thief/assignments"):
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
