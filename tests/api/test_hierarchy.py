"""Parents and children over real HTTP, as `az iot hub device-identity` and edgeHub ask (contract/device.md §2)."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from events.log.keys import partition_of
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import API_VERSION, Guarded, guarded, rows_of
from tests.servers import eventually
from tests.workers.system import fresh_system

pytestmark = pytest.mark.redis_server

NESTED, PLAIN = {"api-version": "2020-06-30-preview"}, {"api-version": "2018-08-30-preview"}
CHILDREN = "select * from devices where array_contains(parentScopes, '{}')"
KEYS = {"primaryKey": "b2YgZWRnZUh1YiwgbW9yZSB0aGFuIDE2", "secondaryKey": "b2YgZWRnZUh1YiwgdG9vLCBtb3JlIHRoYW4="}
IN_TARGET, ON_BEHALF = "devicesAndModulesInTargetDeviceScope", "getDeviceAndModuleOnBehalfOf"
IN_SCOPE, ONE_IN_SCOPE = "devicesAndModulesInDeviceScope", "deviceAndModuleInDeviceScope"


@pytest.fixture(scope="module")
def hub(shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with (
        fresh_system(shared_redis) as system,
        system.process("-m", "workers.pool"),
        guarded(system, tmp_path_factory.mktemp("hub")) as serving,
    ):
        yield serving


class Az:
    """What the commands of `az iot hub device-identity` send."""

    def __init__(self, hub: Guarded) -> None:
        self._http, self._headers = hub.http, hub.policy()

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return self._http.request(method, path, json=body, headers={**self._headers, **headers})

    def create(self, device_id: str, *, edge: bool = True) -> Any:
        body: dict[str, Any] = {
            "deviceId": device_id,
            "status": "enabled",
            "authentication": {"symmetricKey": {}, "type": "sas"},
            "capabilities": {"iotEdge": edge},
        }
        return self.call("PUT", f"/devices/{device_id}", {**body, "parentScopes": []} if edge else body).json()

    def show(self, device_id: str) -> Any:
        return self.call("GET", f"/devices/{device_id}").raise_for_status().json()

    def set_parent(self, child_id: str, parent: Any) -> httpx.Response:
        """`parent set` and `children add`; without a parent, `children remove`."""
        child, scope = self.show(child_id), None if parent is None else parent["deviceScope"]
        if child["capabilities"]["iotEdge"]:
            child["parentScopes"] = [] if scope is None else [scope]
        else:
            child["deviceScope"] = scope or ""
        return self.call("PUT", f"/devices/{child_id}", child, **{"If-Match": f'"{child["etag"]}"'})

    def children(self, device_id: str) -> list[str]:
        scope = self.show(device_id)["deviceScope"]
        rows = rows_of(self._http, CHILDREN.format(scope), **self._headers)
        return sorted(row["deviceId"] for row in rows)


@pytest.fixture
def az(hub: Guarded) -> Az:
    return Az(hub)


def family(az: Az, name: str) -> tuple[Any, Any]:
    """An edge device with an edge device and two leaves below it, and a leaf and its module below that."""
    top, below = az.create(f"{name}-top"), az.create(f"{name}-below")
    az.set_parent(below["deviceId"], top).raise_for_status()
    for leaf, parent in (("leaf-1", top), ("leaf-2", top), ("leaf-3", below)):
        az.create(f"{name}-{leaf}", edge=False)
        az.set_parent(f"{name}-{leaf}", parent).raise_for_status()
    az.call("PUT", f"/devices/{name}-leaf-3/modules/m", {}).raise_for_status()
    eventually(lambda: len(az.children(f"{name}-top")) == 3, what="the children are known")
    eventually(lambda: len(az.children(f"{name}-below")) == 1, what="the child is known")
    return az.show(top["deviceId"]), az.show(below["deviceId"])


# -- az


def test_az_sets_shows_lists_and_removes_parents(az: Az) -> None:
    top, below = family(az, "az")
    leaf = az.show("az-leaf-1")
    assert (leaf["deviceScope"], leaf["parentScopes"]) == (top["deviceScope"], [top["deviceScope"]])
    assert below["parentScopes"] == [top["deviceScope"]]
    assert below["deviceScope"].startswith("ms-azure-iot-edge://az-below-")
    assert az.children("az-top") == ["az-below", "az-leaf-1", "az-leaf-2"]
    # `parent show` reads the device out of the scope.
    assert leaf["parentScopes"][0][len("ms-azure-iot-edge://") :].rpartition("-")[0] == "az-top"
    az.set_parent("az-leaf-1", below).raise_for_status()
    az.set_parent("az-leaf-2", None).raise_for_status()
    # Devices of two partitions: which is applied first is open.
    eventually(lambda: az.children("az-below") == ["az-leaf-1", "az-leaf-3"], what="the leaf has moved")
    eventually(lambda: az.children("az-top") == ["az-below"], what="no leaf is left")
    removed = az.show("az-leaf-2")
    assert ("deviceScope" in removed, removed["parentScopes"]) == (False, [])
    az.set_parent("az-below", None).raise_for_status()
    eventually(lambda: az.children("az-top") == [], what="the edge device stands alone")


def test_a_twin_shows_its_parent_and_the_past_remembers_it(hub: Guarded, az: Az) -> None:
    top, _ = family(az, "twin")
    twin = az.call("GET", "/twins/twin-leaf-1")
    assert (twin.json()["deviceScope"], twin.json()["parentScopes"]) == (top["deviceScope"], [top["deviceScope"]])
    assert "parentScopes" not in az.call("GET", "/twins/twin-top").json()
    number = partition_of("twin-leaf-1", hub.system.log.partitions)
    then = f"p{number:02d}:{hub.system.log.heads()[number]}"
    az.set_parent("twin-leaf-1", None).raise_for_status()
    assert "parentScopes" not in az.call("GET", "/twins/twin-leaf-1").json()
    past = hub.http.get("/twins/twin-leaf-1", params={**API_VERSION, "at": then}, headers=hub.policy())
    assert past.raise_for_status().json()["parentScopes"] == [top["deviceScope"]]


def test_an_update_that_says_nothing_of_parents_leaves_them(az: Az) -> None:
    top, _ = family(az, "kept")
    body = {"deviceId": "kept-leaf-1", "status": "disabled"}
    changed = az.call("PUT", "/devices/kept-leaf-1", body, **{"If-Match": "*"}).raise_for_status().json()
    assert changed["parentScopes"] == [top["deviceScope"]]
    line = {"id": "kept-leaf-1", "importMode": "update", "status": "enabled", "deviceScope": ""}
    assert az.call("POST", "/devices", [line]).json()["isSuccessful"]
    assert az.show("kept-leaf-1")["parentScopes"] == []
    line = {"id": "kept-leaf-4", "importMode": "create", "deviceScope": top["deviceScope"]}
    assert az.call("POST", "/devices", [line]).json()["isSuccessful"]
    assert az.show("kept-leaf-4")["parentScopes"] == [top["deviceScope"]]


def test_a_parent_that_cannot_be_one_is_refused_and_the_device_stays_as_it_is(az: Az) -> None:
    top, below = family(az, "refused")
    before = az.show("refused-leaf-1")
    leaf = {**az.create("refused-plain", edge=False), "deviceScope": f"ms-azure-iot-edge://refused-plain-{1}"}
    nobody = {"deviceScope": "ms-azure-iot-edge://nobody-1"}
    for parent in (leaf, nobody, {"deviceScope": "refused-top"}):
        answer = az.set_parent("refused-leaf-1", parent)
        assert (answer.status_code, answer.headers["iothub-errorcode"]) == (400, "ArgumentInvalid")
    assert az.show("refused-leaf-1") == before
    circle = az.set_parent("refused-top", below)
    assert circle.status_code == 400
    assert "refused-top < refused-below < refused-top" in circle.text
    az.call("DELETE", "/devices/refused-top", **{"If-Match": "*"}).raise_for_status()
    # The parent has left; what is below it keeps its scope until it gets another.
    assert az.show("refused-leaf-1")["parentScopes"] == [top["deviceScope"]]
    az.set_parent("refused-leaf-1", None).raise_for_status()


# -- edgeHub


def by_edge_hub(hub: Guarded, az: Az, device_id: str) -> dict[str, str]:
    """The header of the edgeHub of a device, with keys of its own."""
    body = {"deviceId": device_id, "moduleId": "$edgeHub", "authentication": {"type": "sas", "symmetricKey": KEYS}}
    az.call("PUT", f"/devices/{device_id}/modules/%24edgeHub", body, **{"If-Match": "*"}).raise_for_status()
    return hub.device(device_id, "$edgeHub", key=KEYS["primaryKey"])


def ids(result: Any) -> tuple[list[str], list[str]]:
    assert result.keys() == {"devices", "modules", "continuationLink"}
    modules = (f"{one['deviceId']}/{one['moduleId']}" for one in result["modules"])
    return sorted(one["deviceId"] for one in result["devices"]), sorted(modules)


def test_edge_hub_asks_for_what_is_below_it_with_the_keys(hub: Guarded, az: Az) -> None:
    family(az, "nested")
    own, path = by_edge_hub(hub, az, "nested-top"), "/devices/nested-top/modules/%24edgeHub/"
    body = {"pageSize": 100, "authChain": "nested-top"}
    result = hub.http.post(path + IN_TARGET, params=NESTED, json=body, headers=own).raise_for_status().json()
    devices, modules = ids(result)
    assert devices == ["nested-below", "nested-leaf-1", "nested-leaf-2", "nested-top"]
    assert {"nested-top/$edgeAgent", "nested-top/$edgeHub"} <= set(modules)
    assert result["continuationLink"] is None
    assert all(one["authentication"]["symmetricKey"]["primaryKey"] for one in result["devices"])
    (keys,) = (
        one["authentication"]
        for one in result["modules"]
        if one["moduleId"] == "$edgeHub" and one["deviceId"] == "nested-top"
    )
    assert keys["symmetricKey"] == KEYS
    # What is further down is asked for with the chain that leads there.
    chain = {"pageSize": 100, "authChain": "nested-below;nested-top"}
    result = hub.http.post(path + IN_TARGET, params=NESTED, json=chain, headers=own).raise_for_status().json()
    devices, modules = ids(result)
    assert devices == ["nested-below", "nested-leaf-3"]
    assert "nested-leaf-3/m" in modules
    answer = hub.http.get(path + IN_SCOPE, params={**PLAIN, "deviceCount": 10, "continuationToken": ""}, headers=own)
    assert ids(answer.raise_for_status().json())[0] == ["nested-below", "nested-leaf-1", "nested-leaf-2", "nested-top"]


def test_edge_hub_asks_for_one_identity(hub: Guarded, az: Az) -> None:
    family(az, "one")
    own, path = by_edge_hub(hub, az, "one-top"), "/devices/one-top/modules/%24edgeHub/"
    for target, module, found in (
        ("one-leaf-1", None, (["one-leaf-1"], [])),
        ("one-leaf-3", "m", (["one-leaf-3"], ["one-leaf-3/m"])),
        ("one-top", "$edgeAgent", (["one-top"], ["one-top/$edgeAgent"])),
    ):
        body = {"targetDeviceId": target, "targetModuleId": module, "authChain": f"{target};one-top"}
        posted = hub.http.post(path + ON_BEHALF, params=NESTED, json=body, headers=own)
        assert ids(posted.raise_for_status().json()) == found
        query = {**PLAIN, "targetDeviceId": target, "targetModuleId": module or ""}
        assert ids(hub.http.get(path + ONE_IN_SCOPE, params=query, headers=own).raise_for_status().json()) == found


def test_edge_hub_is_told_of_nobody_who_is_not_below_it(hub: Guarded, az: Az) -> None:
    family(az, "mine")
    family(az, "theirs")
    own, path = by_edge_hub(hub, az, "mine-below"), "/devices/mine-below/modules/%24edgeHub/"
    for target in ("mine-top", "mine-leaf-1", "theirs-top", "theirs-leaf-1"):
        listed = {"pageSize": 10, "authChain": f"{target};mine-below"}
        for call, body in ((IN_TARGET, listed), (ON_BEHALF, {"targetDeviceId": target, "authChain": "mine-below"})):
            answer = hub.http.post(path + call, params=NESTED, json=body, headers=own)
            assert (answer.status_code, answer.headers["iothub-errorcode"]) == (401, "IotHubUnauthorizedAccess")
            assert "primaryKey" not in answer.text
    missing = hub.http.post(
        path + ON_BEHALF, params=NESTED, json={"targetDeviceId": "nobody", "authChain": "x"}, headers=own
    )
    assert missing.status_code == 404
    no_chain = hub.http.post(path + IN_TARGET, params=NESTED, json={"pageSize": 1, "authChain": ";"}, headers=own)
    assert no_chain.status_code == 400
    leaf = hub.http.post(path + IN_TARGET, params=NESTED, json={"authChain": "mine-leaf-3;mine-below"}, headers=own)
    assert leaf.status_code == 401


def test_nobody_else_asks_in_the_name_of_an_edge_hub(hub: Guarded, az: Az) -> None:
    family(az, "named")
    own, other = by_edge_hub(hub, az, "named-top"), by_edge_hub(hub, az, "named-below")
    az.call("PUT", "/devices/named-top/modules/spy", {}).raise_for_status()
    body, path = {"authChain": "named-top"}, f"/devices/named-top/modules/%24edgeHub/{IN_TARGET}"
    for headers, status in (
        (own, 200),
        (hub.device("named-top"), 200),
        (hub.policy("registryRead"), 200),
        (hub.policy("service"), 401),
        (other, 401),
        (hub.device("named-top", "spy"), 401),
        (hub.token("admin"), 200),
        (hub.token("operate", scope="deviceId = 'named-top'"), 401),
    ):
        assert hub.http.post(path, params=NESTED, json=body, headers=headers).status_code == status
    scoped = hub.token("operate", scope="deviceId = 'named-top'")
    for call in (f"{IN_SCOPE}?deviceCount=1", f"{ONE_IN_SCOPE}?targetDeviceId=named-leaf-1"):
        address = f"/devices/named-top/modules/%24edgeHub/{call}"
        assert (
            hub.http.get(
                address, params={**dict(parse_qs(urlsplit(address).query)), **PLAIN}, headers=scoped
            ).status_code
            == 401
        )


def test_a_scope_comes_in_pages(hub: Guarded, az: Az) -> None:
    top, _ = family(az, "paged")
    own, path = by_edge_hub(hub, az, "paged-top"), "/devices/paged-top/modules/%24edgeHub/"
    found: list[str] = []
    link: str | None = None
    for _ in range(10):
        body = {"pageSize": 1, "continuationLink": link, "authChain": "paged-top"}
        page = hub.http.post(path + IN_TARGET, params=NESTED, json=body, headers=own).raise_for_status().json()
        found += ids(page)[0]
        link = page["continuationLink"]
        if link is None:
            break
    assert sorted(found) == ["paged-below", "paged-leaf-1", "paged-leaf-2", "paged-top"]
    found, address = [], f"{path}{IN_SCOPE}?deviceCount=1&continuationToken=&api-version=2018-08-30-preview"
    while address:
        parts = urlsplit(address)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        page = hub.http.get(parts.path, params=query, headers=own).raise_for_status().json()
        found += ids(page)[0]
        address = page["continuationLink"] or ""
    assert sorted(found) == ["paged-below", "paged-leaf-1", "paged-leaf-2", "paged-top"]
    az.call("DELETE", "/devices/paged-leaf-1", **{"If-Match": "*"}).raise_for_status()
    assert top["deviceScope"]


def test_whoever_is_scoped_cannot_name_a_parent_outside(hub: Guarded, az: Az) -> None:
    top, _ = family(az, "scoped")
    az.create("scoped-plain", edge=False)
    az.call("PATCH", "/twins/scoped-plain", {"tags": {"mine": True}}).raise_for_status()
    headers = hub.token("operate", scope="tags.mine = true")
    body = {"deviceId": "scoped-plain", "deviceScope": top["deviceScope"]}
    answer = hub.http.put("/devices/scoped-plain", json=body, headers={**headers, "If-Match": "*"})
    nobody = {**body, "deviceScope": "ms-azure-iot-edge://nobody-1"}
    refused = hub.http.put("/devices/scoped-plain", json=nobody, headers={**headers, "If-Match": "*"})
    assert answer.status_code == refused.status_code == 400
    assert "no edge device has the scope" in answer.text
    assert "no edge device has the scope" in refused.text
