"""Requests as other clients send them (contract/hub.md §1, §4, §5), replayed: their paths, headers, bodies and etags."""

import re
import ssl
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.serving import rows_of
from tests.api.signing import by_command_line, by_node, signed
from tests.clients.serving import Hub
from tests.servers import eventually
from tests.workers.system import base

pytestmark = pytest.mark.redis_server

AZ = {"api-version": "2024-03-31"}
NODE = CSHARP = {"api-version": "2021-04-12"}
DEVICE_RUNTIME = {"api-version": "2017-11-08-preview"}
JSON = "application/json; charset=utf-8"
ANY = {"If-Match": '"*"'}
EDGE = {
    "status": "enabled",
    "authentication": {"symmetricKey": {}, "type": "sas"},
    "capabilities": {"iotEdge": True},
    "parentScopes": [],
}


def parts_of(connection_string: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in connection_string.split(";"))


@pytest.fixture
def az(running: Hub) -> Iterator[httpx.Client]:
    """As the command line of hubs sends: it names the type of bodies that are not there, too."""
    parts = parts_of(running.owner)
    expiry = int(time.time()) + 600
    signature = by_command_line(parts["SharedAccessKey"], parts["HostName"], parts["SharedAccessKeyName"], expiry)
    with running.signing(running.owner) as client:
        client.params = httpx.QueryParams(AZ)
        client.headers.update(
            {
                "Authorization": signature,
                "Content-Type": JSON,
                "x-ms-client-request-id": "5d7a2f0e-c6a1-11f0-9d5e-0242ac120002",
            }
        )
        yield client


@pytest.fixture
def node(running: Hub) -> Iterator[httpx.Client]:
    """As the library for Node sends."""
    parts = parts_of(running.owner)
    expiry = int(time.time()) + 3600
    signature = by_node(parts["SharedAccessKey"], parts["HostName"], parts["SharedAccessKeyName"], expiry)
    assert re.fullmatch(r"SharedAccessSignature sr=[^&]+&sig=[^&]+&skn=[^&]+&se=\d+", signature)
    with running.signing(running.owner) as client:
        client.params = httpx.QueryParams(NODE)
        client.headers.update({"Authorization": signature, "Request-Id": "1a2b3c", "Accept": "application/json"})
        yield client


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.headers.get("iothub-errorcode", "")


# -- the command line


def test_az_creates_shows_and_updates_a_device(az: httpx.Client) -> None:
    made = az.put("/devices/az-1", json={"deviceId": "az-1", **EDGE})
    assert (made.status_code, made.headers["content-type"]) == (200, "application/json")
    shown = az.get("/devices/az-1").raise_for_status().json()
    assert all(shown["authentication"]["symmetricKey"].values())
    # An update echoes what was read, with the etag of a wish in the body, and leaves out the scope that it was not told.
    shown.pop("deviceScope")
    updated = az.put("/devices/az-1", json={**shown, "etag": "*", "status": "disabled"}, headers=ANY).json()
    assert (updated["status"], updated["authentication"]) == ("disabled", shown["authentication"])
    assert az.delete("/devices/az-1", headers=ANY).status_code == 204
    assert told(az.get("/devices/az-1")) == (404, "DeviceNotFound")


def test_az_creates_and_updates_a_deployment(az: httpx.Client) -> None:
    body = {
        "id": "mydep1",
        "schemaVersion": "2.0",
        "labels": {"key0": "value0"},
        "content": base("temp"),
        "targetCondition": "tags.environment='test'",
        "priority": 10,
        "metrics": {
            "queries": {
                "mymetric": "SELECT deviceId from devices where properties.reported.lastDesiredStatus.code = 200"
            }
        },
        "etag": "*",
    }
    made = az.put("/configurations/mydep1", json=body)
    assert (made.status_code, made.headers["etag"]) == (200, '"MQ=="')
    shown = az.get("/configurations/mydep1").raise_for_status().json()
    assert {"id", "schemaVersion", "labels", "content", "targetCondition", "priority"} <= shown.keys()
    assert isinstance(shown["metrics"]["queries"], dict)
    assert shown["metrics"]["results"] == {"mymetric": 0}
    sent_back = {name: shown[name] for name in body if name != "etag"}
    changed = (
        az.put("/configurations/mydep1", json={**sent_back, "priority": 11}, headers=ANY).raise_for_status().json()
    )
    assert (changed["priority"], changed["metrics"]["queries"], changed["etag"]) == (
        11,
        body["metrics"]["queries"],
        "Mg==",
    )
    stale = {"If-Match": f'"{shown["etag"]}"'}
    assert told(az.put("/configurations/mydep1", json=sent_back, headers=stale)) == (412, "PreconditionFailed")
    assert az.delete("/configurations/mydep1", headers=ANY).status_code == 204


def test_az_creates_a_deployment_with_nothing_but_a_content(az: httpx.Client) -> None:
    body = {
        "id": "bare",
        "schemaVersion": "2.0",
        "content": base("temp"),
        "targetCondition": "",
        "priority": 0,
        "metrics": {},
        "etag": "*",
    }
    az.put("/configurations/bare", json=body).raise_for_status()
    shown = az.get("/configurations/bare").json()
    assert (shown["labels"], shown["targetCondition"], shown["metrics"]["queries"]) == (None, "", {})
    assert shown["systemMetrics"]["queries"]["targetedCount"] == ""
    assert az.delete("/configurations/bare").status_code == 204


def test_az_sends_a_whole_twin_back(az: httpx.Client) -> None:
    az.put("/devices/az-2", json={"deviceId": "az-2", **EDGE})
    az.patch("/twins/az-2", json={"tags": {"a": 1, "b": 2}, "properties": {"desired": {"rate": {"x": 1}}}}, headers=ANY)
    whole = az.get("/twins/az-2").json()
    whole["tags"]["a"] = 9
    whole["properties"]["reported"]["never"] = "mine"
    patched = az.patch("/twins/az-2", json=whole, headers=ANY).raise_for_status().json()
    assert patched["tags"] == {"a": 9, "b": 2}
    assert patched["properties"]["desired"]["rate"] == {"x": 1}
    assert "never" not in patched["properties"]["reported"]
    # `device-twin replace` sends a whole twin, too.
    whole["tags"] = {"only": True}
    replaced = az.put("/twins/az-2", json=whole, headers=ANY).raise_for_status().json()
    assert (replaced["tags"], replaced["properties"]["desired"]["rate"]) == ({"only": True}, {"x": 1})


@pytest.mark.full
def test_az_lists_with_pages_of_a_thousand(az: httpx.Client) -> None:
    names = [f"az-list-{number:03}" for number in range(250)]
    for start in range(0, len(names), 100):
        some = [{"id": name, "importMode": "create", "tags": {"list": 1}} for name in names[start : start + 100]]
        assert az.post("/devices", json=some).raise_for_status().json()["isSuccessful"]
    size = {"x-ms-max-item-count": "1000"}

    def listed() -> list[str]:
        seen: list[str] = []
        continuation: dict[str, str] = {}
        while True:
            query = {"query": "select * from devices where tags.list = 1"}
            page = az.post("/devices/query", json=query, headers={**size, **continuation}).raise_for_status()
            assert page.headers["x-ms-item-type"] == "Twin"
            seen += [twin["deviceId"] for twin in page.json()]
            found = page.headers.get("x-ms-continuation")
            if found is None:
                return seen
            continuation = {"x-ms-continuation": found}

    eventually(lambda: sorted(listed()) == names, what="all of them are listed, each once")


def test_az_sets_modules_and_exports_them(az: httpx.Client) -> None:
    az.put("/devices/az-3", json={"deviceId": "az-3", **EDGE})
    content = {"modulesContent": {**base("temp")["modulesContent"], "temp": {"properties.desired": {"rate": 5}}}}
    set_modules = az.post("/devices/az-3/applyConfigurationContent", json=content)
    assert (set_modules.status_code, set_modules.content) == (204, b"")
    modules = az.get("/devices/az-3/modules").raise_for_status().json()
    assert [one["moduleId"] for one in modules] == ["$edgeAgent", "$edgeHub", "temp"]
    exported = {}
    for module in modules:
        twin = az.get(f"/twins/az-3/modules/{module['moduleId'].replace('$', '%24')}").raise_for_status().json()
        desired = twin["properties"]["desired"]
        del desired["$metadata"], desired["$version"]
        exported[module["moduleId"]] = {"properties.desired": desired}
    assert exported == content["modulesContent"]


def test_az_shows_a_metric(az: httpx.Client) -> None:
    az.put("/devices/az-4", json={"deviceId": "az-4", **EDGE})
    az.patch("/twins/az-4", json={"tags": {"metric": "az"}}, headers=ANY)
    body = {"id": "metric", "content": base("m"), "targetCondition": "tags.metric = 'az'", "metrics": {}, "etag": "*"}
    az.put("/configurations/metric", json=body).raise_for_status()

    def metrics() -> Any:
        return az.get("/configurations/metric").raise_for_status().json()["systemMetrics"]

    eventually(lambda: metrics()["results"].get("appliedCount") == 1, what="it is applied")
    for metric, query in metrics()["queries"].items():
        rows = rows_of(az, query)
        assert len(rows) == metrics()["results"][metric], metric
    az.delete("/configurations/metric", headers=ANY)


def test_az_tests_queries(az: httpx.Client) -> None:
    body = {"targetCondition": "tags.env='test'", "customMetricQueries": {"m": "select * from devices"}}
    answer = az.post("/configurations/testQueries", json=body).raise_for_status()
    assert answer.json() == {"targetConditionError": None, "customMetricQueryErrors": {}}


# -- Node and C#


def test_node_works_with_quoted_etags_and_the_first_schema_version(node: httpx.Client) -> None:
    body = {"id": "node", "schemaVersion": "1.0", "content": base("m"), "targetCondition": "*", "priority": 1}
    made = node.put("/configurations/node", json=body).raise_for_status().json()
    assert made["schemaVersion"] == "1.0"
    quoted = {"If-Match": f'"{made["etag"]}"'}
    updated = node.put("/configurations/node", json={**made, "priority": 2}, headers=quoted).raise_for_status().json()
    assert (updated["priority"], updated["etag"]) == (2, "Mg==")
    assert told(node.put("/configurations/node", json=made, headers=quoted)) == (412, "PreconditionFailed")
    assert node.delete("/configurations/node", headers=ANY).status_code == 204
    device = {"deviceId": "node", "status": "enabled", "authentication": {"type": "sas", "symmetricKey": None}}
    made = node.put("/devices/node", json=device).raise_for_status().json()
    assert all(made["authentication"]["symmetricKey"].values())
    assert node.delete("/devices/node", headers=ANY).status_code == 204


def test_csharp_writes_a_slash_before_the_query(running: Hub) -> None:
    with running.signing(running.owner) as client:
        client.params = httpx.QueryParams(CSHARP)
        client.put("/devices/csharp", json={"deviceId": "csharp", "eTag": "*"}).raise_for_status()
        eventually(lambda: client.get("/devices/", params={"top": 10}).json(), what="a device is listed")
        body = {"id": "csharp", "schemaVersion": "1.0", "contentType": "assignment", "content": base("m")}
        client.put("/configurations/csharp", json=body).raise_for_status()
        listed = client.get("/configurations/", params={"top": 5}).raise_for_status().json()
        assert "csharp" in {one["id"] for one in listed}
        assert {one["contentType"] for one in listed} == {"assignment"}
        client.delete("/configurations/csharp")


@pytest.mark.parametrize(
    ("mode", "ends"),
    [
        ("Create", "created"),
        ("Update", "disabled"),
        ("UpdateIfMatchETag", "disabled"),
        ("Delete", "gone"),
        ("DeleteIfMatchETag", "gone"),
        ("UPDATETWIN", "tagged"),
        ("updateTwinIfMatchEtag", "tagged"),
    ],
)
def test_node_names_import_modes_with_a_capital(node: httpx.Client, mode: str, ends: str) -> None:
    name = f"node-{mode.lower()}"
    etag = "" if mode == "Create" else node.put(f"/devices/{name}", json={"deviceId": name}).json()["etag"]
    twin_etag = "" if mode == "Create" else node.get(f"/twins/{name}").json()["etag"]
    line = {
        "id": name,
        "importMode": mode,
        "eTag": etag,
        "twinETag": twin_etag,
        "status": "disabled" if ends == "disabled" else "enabled",
        "authentication": None,
        "tags": {"a": 1},
    }
    answer = node.post("/devices", json=[line])
    assert (answer.status_code, answer.json()) == (200, {"isSuccessful": True, "errors": [], "warnings": []})
    shown = node.get(f"/devices/{name}")
    assert {
        "created": shown.is_success,
        "disabled": shown.is_success and shown.json()["status"] == "disabled",
        "gone": shown.status_code == 404,
        "tagged": node.get(f"/twins/{name}").json().get("tags") == {"a": 1},
    }[ends]


def test_an_import_mode_that_does_not_exist_is_refused_with_those_that_do(node: httpx.Client) -> None:
    (error,) = node.post("/devices", json=[{"id": "x", "importMode": "Replace"}]).json()["errors"]
    assert error["errorStatus"].startswith("importMode must be one of create, update, ")
    assert "'Replace'" in error["errorStatus"]


# -- the service library for Java


def java(client: httpx.Client, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
    """A request as HttpURLConnection of Java makes it: it knows no PATCH, and sends POST with a header."""
    if method == "PATCH":
        method, headers = "POST", {**headers, "X-HTTP-Method-Override": "PATCH"}
    common = {"Accept": "application/json", "Content-Type": JSON, "User-Agent": "com.microsoft.azure.sdk.iot/2.1.8"}
    return client.request(method, path, json=body, headers={**common, **headers}, params=NODE)


def test_java_writes_statuses_and_types_of_authentication_in_its_own_case(node: httpx.Client) -> None:
    keys = {"primaryKey": "", "secondaryKey": ""}
    body = {
        "deviceId": "java",
        "status": "Enabled",
        "authentication": {"type": "Sas", "symmetricKey": keys},
        "capabilities": {"iotEdge": True},
    }
    made = java(node, "PUT", "/devices/java", body).raise_for_status().json()
    assert (made["status"], made["authentication"]["type"]) == ("enabled", "sas")
    disabled = java(node, "PUT", "/devices/java", {**made, "status": "DISABLED"}, **ANY).raise_for_status().json()
    assert (disabled["status"], disabled["authentication"]) == ("disabled", made["authentication"])
    thumbprints = {"primaryThumbprint": "A" * 40, "secondaryThumbprint": "B" * 40}
    for sent, kept in (("SelfSigned", "selfSigned"), ("CERTIFICATEAUTHORITY", "certificateAuthority")):
        authentication = {"type": sent, "x509Thumbprint": thumbprints}
        changed = java(node, "PUT", "/devices/java", {**body, "authentication": authentication}, **ANY)
        assert changed.raise_for_status().json()["authentication"]["type"] == kept
    refused = java(node, "PUT", "/devices/java", {**body, "status": "Asleep"}, **ANY)
    assert "status must be enabled or disabled, not 'Asleep'" in refused.text


def test_java_patches_a_twin_by_a_post_that_overrides_the_method(node: httpx.Client) -> None:
    node.put("/devices/java-twin", json={"deviceId": "java-twin"})
    node.put("/devices/java-twin/modules/m", json={})
    patched = java(node, "PATCH", "/twins/java-twin", {"tags": {"a": 1}}).raise_for_status().json()
    assert patched["tags"] == {"a": 1}
    patched = java(node, "PATCH", "/twins/java-twin/modules/m", {"tags": {"b": 2}}).raise_for_status().json()
    assert patched["tags"] == {"b": 2}


@pytest.mark.parametrize(
    ("method", "override", "status"),
    [
        ("POST", "patch", 200),
        ("POST", "PUT", 200),
        ("PATCH", "PATCH", 200),
        ("POST", "GET", 400),
        ("GET", "PATCH", 400),
        ("PUT", "DELETE", 400),
    ],
)
def test_a_method_is_overridden_in_a_post_alone(node: httpx.Client, method: str, override: str, status: int) -> None:
    node.put("/devices/overridden", json={"deviceId": "overridden"})
    body = None if method == "GET" else {"tags": {"a": 1}}
    answer = node.request(method, "/twins/overridden", json=body, headers={"X-HTTP-Method-Override": override})
    assert answer.status_code == status
    assert status == 200 or "goes with POST alone" in answer.text


def test_an_override_needs_the_permission_of_the_method_that_it_names(running: Hub, node: httpx.Client) -> None:
    node.put("/devices/kept", json={"deviceId": "kept"})
    headers = {"X-HTTP-Method-Override": "DELETE", "If-Match": "*"}
    with running.signing(running.connection_string("--policy", "registryRead")) as reading:
        assert told(reading.post("/devices/kept", params=NODE, headers=headers)) == (401, "IotHubUnauthorizedAccess")
    assert node.get("/devices/kept").is_success
    assert node.post("/devices/kept", headers=headers).status_code == 204


# -- direct methods


@pytest.mark.parametrize("timeouts", [{}, {"responseTimeoutInSeconds": 30, "connectTimeoutInSeconds": 0}])
@pytest.mark.parametrize("path", ["/twins/called/methods", "/twins/called/modules/%24edgeAgent/methods"])
def test_a_method_of_a_device_that_is_not_connected_is_answered_as_the_hub_does(
    node: httpx.Client, path: str, timeouts: dict[str, int]
) -> None:
    node.put("/devices/called", json={"deviceId": "called", "capabilities": {"iotEdge": True}})
    answer = node.post(path, json={"methodName": "ping", "payload": None, **timeouts})
    assert told(answer) == (404, "DeviceNotOnline")
    assert answer.json()["errorCode"] == 404103
    assert "is not connected" in answer.json()["Message"]


def test_a_method_of_what_does_not_exist_and_a_body_that_is_none_are_told_apart(
    node: httpx.Client, running: Hub
) -> None:
    node.put("/devices/called", json={"deviceId": "called", "capabilities": {"iotEdge": True}})
    call = {"methodName": "reboot"}
    assert told(node.post("/twins/nobody/methods", json=call)) == (404, "DeviceNotFound")
    assert told(node.post("/twins/called/modules/none/methods", json=call)) == (404, "ModuleNotFound")
    assert told(node.post("/twins/nobody/modules/none/methods", json=call)) == (404, "DeviceNotFound")
    for body in (
        {},
        {"methodName": ""},
        {**call, "responseTimeoutInSeconds": 4},
        {**call, "connectTimeoutInSeconds": 301},
    ):
        assert told(node.post("/twins/called/methods", json=body)) == (400, "ArgumentInvalid")
    with running.signing(running.connection_string("--policy", "registryReadWrite")) as other:
        answer = other.post("/twins/called/methods", json=call, params=NODE)
        assert told(answer) == (401, "IotHubUnauthorizedAccess")


# -- the runtime on a device


def test_the_runtime_of_a_device_keeps_its_module_identities(running: Hub, az: httpx.Client) -> None:
    az.put("/devices/runtime", json={"deviceId": "runtime", **EDGE}).raise_for_status()
    with running.signing(running.connection_string("--device", "runtime")) as device:
        device.params = httpx.QueryParams(DEVICE_RUNTIME)
        body = {
            "moduleId": "temp",
            "managedBy": "iotEdge",
            "deviceId": "runtime",
            "authentication": {"type": "sas", "symmetricKey": {"primaryKey": None, "secondaryKey": None}},
        }
        made = device.put("/devices/runtime/modules/temp", json=body)
        assert (made.status_code, made.json()["managedBy"]) == (200, "iotEdge")
        keys = made.json()["authentication"]["symmetricKey"]
        assert told(device.put("/devices/runtime/modules/temp", json=body)) == (409, "ModuleAlreadyExistsOnDevice")
        again = device.put("/devices/runtime/modules/temp", json=body, headers={"If-Match": "*"})
        assert again.json()["authentication"]["symmetricKey"] != keys
        assert device.get("/devices/runtime/modules/temp").json()["moduleId"] == "temp"
        listed = device.get("/devices/runtime/modules").raise_for_status().json()
        assert [one["moduleId"] for one in listed] == ["$edgeAgent", "$edgeHub", "temp"]
        assert device.delete("/devices/runtime/modules/temp", headers={"If-Match": "*"}).status_code == 204
        assert told(device.get("/devices/runtime/modules/temp")) == (404, "ModuleNotFound")
        # Its key opens nothing else.
        assert told(device.get("/devices/az-2/modules")) == (401, "IotHubUnauthorizedAccess")
        assert told(device.get("/twins/runtime")) == (401, "IotHubUnauthorizedAccess")


def by_identity_service(key: str, resource: str, *, seconds: int = 30) -> str:
    """As the IoT identity service signs: the resource in lower case, for 30 seconds (contract/device.md §2)."""
    return signed(key, resource.lower(), seconds=seconds)


def as_identity_service(running: Hub, device: str, *, seconds: int = 30) -> httpx.Client:
    """A client with a device's key, whatever the case of its id."""
    parts = parts_of(running.connection_string("--device", device))
    return httpx.Client(
        base_url=f"https://{parts['HostName']}",
        headers={
            "Authorization": by_identity_service(
                parts["SharedAccessKey"], f"{parts['HostName']}/devices/{device}", seconds=seconds
            )
        },
        params=DEVICE_RUNTIME,
        verify=ssl.create_default_context(cafile=running.ca),
        timeout=30,
    )


def test_the_identity_service_signs_a_resource_in_lower_case_for_thirty_seconds(running: Hub, az: httpx.Client) -> None:
    for name in ("Gateway-7", "gateway-7"):
        az.put(f"/devices/{name}", json={"deviceId": name, **EDGE}).raise_for_status()
    with as_identity_service(running, "Gateway-7") as service:
        assert len(service.get("/devices/Gateway-7/modules").raise_for_status().json()) == 2
        # The key is that of one device: the other, whose id differs in case alone, is out of reach.
        assert told(service.get("/devices/gateway-7/modules")) == (401, "IotHubUnauthorizedAccess")
    # The clock of the device is behind, by less than a minute.
    with as_identity_service(running, "Gateway-7", seconds=-20) as service:
        assert service.get("/devices/Gateway-7/modules").status_code == 200
    with as_identity_service(running, "Gateway-7", seconds=-90) as service:
        assert service.get("/devices/Gateway-7/modules").status_code == 401


def test_the_identity_service_creates_a_module_and_gives_it_the_keys_that_it_derives(
    running: Hub, az: httpx.Client
) -> None:
    az.put("/devices/identities", json={"deviceId": "identities", **EDGE}).raise_for_status()
    with as_identity_service(running, "identities") as service:
        path, plain = "/devices/identities/modules/temp", {"moduleId": "temp", "deviceId": "identities"}
        made = service.put(path, json=plain)
        assert (made.status_code, made.headers["content-type"]) == (200, "application/json")
        generation = made.json()["generationId"]
        keys = {
            "primaryKey": "cHJpbWFyeSBvZiB0ZW1wIGFuZCBtb3JlIHRoYW4gMTYgYnl0ZXM=",
            "secondaryKey": "c2Vjb25kYXJ5IG9mIHRlbXAgYW5kIG1vcmUgdGhhbiAxNiBieXRlcw==",
        }
        updated = service.put(
            path, json={**plain, "authentication": {"symmetricKey": keys, "type": "sas"}}, headers={"If-Match": "*"}
        )
        assert (updated.status_code, updated.json()["generationId"]) == (200, generation)
        shown = service.get(path).json()
        assert (shown["generationId"], shown["authentication"]["symmetricKey"]) == (generation, keys)
        assert service.delete(path, headers={"If-Match": "*"}).status_code == 204


@pytest.mark.parametrize("module", ["$edgeAgent", "$edgeHub"])
def test_the_identity_service_gives_a_system_module_keys_and_these_open(
    running: Hub, az: httpx.Client, module: str
) -> None:
    name = f"system-{module[1:]}"
    az.put(f"/devices/{name}", json={"deviceId": name, **EDGE}).raise_for_status()
    keys = {
        "primaryKey": "b2YgYSBzeXN0ZW0gbW9kdWxlIGFuZCBtb3JlIHRoYW4gMTYgYnl0ZXM=",
        "secondaryKey": "b2YgYSBzeXN0ZW0gbW9kdWxlLCB0b28gYW5kIG1vcmUgdGhhbiAxNiBieXRlcw==",
    }
    path = f"/devices/{name}/modules/{module.replace('$', '%24')}"
    body = {
        "moduleId": module,
        "deviceId": name,
        "managedBy": None,
        "authentication": {"symmetricKey": keys, "type": "sas"},
    }
    with as_identity_service(running, name) as service:
        before = service.get(path).json()
        assert (before["authentication"]["type"], before["managedBy"]) == ("none", "iotEdge")
        updated = service.put(path, json=body, headers={"If-Match": "*"})
        assert (updated.status_code, updated.json()["generationId"]) == (200, before["generationId"])
        after = service.get(path).json()
        assert (after["authentication"]["symmetricKey"], after["managedBy"]) == (keys, "iotEdge")
        assert told(service.put(path, json=body, headers={"If-Match": f'"{before["etag"]}"'})) == (
            412,
            "PreconditionFailed",
        )
        assert told(service.put(path, json=body)) == (400, "ArgumentInvalid")
    assert az.get(f"/twins/{name}/modules/{module.replace('$', '%24')}").json()["authenticationType"] == "sas"
    with running.signing(running.connection_string("--device", f"{name}/{module}")) as own:
        assert own.get(path, params=DEVICE_RUNTIME).status_code == 200


def test_a_module_of_a_configuration_takes_keys_and_stays(running: Hub, az: httpx.Client) -> None:
    az.put("/devices/configured", json={"deviceId": "configured", **EDGE}).raise_for_status()
    az.post("/devices/configured/applyConfigurationContent", json=base("temp")).raise_for_status()
    path = "/devices/configured/modules/temp"
    eventually(lambda: az.get(path).is_success, what="the configuration names the module")
    stale = az.put(path, json={"moduleId": "temp"}, headers={"If-Match": '"AAAAAAAAAAk="'})
    assert told(stale) == (412, "PreconditionFailed")
    with as_identity_service(running, "configured") as service:
        updated = service.put(path, json={"moduleId": "temp", "deviceId": "configured"}, headers={"If-Match": "*"})
        assert (updated.status_code, updated.json()["authentication"]["type"]) == (200, "sas")


def test_the_identity_service_can_read_the_types_of_all_modules(running: Hub, az: httpx.Client) -> None:
    az.put("/devices/typed", json={"deviceId": "typed", **EDGE}).raise_for_status()
    thumbprints = {"primaryThumbprint": "A" * 40, "secondaryThumbprint": "B" * 40}
    for name, authentication in (
        ("own", {"type": "selfSigned", "x509Thumbprint": thumbprints}),
        ("authority", {"type": "certificateAuthority"}),
        ("keys", {"type": "sas"}),
    ):
        az.put(f"/devices/typed/modules/{name}", json={"authentication": authentication}).raise_for_status()
    with as_identity_service(running, "typed") as service:
        listed = {one["moduleId"]: one for one in service.get("/devices/typed/modules").json()}
        assert {name: one["authentication"]["type"] for name, one in listed.items()} == {
            "$edgeAgent": "none",
            "$edgeHub": "none",
            "own": "x509",
            "authority": "x509",
            "keys": "sas",
        }
        assert service.get("/devices/typed/modules/own").json()["authentication"]["type"] == "x509"
    assert az.get("/devices/typed/modules/own").json()["authentication"]["type"] == "selfSigned"


# -- errors


@pytest.mark.parametrize(
    ("request_line", "status", "code", "number"),
    [
        ("GET /devices/nobody", 404, "DeviceNotFound", 404001),
        ("GET /twins/nobody", 404, "DeviceNotFound", 404001),
        ("GET /devices/known/modules/nothing", 404, "ModuleNotFound", 404010),
        ("GET /devices/nobody/modules", 401, "IotHubUnauthorizedAccess", 401002),
        ("GET /configurations/nothing", 404, "ConfigurationNotFound", None),
        ("PUT /devices/known", 409, "DeviceAlreadyExists", 409001),
        ("PUT /devices/known/modules/mine", 409, "ModuleAlreadyExistsOnDevice", 409301),
        ("DELETE /devices/known", 412, "PreconditionFailed", 412001),
        ("PUT /devices/odd%20name", 400, "ArgumentInvalid", 400004),
        ("PUT /devices/known/modules/$mine", 400, "ArgumentInvalid", 400004),
        ("PUT /configurations/nothing", 400, "InvalidConfigurationContent", None),
        ("PATCH /twins/known/modules/$edgeAgent", 401, "SystemModuleModifyUnauthorizedAccess", None),
    ],
)
def test_a_refusal_is_in_the_hubs_envelope(
    az: httpx.Client, request_line: str, status: int, code: str, number: int | None
) -> None:
    method, path = request_line.split(" ")
    az.put("/devices/known", json={"deviceId": "known", **EDGE})
    az.put("/devices/known/modules/mine", json={})
    body = {"properties": {"desired": {"a": 1}}}
    answer = az.request(method, path, json=None if method == "GET" else body)
    assert told(answer) == (status, code)
    said = answer.json()
    assert said["Message"].startswith(f"ErrorCode:{code};")
    assert said.get("errorCode") == number
    tracking = r"Tracking ID:[0-9a-f]+-G:0-TimeStamp:\d\d/\d\d/\d{4} \d\d:\d\d:\d\d"
    assert re.fullmatch(tracking, said["ExceptionMessage"])


def test_the_words_that_clients_print(az: httpx.Client) -> None:
    az.put("/devices/known", json={"deviceId": "known", **EDGE})
    assert "A device with ID 'known' is already registered." in az.put("/devices/known", json=EDGE).text
    assert "Etag missing" in az.delete("/devices/known").text
    reserved = az.patch("/twins/known/modules/%24edgeHub", json={"properties": {"desired": {"a": 1}}})
    assert "Unauthorized to modify reserved module." in reserved.text


def test_a_bulk_change_with_errors_is_a_400_of_the_same_shape(az: httpx.Client) -> None:
    az.put("/devices/known", json={"deviceId": "known", **EDGE})
    answer = az.post("/devices", json=[{"id": "known", "importMode": "create"}, {"id": "bulk", "importMode": "create"}])
    assert (answer.status_code, answer.json()) == (
        400,
        {
            "isSuccessful": False,
            "errors": [
                {
                    "deviceId": "known",
                    "moduleId": None,
                    "errorCode": "DeviceAlreadyExists",
                    "errorStatus": "A device with ID 'known' is already registered.",
                    "operation": "create",
                }
            ],
            "warnings": [],
        },
    )
    assert az.get("/devices/bulk").status_code == 200


def test_a_token_is_told_of_a_missing_device_as_such(running: Hub) -> None:
    for method, path in (("GET", "/modules"), ("GET", "/modules/m"), ("PUT", "/modules/m"), ("DELETE", "/modules/m")):
        answer = running.admin.request(
            method, f"/devices/nobody{path}", params=AZ, headers=ANY, json={} if method == "PUT" else None
        )
        assert told(answer) == (404, "DeviceNotFound")


@pytest.mark.parametrize("version", ["2018-06-30", "2020-05-31-preview", "2020-09-30", "2021-04-12", "2024-03-31"])
def test_every_version_that_a_hub_takes_is_taken(az: httpx.Client, version: str) -> None:
    assert az.get("/configurations", params={"api-version": version}).status_code == 200
    assert az.get("/configurations", params={"api-version": "1999-12-31"}).status_code == 400
