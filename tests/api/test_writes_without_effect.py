"""What is written over HTTP takes effect or is refused: nothing is dropped, and what changes nothing moves no version."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from services.embedded_redis import EmbeddedRedis
from tests.api.serving import NDJSON, served, written
from tests.workers.system import System, base, join

pytestmark = pytest.mark.redis_server

ANY = {"If-Match": "*"}


@pytest.fixture(scope="module")
def serving(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with served(shared_redis) as both:
        both[1].put("/devices/dollar", json={}).raise_for_status()
        both[1].put("/devices/dollar/modules/m", json={}).raise_for_status()
        yield both


def twin(http: httpx.Client, device_id: str) -> Any:
    return http.get(f"/twins/{device_id}").raise_for_status().json()


@pytest.mark.parametrize("name", ["$site", "$limit", "$etag", "a$b", "$"])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize("module", ["", "/modules/m"])
def test_names_that_begin_with_a_dollar_are_refused_with_their_path(
    serving: tuple[System, httpx.Client], name: str, method: str, module: str
) -> None:
    system, http = serving
    before = written(system)
    for body, path in (({"tags": {name: "x"}}, "tags"), ({"properties": {"desired": {name: 5}}}, "properties.desired")):
        answer = http.request(method, f"/twins/dollar{module}", json=body)
        assert (answer.status_code, answer.headers["iothub-errorcode"]) == (400, "ArgumentInvalid")
        assert f"{path}.{name}" in answer.json()["Message"]
    assert written(system) == before


def test_what_the_service_adds_to_a_section_is_overlooked(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(*join("echo"))
    http.patch("/twins/echo", json={"tags": {"a": 1}, "properties": {"desired": {"b": 2}}}).raise_for_status()
    before = twin(http, "echo")
    # As az sends it back (contract/hub.md §0 item 7).
    assert http.patch("/twins/echo", json=before).json() == before
    assert http.put("/twins/echo", json=before, headers={"If-Match": before["etag"]}).json() == before


def test_null_removes_all_tags_or_all_desired_properties(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(*join("nulls"))
    for path in ("/twins/nulls", "/twins/nulls/modules/$edgeAgent"):
        http.patch(path, json={"tags": {"a": 1, "b": {"c": 2}}}).raise_for_status()
        assert "tags" not in http.patch(path, json={"tags": None}).raise_for_status().json()
    full = {"tags": {"a": 1}, "properties": {"desired": {"b": 2, "c": {"d": 3}}}}
    http.patch("/twins/nulls", json=full).raise_for_status()
    answer = http.patch("/twins/nulls", json={"properties": {"desired": None}}).raise_for_status().json()
    assert set(answer["properties"]["desired"]) == {"$metadata", "$version"}
    assert answer["tags"] == {"a": 1}
    refused = http.patch("/twins/nulls", json={"properties": None})
    assert refused.status_code == 400
    assert "properties must not be null" in refused.text
    http.put("/twins/nulls", json={"tags": None}).raise_for_status()
    assert "tags" not in twin(http, "nulls")
    line = '{"command": "PatchTwin", "device_id": "nulls", "tags": null}'
    result = http.post("/v1/events", content=line, headers=NDJSON).json()
    assert result["written"] == 0
    assert "tags must not be null" in result["refused"][0]["error"]


def test_a_write_that_changes_nothing_moves_no_version_and_no_etag(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(*join("still"))
    http.put("/devices/still/modules/m", json={"managedBy": "me"}).raise_for_status()
    body = {"tags": {"a": 1}, "properties": {"desired": {"b": 2}}}
    http.patch("/twins/still", json=body).raise_for_status()
    http.patch("/twins/still/modules/m", json=body).raise_for_status()
    http.post("/v1/deployments/still", json={"content": base("m"), "labels": {"x": "y"}}).raise_for_status()
    http.put("/v1/groups/still", json={"condition": "tags.a = 1"}).raise_for_status()
    url = "https://hooks.example/still"
    http.put("/v1/webhooks/still", json={"url": url}).raise_for_status()
    http.post("/v1/webhooks/still/pause", json={"why": "moves"}).raise_for_status()
    system.settle()
    before = written(system)
    configuration = http.get("/configurations/still").json()
    for answer in (
        http.patch("/twins/still", json=body),
        http.patch("/twins/still", json={}),
        http.patch("/twins/still", json={"tags": {"gone": None}}),
        http.put("/twins/still", json=body),
        http.patch("/twins/still/modules/m", json=body),
        http.put("/twins/still/modules/m", json=body),
        http.put("/configurations/still", json=configuration, headers=ANY),
        http.put("/v1/deployments/still", json={"labels": {"x": "y"}, "priority": 0, "metrics": {}}),
        http.put("/v1/deployments/still/schedule", json={}),
        http.put("/v1/groups/still", json={"condition": "tags.a = 1"}),
        http.post("/v1/webhooks/still/pause", json={"why": "moves"}),
        http.post(
            "/devices",
            json=[{"id": "still", "importMode": "updateTwin", "tags": {"a": 1}, "properties": {"desired": {}}}],
        ),
        http.post(
            "/v1/events", content='{"command": "PatchTags", "device_id": "still", "tags": {"a": 1}}', headers=NDJSON
        ),
        http.post(
            "/v1/events", content='{"command": "UpdateDevice", "device_id": "still", "enabled": true}', headers=NDJSON
        ),
    ):
        assert answer.is_success, answer.text
        assert written(system) == before, answer.request.url
    assert http.get("/configurations/still").json()["etag"] == configuration["etag"]


def test_an_identity_that_is_sent_back_as_it_was_read_moves_no_etag(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    for path in ("/devices/back", "/devices/back/modules/m"):
        read = http.put(path, json={}).raise_for_status().json()
        before = written(system)
        for condition in ("*", read["etag"]):
            assert http.put(path, json=read, headers={"If-Match": condition}).raise_for_status().json() == read
        assert written(system) == before
    device = http.get("/devices/back").json()
    line = {"id": "back", "importMode": "update", "authentication": device["authentication"]}
    assert http.post("/devices", json=[line]).raise_for_status().json()["isSuccessful"]
    assert http.get("/devices/back").json() == device


def test_an_identity_with_one_new_key_or_that_is_sent_twice_in_a_request_is_changed(
    serving: tuple[System, httpx.Client],
) -> None:
    _, http = serving
    device = http.put("/devices/rotated", json={}).raise_for_status().json()
    keys = device["authentication"]["symmetricKey"]
    swapped = {"primaryKey": keys["secondaryKey"], "secondaryKey": keys["primaryKey"]}
    lines = [
        {"id": "rotated", "importMode": "update", "authentication": {"type": "sas", "symmetricKey": both}}
        for both in (swapped, keys)
    ]
    assert http.post("/devices", json=lines[:1]).raise_for_status().json()["isSuccessful"]
    changed = http.get("/devices/rotated").json()
    assert changed["authentication"]["symmetricKey"] == swapped
    assert changed["etag"] != device["etag"]
    assert http.post("/devices", json=[lines[1], lines[0]]).raise_for_status().json()["isSuccessful"]
    assert http.get("/devices/rotated").json()["authentication"]["symmetricKey"] == swapped


def test_a_report_counts_although_it_changes_nothing(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(*join("says"))
    versions = []
    for _ in range(2):
        http.post("/v1/devices/says/reports", json={"patch": {"a": 1}}).raise_for_status()
        versions.append(twin(http, "says")["properties"]["reported"]["$version"])
    assert versions[1] == versions[0] + 1


def test_a_bulk_creation_that_is_refused_for_one_member_leaves_nothing_of_the_device(
    serving: tuple[System, httpx.Client],
) -> None:
    system, http = serving
    system.do(*join("parent"))
    before = written(system)
    lines: list[dict[str, Any]] = [
        {"id": "bad-tag", "importMode": "create", "tags": {"a b": 1}},
        {"id": "bad-desired", "importMode": "create", "tags": {"a": 1}, "properties": {"desired": {"x": [None]}}},
        {"id": "large", "importMode": "create", "tags": {f"t{number}": "x" * 4000 for number in range(3)}},
        {"id": "parent", "moduleId": "bad", "importMode": "create", "tags": {"$x": 1}},
    ]
    answer = http.post("/devices", json=lines)
    assert answer.status_code == 400
    assert [one["deviceId"] for one in answer.json()["errors"]] == ["bad-tag", "bad-desired", "large", "parent"]
    assert "tags.a b" in answer.json()["errors"][0]["errorStatus"]
    for name in ("bad-tag", "bad-desired", "large"):
        assert http.get(f"/devices/{name}").status_code == 404
    assert http.get("/devices/parent/modules/bad").status_code == 404
    assert written(system) == before


def test_a_bulk_creation_makes_identities_with_their_twins(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(*join("owner"))
    lines: list[dict[str, Any]] = [
        {"id": "whole", "importMode": "create", "tags": {"a": 1}, "properties": {"desired": {"b": 2, "$version": 7}}},
        {"id": "owner", "moduleId": "m", "importMode": "create", "tags": {"c": 3}},
        {"id": "whole", "importMode": "create", "tags": {"late": 1}},
    ]
    answer = http.post("/devices", json=lines)
    assert [one["errorCode"] for one in answer.json()["errors"]] == ["DeviceAlreadyExists"]
    assert twin(http, "whole")["tags"] == {"a": 1}
    assert twin(http, "whole")["properties"]["desired"]["b"] == 2
    assert http.get("/twins/owner/modules/m").json()["tags"] == {"c": 3}
    assert http.get("/devices/whole").json()["authentication"]["symmetricKey"]["primaryKey"]
