"""Which reads have a past, and that whoever is limited to a scope sees no more of it than is theirs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.api.context.point_in_time import AS_OF
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import Guarded, guarded
from tests.history.past_reads import vector
from tests.workers.system import base, deploy, fresh_system

pytestmark = pytest.mark.redis_server


@pytest.fixture(scope="module")
def serving(shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    directory: Path = tmp_path_factory.mktemp("past")
    with (
        fresh_system(shared_redis) as system,
        system.process("-m", "workers.pool"),
        guarded(system, directory) as found,
    ):
        yield found


def test_every_read_under_v1_takes_at_and_says_so_or_refuses_it_with_a_reason(serving: Guarded) -> None:
    description: dict[str, Any] = serving.http.get("/openapi.json").json()
    for path, item in description["paths"].items():
        for method, said in item.items():
            named = {one["name"] for one in said.get("parameters", ())}
            if {"at", "mode"} <= named:
                assert method == "get" or (method, path) == ("post", "/devices/query")
                assert AS_OF in said["responses"]["200"]["headers"], path
                continue
            assert "at" not in named, path
            asked = re.sub(r"\{\w+\}", "any", path)
            answer = serving.http.request(method, asked, params={"at": "1"}, headers=serving.policy())
            assert (answer.status_code, "`at` cannot be answered here: " in answer.text) == (400, True), (method, path)
            has_own_reason = "this path has no past" not in answer.text
            assert has_own_reason or method != "get" or not path.startswith("/v1/"), path


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/deployments/any/rollout/devices", 404),  # no act of this name
        ("POST", "/v1/deployments/any/rollout/start", 400),
        ("DELETE", "/v1/devices", 405),
        ("GET", "/v1/nowhere", 404),
    ],
)
def test_a_path_or_a_method_that_is_not_there_is_answered_before_a_past_that_it_does_not_have(
    serving: Guarded, method: str, path: str, status: int
) -> None:
    answer = serving.http.request(method, path, params={"at": ""}, headers=serving.policy())
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_device_with_the_name_of_a_path_has_no_past_and_is_not_changed_in_it(serving: Guarded, method: str) -> None:
    body = {"json": {"deviceId": "query"}} if method == "PUT" else {}
    answer = serving.http.request(method, "/devices/query", params={"at": ""}, headers=serving.policy(), **body)
    assert (answer.status_code, "`at` cannot be answered here: " in answer.text) == (400, True), answer.text


def test_whoever_is_scoped_sees_who_is_theirs_now_and_was_theirs_then(serving: Guarded) -> None:
    http, system, owner = serving.http, serving.system, serving.policy()
    for name, site in (("stays", "north"), ("left", "north"), ("came", "south"), ("anew", "north")):
        serving.register(name, capabilities={"iotEdge": True})
        http.patch(f"/twins/{name}", json={"tags": {"site": site}}, headers=owner).raise_for_status()
    system.do(deploy("all", base("m")))
    system.settle()
    then = vector(system, 0).rpartition(",")[0]
    http.patch("/twins/left", json={"tags": {"site": "south"}}, headers=owner).raise_for_status()
    http.patch("/twins/came", json={"tags": {"site": "north"}}, headers=owner).raise_for_status()
    http.delete("/devices/anew", headers={**owner, "If-Match": "*"}).raise_for_status()
    serving.register("anew", capabilities={"iotEdge": True})
    http.patch("/twins/anew", json={"tags": {"site": "north"}}, headers=owner).raise_for_status()
    system.settle()
    north = serving.token("operate", scope="tags.site = 'north'")

    def get(path: str, **params: str) -> Any:
        return http.get(path, params=params, headers=north)

    assert set(get("/v1/devices").json()["devices"]) == {"stays", "came", "anew"}
    assert get("/v1/devices", at=then).json()["devices"] == ["stays"]
    assert get("/v1/deployments/all/status", at=then).json()["counts"]["target"] == 1
    for name, status in (("stays", 200), ("left", 404), ("came", 404), ("anew", 404)):
        for path in (f"/v1/devices/{name}/effective", f"/twins/{name}", f"/v1/devices/{name}/explain"):
            assert get(path, at=then).status_code == status, path
    query = {"query": "SELECT deviceId FROM devices"}
    found = http.post("/devices/query", json=query, params={"at": then}, headers=north).json()
    assert found == [{"deviceId": "stays"}]
    assert get("/v1/diff", **{"from": then}).status_code == 401


def test_a_device_does_not_see_what_was_registered_under_its_id_before(serving: Guarded) -> None:
    http, system, owner = serving.http, serving.system, serving.policy()
    serving.register("own", capabilities={"iotEdge": True})
    patch = {"properties": {"desired": {"customer": "former"}}}
    http.patch("/twins/own", json=patch, headers=owner).raise_for_status()
    system.settle()
    former = vector(system, 0).rpartition(",")[0]
    http.delete("/devices/own", headers={**owner, "If-Match": "*"}).raise_for_status()
    serving.register("own", capabilities={"iotEdge": True})
    system.settle()
    latter, key = vector(system, 0).rpartition(",")[0], serving.device("own")
    for at, status in ((latter, 200), (former, 404)):
        assert http.get("/v1/devices/own/desired", params={"at": at}, headers=key).status_code == status
    told = http.get("/twins/own", params={"at": former}, headers=owner).json()
    assert told["properties"]["desired"]["customer"] == "former"
