"""The hub's paths, over real HTTP (contract/hub.md §1.1-1.10)."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from services.embedded_redis import EmbeddedRedis
from tests.api.serving import rows_of, served
from tests.workers.system import System, base

pytestmark = pytest.mark.redis_server

OF_TEMP = "FROM devices.modules WHERE moduleId = 'temp'"
EDGE = {"deviceId": "edge1", "status": "enabled", "capabilities": {"iotEdge": True}}


@pytest.fixture(scope="module")
def serving(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with served(shared_redis) as both:
        yield both


@pytest.fixture
def http(serving: tuple[System, httpx.Client]) -> Iterator[httpx.Client]:
    """Every test finds an empty fleet."""
    _, client = serving
    yield client
    for one in client.get("/configurations").json():
        client.delete(f"/configurations/{one['id']}")
    for name in ("edge1", "edge2"):
        client.delete(f"/devices/{name}", headers={"If-Match": "*"})


def configuration(name: str = "dep1", **members: Any) -> dict[str, Any]:
    return {
        "id": name,
        "schemaVersion": "2.0",
        "labels": {"team": "x"},
        "content": base("temp"),
        "targetCondition": "tags.environment='test'",
        "priority": 10,
        "metrics": {"queries": {"mine": "SELECT deviceId FROM devices"}},
        "etag": "*",
        **members,
    }


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.headers.get("iothub-errorcode", "")


def test_the_etag_table_of_identities(http: httpx.Client) -> None:
    assert told(http.get("/devices/edge1")) == (404, "DeviceNotFound")
    assert told(http.put("/devices/edge1", json=EDGE, headers={"If-Match": "*"})) == (404, "DeviceNotFound")
    created = http.put("/devices/edge1", json=EDGE)
    assert (created.status_code, created.json()["capabilities"]) == (200, {"iotEdge": True})
    assert created.headers["etag"] == f'"{created.json()["etag"]}"'
    assert told(http.put("/devices/edge1", json=EDGE)) == (409, "DeviceAlreadyExists")
    disabled = http.put("/devices/edge1", json={**EDGE, "status": "disabled"}, headers={"If-Match": '"*"'})
    assert disabled.json()["status"] == "disabled"
    stale = {"If-Match": created.headers["etag"]}
    assert told(http.put("/devices/edge1", json=EDGE, headers=stale)) == (412, "PreconditionFailed")
    assert told(http.delete("/devices/edge1")) == (412, "PreconditionFailed")
    assert told(http.delete("/devices/edge1", headers=stale)) == (412, "PreconditionFailed")
    assert http.delete("/devices/edge1", headers={"If-Match": disabled.headers["etag"]}).status_code == 204
    assert told(http.get("/twins/edge1")) == (404, "DeviceNotFound")


def plain(twin: dict[str, Any]) -> dict[str, Any]:
    """Desired properties without the times."""
    return {name: value for name, value in twin["properties"]["desired"].items() if name != "$metadata"}


def test_twins_are_patched_and_replaced_and_what_clients_send_back_is_ignored(http: httpx.Client) -> None:
    http.put("/devices/edge1", json=EDGE)
    twin = http.patch("/twins/edge1", json={"tags": {"a": 1, "b": 2}, "properties": {"desired": {"c": 3}}}).json()
    assert (twin["tags"], twin["version"], twin["properties"]["desired"]["$version"]) == ({"a": 1, "b": 2}, 3, 2)
    again = http.patch("/twins/edge1", json={**twin, "tags": {"b": None}}, headers={"If-Match": f'"{twin["etag"]}"'})
    assert again.json()["tags"] == {"a": 1}
    stale = http.patch("/twins/edge1", json={"tags": {}}, headers={"If-Match": f'"{twin["etag"]}"'})
    assert told(stale) == (412, "PreconditionFailed")
    assert "Tracking ID:" in stale.json()["ExceptionMessage"]
    replaced = http.put("/twins/edge1", json={"tags": {"z": 1}}).json()
    assert (replaced["tags"], plain(replaced)) == ({"z": 1}, {"$version": 3})
    assert told(http.patch("/twins/edge1", json={"tags": {"a": "x" * 5000}})) == (400, "ArgumentInvalid")


def test_modules_come_with_the_device_and_by_hand(http: httpx.Client) -> None:
    http.put("/devices/edge1", json=EDGE)
    assert [one["moduleId"] for one in http.get("/devices/edge1/modules").json()] == ["$edgeAgent", "$edgeHub"]
    made = http.put("/devices/edge1/modules/mine", json={"moduleId": "mine", "deviceId": "edge1"})
    assert made.json()["moduleId"] == "mine"
    assert told(http.put("/devices/edge1/modules/mine", json={})) == (409, "ModuleAlreadyExistsOnDevice")
    patched = http.patch("/twins/edge1/modules/mine", json={"properties": {"desired": {"a": 1}}}).json()
    assert plain(patched) == {"a": 1, "$version": 2}
    replaced = http.put("/twins/edge1/modules/mine", json={"properties": {"desired": {"b": 1}}}).json()
    assert plain(replaced) == {"b": 1, "$version": 3}
    reserved = http.patch("/twins/edge1/modules/%24edgeAgent", json={"properties": {"desired": {"a": 1}}})
    assert told(reserved) == (401, "SystemModuleModifyUnauthorizedAccess")
    assert http.delete("/devices/edge1/modules/mine", headers={"If-Match": "*"}).status_code == 204
    assert told(http.get("/devices/edge1/modules/mine")) == (404, "ModuleNotFound")
    assert told(http.get("/twins/edge1/modules/mine")) == (404, "DeviceNotFound")


def test_a_configuration_reaches_a_device_and_its_counts_are_in_the_answer(
    serving: tuple[System, httpx.Client], http: httpx.Client
) -> None:
    system, _ = serving
    http.put("/devices/edge1", json=EDGE)
    http.patch("/twins/edge1", json={"tags": {"environment": "test"}})
    created = http.put("/configurations/first", json=configuration("first"))
    assert (created.status_code, created.headers["etag"]) == (200, '"MQ=="')
    system.settle()
    found = http.get("/configurations/first").json()
    assert found["systemMetrics"]["results"] == {
        "targetedCount": 1,
        "appliedCount": 1,
        "reportedSuccessfulCount": 0,
        "reportedFailedCount": 0,
    }
    assert found["systemMetrics"]["queries"]["targetedCount"].endswith("and (tags.environment = 'test')")
    agent = http.get("/twins/edge1/modules/%24edgeAgent").json()
    assert set(agent["properties"]["desired"]["modules"]) == {"temp"}
    assert [one["id"] for one in http.get("/configurations", params={"top": 1}).json()] == ["first"]


def test_a_configuration_of_own_twins_reaches_every_device_and_its_counts_are_what_its_queries_find(
    serving: tuple[System, httpx.Client], http: httpx.Client
) -> None:
    system, _ = serving
    for name, edge in (("edge1", True), ("edge2", False)):
        http.put(f"/devices/{name}", json={"deviceId": name, "capabilities": {"iotEdge": edge}})
        http.patch(f"/twins/{name}", json={"tags": {"environment": "test"}})
    http.put("/configurations/dep1", json=configuration())
    own = {"deviceContent": {"properties.desired.water.limit": 38, "properties.desired.on": True}}
    assert http.put("/configurations/water", json=configuration("water", content=own)).status_code == 200
    system.settle()
    found = http.get("/configurations/water").json()
    metrics = found["systemMetrics"]
    assert (found["content"], metrics["results"]) == (own, {"targetedCount": 2, "appliedCount": 2})
    for metric, query in metrics["queries"].items():
        rows = rows_of(http, query)
        assert sorted(row["deviceId"] for row in rows) == ["edge1", "edge2"], metric
    twin = http.get("/twins/edge2").json()
    assert plain(twin) == {"water": {"limit": 38}, "on": True, "$version": 2}
    assert twin["configurations"] == {"water": {"status": "Applied"}}
    patched = http.patch("/twins/edge2", json={"properties": {"desired": {"water": {"limit": 1, "mine": 2}}}}).json()
    assert plain(patched) == {"water": {"limit": 38, "mine": 2}, "on": True, "$version": 3}
    assert http.get("/twins/edge2").json() == patched
    assert "water" not in http.get("/twins/edge1/modules/%24edgeAgent").json()["configurations"]
    effective, desired = (http.get(f"/v1/devices/edge1/{path}").json() for path in ("effective", "desired"))
    told_of = {"desired": {"water": {"limit": 38}, "on": True}, "version": 2, "layers": ["water"], "reason": None}
    assert effective["device"] == desired["device"] == told_of
    assert (effective["layers"], set(effective["modules"])) == (["dep1"], {"$edgeAgent", "$edgeHub"})
    kinds = {one["id"]: (one["kind"], one["layered"]) for one in http.get("/v1/deployments").json()}
    assert kinds == {"dep1": ("edge", False), "water": ("device", False)}
    http.delete("/configurations/water")
    system.settle()
    left = http.get("/twins/edge2").json()
    assert plain(left) == {"water": {"limit": 1, "mine": 2}, "$version": 4}
    assert "configurations" not in left


def test_the_etag_table_of_configurations_and_what_an_update_may_change(http: httpx.Client) -> None:
    assert told(http.put("/configurations/etags", json=configuration("etags"), headers={"If-Match": "*"})) == (
        404,
        "ConfigurationNotFound",
    )
    http.put("/configurations/etags", json=configuration("etags"))
    assert told(http.put("/configurations/etags", json=configuration("etags"))) == (409, "ConfigurationAlreadyExists")
    changed = configuration("etags", priority=20, targetCondition="*", content=base("other"), labels=None)
    updated = http.put("/configurations/etags", json=changed, headers={"If-Match": '"MQ=="'})
    answer = updated.json()
    assert (answer["priority"], answer["targetCondition"], answer["labels"], answer["etag"]) == (20, "*", None, "Mg==")
    assert "temp" in str(answer["content"])
    assert told(http.put("/configurations/etags", json=changed, headers={"If-Match": '"MQ=="'})) == (
        412,
        "PreconditionFailed",
    )
    assert http.delete("/configurations/etags").status_code == 204
    assert told(http.delete("/configurations/etags")) == (404, "ConfigurationNotFound")
    again = http.put("/configurations/etags", json=configuration("etags"))
    assert again.headers["etag"] == '"NA=="'
    for stale in ("MQ==", "Mg=="):
        answer = http.delete("/configurations/etags", headers={"If-Match": f'"{stale}"'})
        assert told(answer) == (412, "PreconditionFailed")
    assert http.delete("/configurations/etags", headers={"If-Match": '"NA=="'}).status_code == 204


def test_a_configuration_of_a_module_reaches_it_wherever_it_is_and_its_counts_are_what_its_queries_find(
    serving: tuple[System, httpx.Client], http: httpx.Client
) -> None:
    system, _ = serving
    for name, edge in (("edge1", True), ("edge2", False)):
        http.put(f"/devices/{name}", json={"deviceId": name, "capabilities": {"iotEdge": edge}})
        http.patch(f"/twins/{name}", json={"tags": {"environment": "test"}})
    http.put("/devices/edge2/modules/temp", json={"deviceId": "edge2", "moduleId": "temp"})
    http.put("/configurations/dep1", json=configuration())
    one = {"moduleContent": {"properties.desired.water.limit": 38, "properties.desired.on": True}}
    put = http.put("/configurations/water", json=configuration("water", content=one, targetCondition=OF_TEMP))
    assert put.status_code == 200
    system.settle()
    found = http.get("/configurations/water").json()
    metrics = found["systemMetrics"]
    assert (found["content"], metrics["results"]) == (one, {"targetedCount": 2, "appliedCount": 2})
    for metric, query in metrics["queries"].items():
        rows = rows_of(http, query)
        assert sorted(row["deviceId"] for row in rows) == ["edge1", "edge2"], metric
    for name, others in (("edge1", {"dep1": {"status": "Targeted"}}), ("edge2", {})):
        twin = http.get(f"/twins/{name}/modules/temp").json()
        assert plain(twin) == {"water": {"limit": 38}, "on": True, "$version": 2}
        assert twin["configurations"] == {"water": {"status": "Applied"}, **others}
    assert "water" not in http.get("/twins/edge1/modules/%24edgeAgent").json()["configurations"]
    assert "configurations" not in http.get("/twins/edge1").json()
    effective, desired = (http.get(f"/v1/devices/edge1/{path}").json() for path in ("effective", "desired"))
    line = {"temp": {"version": 2, "layers": ["water"], "reason": None}}
    assert effective["byModule"] == desired["byModule"] == line
    assert (effective["modules"]["temp"], effective["versions"]["temp"]) == ({"water": {"limit": 38}, "on": True}, 2)
    assert desired["modules"]["temp"] == {"desired": {"water": {"limit": 38}, "on": True}, "version": 2}
    assert http.get("/v1/devices/edge1/assignments").json()["assignments"][-1]["byModule"] == line
    kinds = {one["id"]: one["kind"] for one in http.get("/v1/deployments").json()}
    assert kinds == {"dep1": "edge", "water": "module"}
    http.put("/devices/edge2/modules/hum", json={"deviceId": "edge2", "moduleId": "hum"})
    for name in ("temp", "hum"):
        http.patch(f"/twins/edge2/modules/{name}", json={"tags": {"floor": 1}})
    anywhere = configuration("floor", content=one, targetCondition="FROM devices.modules WHERE tags.floor = 1")
    assert http.put("/configurations/floor", json=anywhere).status_code == 200
    system.settle()
    metrics = http.get("/configurations/floor").json()["systemMetrics"]
    listed = {row["id"]: row["systemMetrics"] for row in http.get("/configurations").json()}
    assert listed["floor"] == metrics
    for metric, query in metrics["queries"].items():
        rows = rows_of(http, query)
        assert [row["deviceId"] for row in rows] == ["edge2"] * metrics["results"][metric] == ["edge2", "edge2"], metric
    assert http.get("/v1/deployments/floor/status").json()["counts"]["actual"] == 1
    assert http.get("/v1/deployments/floor/status/actual").json()["devices"] == ["edge2"]
    assert http.get("/twins/edge2/modules/hum").json()["configurations"] == {"floor": {"status": "Applied"}}
    http.delete("/configurations/floor")
    changed = configuration("water", content=one, targetCondition=f"{OF_TEMP} and deviceId = 'edge1'")
    for_devices = {**changed, "targetCondition": "tags.environment='test'"}
    assert told(http.put("/configurations/water", json=for_devices, headers={"If-Match": "*"})) == (
        400,
        "InvalidConfigurationTargetCondition",
    )
    assert http.put("/configurations/water", json=changed, headers={"If-Match": "*"}).status_code == 200
    system.settle()
    assert plain(http.get("/twins/edge2/modules/temp").json()) == {"$version": 3}
    http.delete("/configurations/water")
    system.settle()
    assert plain(http.get("/twins/edge1/modules/temp").json()) == {"$version": 3}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"targetCondition": "edgeDeviceVM = 'x'"}, "InvalidConfigurationTargetCondition"),
        ({"targetCondition": "tags.a IN ['x']"}, "InvalidConfigurationTargetCondition"),
        ({"content": None}, "InvalidConfigurationContent"),
        ({"content": {"modulesContent": {}}}, "InvalidConfigurationContent"),
        ({"content": {"deviceContent": {"tags.x": 1}}}, "InvalidConfigurationContent"),
        ({"content": {"deviceContent": {}, "modulesContent": {"$edgeAgent": {}}}}, "InvalidConfigurationContent"),
        ({"content": {"moduleContent": {"x": 1}}, "targetCondition": OF_TEMP}, "InvalidConfigurationContent"),
        ({"content": {"moduleContent": {}}, "targetCondition": "*"}, "InvalidConfigurationTargetCondition"),
        ({"content": {"moduleContent": {}}, "targetCondition": "tags.a = 1"}, "InvalidConfigurationTargetCondition"),
        ({"content": {"deviceContent": {}}, "targetCondition": OF_TEMP}, "InvalidConfigurationTargetCondition"),
        ({"targetCondition": OF_TEMP}, "InvalidConfigurationTargetCondition"),
        (
            {"content": {"moduleContent": {}}, "targetCondition": f"{OF_TEMP} and status = 'enabled'"},
            "InvalidConfigurationTargetCondition",
        ),
        ({"content": {"modulesContent": {"$edgeAgent": {"tags.x": 1}}}}, "InvalidConfigurationContent"),
        ({"priority": -1}, "ArgumentInvalid"),
        ({"priority": "high"}, "ArgumentInvalid"),
        ({"labels": {"a": 1}}, "ArgumentInvalid"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_refused_by_its_code(
    http: httpx.Client, changes: dict[str, Any], code: str
) -> None:
    assert told(http.put("/configurations/dep1", json=configuration(**changes))) == (400, code)
    assert http.get("/configurations").json() == []


def test_an_upper_case_id_and_a_body_that_is_none_are_refused(http: httpx.Client) -> None:
    assert told(http.put("/configurations/Dep1", json=configuration())) == (400, "ArgumentInvalid")
    assert told(http.put("/configurations/dep1", content=b"{", headers={"content-type": "application/json"})) == (
        400,
        "ArgumentInvalid",
    )


def test_conditions_can_be_tried(http: httpx.Client) -> None:
    good = http.post(
        "/configurations/testQueries", json={"targetCondition": "tags.env='test'", "customMetricQueries": {}}
    )
    assert good.json() == {"targetConditionError": None, "customMetricQueryErrors": {}}
    for wrong in ("tags.env==", "*", "from devices.modules where moduleId = '$edgeAgent'"):
        bad = http.post("/configurations/testQueries", json={"targetCondition": wrong})
        assert bad.json()["targetConditionError"]
    for condition in (OF_TEMP, "from devices.modules where moduleId != 'temp' and tags.a = 1"):
        of_modules = http.post("/configurations/testQueries", json={"targetCondition": condition})
        assert of_modules.json() == {"targetConditionError": None, "customMetricQueryErrors": {}}


def test_devices_are_listed_and_counted_once_the_workers_know_them(
    serving: tuple[System, httpx.Client], http: httpx.Client
) -> None:
    system, _ = serving
    for name, status in (("edge1", "enabled"), ("edge2", "disabled")):
        http.put(f"/devices/{name}", json={**EDGE, "deviceId": name, "status": status})
    system.settle()
    assert sorted(one["deviceId"] for one in http.get("/devices").json()) == ["edge1", "edge2"]
    assert len(http.get("/devices", params={"top": 1}).json()) == 1
    assert http.get("/statistics/devices").json() == {
        "totalDeviceCount": 2,
        "enabledDeviceCount": 1,
        "disabledDeviceCount": 1,
    }
