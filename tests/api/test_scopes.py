"""Somebody scoped does their work within the scope, and finds out nothing of what is outside, by no path."""

import base64
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from services.embedded_redis import EmbeddedRedis
from tests.api.serving import NDJSON, Guarded, guarded, written
from tests.servers import eventually
from tests.workers.system import base, fresh_system

pytestmark = pytest.mark.redis_server

NORTHERN, SOUTHERN = {"n1", "n2", "n3"}, {"s1", "s2"}
SCOPE = "tags.site = 'north'"


class Fleet:
    """A guarded fleet in two sites, with somebody for everything, and somebody for each site."""

    def __init__(self, serving: Guarded) -> None:
        self.serving, self.http = serving, serving.http
        self.everybody = serving.policy()
        self.north = serving.token("operate", scope=SCOPE)
        self.south = serving.token("operate", scope="tags.site = 'south'")

    def ask(self, who: dict[str, str], method: str, path: str, **how: Any) -> httpx.Response:
        headers = {**who, **how.pop("headers", {})}
        return self.http.request(method, path, headers=headers, **how)

    def get(self, who: dict[str, str], path: str, **params: Any) -> Any:
        answer = self.ask(who, "GET", path, params=params)
        assert answer.is_success, answer.text
        return answer.json()

    def tag(self, name: str, who: dict[str, str] | None = None, **tags: Any) -> httpx.Response:
        return self.ask(who or self.everybody, "PATCH", f"/twins/{name}", json={"tags": tags})

    def create(self, who: dict[str, str], name: str, condition: str, priority: int = 1) -> httpx.Response:
        body = {"content": base("m"), "targetCondition": condition, "priority": priority}
        return self.ask(who, "PUT", f"/configurations/{name}", json=body)

    def settle(self) -> None:
        self.serving.system.settle()

    def paged(self, who: dict[str, str], path: str) -> list[str]:
        found: list[str] = []
        query: dict[str, str] = {}
        while True:
            page = self.get(who, path, top=1, **query)
            found += page["devices"]
            if page["continuation"] is None:
                return found
            query = {"continuation": page["continuation"]}

    def query(self, who: dict[str, str], text: str, **headers: str) -> httpx.Response:
        return self.ask(who, "POST", "/devices/query", json={"query": text}, headers=headers)

    def events(self, who: dict[str, str], *commands: dict[str, Any]) -> Any:
        content = b"".join(msgspec.json.encode(one) + b"\n" for one in commands)
        return self.ask(who, "POST", "/v1/events", content=content, headers=NDJSON).json()


@pytest.fixture(scope="module")
def fleet(shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with (
        fresh_system(shared_redis) as system,
        system.process("-m", "workers.pool"),
        guarded(system, tmp_path_factory.mktemp("scopes")) as serving,
    ):
        fleet = Fleet(serving)
        for name in (*sorted(NORTHERN | SOUTHERN), "bare"):
            serving.register(name, capabilities={"iotEdge": True})
        for names, site in ((NORTHERN, "north"), (SOUTHERN, "south")):
            for name in names:
                fleet.tag(name, site=site).raise_for_status()
        for name in ("n1", "s1"):
            fleet.ask(fleet.everybody, "PUT", f"/devices/{name}/modules/m", json={}).raise_for_status()
        fleet.create(fleet.everybody, "everywhere", "*").raise_for_status()
        fleet.create(fleet.everybody, "southern", "tags.site = 'south'", 2).raise_for_status()
        fleet.settle()
        yield fleet


def told(answer: httpx.Response, name: str) -> tuple[int, str]:
    """What an answer says, apart from the request's id and the name that was asked for."""
    body = answer.json() if answer.content else {}
    body.pop("ExceptionMessage", None)
    body.get("error", {}).pop("requestId", None)
    return answer.status_code, str(body).replace(name, "NAME")


# -- reading


def test_lists_counts_and_pages_hold_the_scope_alone(fleet: Fleet) -> None:
    assert {one["deviceId"] for one in fleet.get(fleet.north, "/devices")} == NORTHERN
    assert set(fleet.paged(fleet.north, "/v1/devices")) == NORTHERN
    assert fleet.get(fleet.north, "/statistics/devices") == {
        "totalDeviceCount": 3,
        "enabledDeviceCount": 3,
        "disabledDeviceCount": 0,
    }
    assert len(fleet.get(fleet.everybody, "/devices")) == 6


def test_queries_hold_the_scope_alone(fleet: Fleet) -> None:
    for text in ("select * from devices", "select deviceId from devices where tags.site = 'south' or true = true"):
        assert {row["deviceId"] for row in fleet.query(fleet.north, text).json()} == NORTHERN
    assert {row["deviceId"] for row in fleet.query(fleet.north, "select * from devices.modules").json()} == NORTHERN
    assert fleet.query(fleet.north, "select count() as n from devices").json() == [{"n": 3}]
    assert fleet.query(fleet.north, "select deviceId from devices where deviceId = 's1'").json() == []
    groups = "select tags.site as site, count() as n from devices group by tags.site"
    assert fleet.query(fleet.north, groups).json() == [{"site": "north", "n": 3}]


def test_a_continuation_from_somebody_for_everything_opens_nothing(fleet: Fleet) -> None:
    text = "select deviceId from devices"
    first = fleet.query(fleet.everybody, text, **{"x-ms-max-item-count": "1"})
    rest = fleet.query(fleet.north, text, **{"x-ms-continuation": first.headers["x-ms-continuation"]})
    assert {row["deviceId"] for row in rest.json()} <= NORTHERN
    page = fleet.get(fleet.everybody, "/v1/devices", top=1)
    assert set(fleet.get(fleet.north, "/v1/devices", continuation=page["continuation"])["devices"]) <= NORTHERN


def test_a_continuation_tells_nothing_and_is_taken_only_as_it_was_given(fleet: Fleet) -> None:
    text = "select deviceId from devices"
    token = fleet.query(fleet.north, text, **{"x-ms-max-item-count": "1"}).headers["x-ms-continuation"]
    listed = fleet.get(fleet.north, "/v1/devices", top=1)["continuation"]
    # A place is text: its punctuation would show, if it were only encoded.
    for given in (token, listed):
        assert not base64.urlsafe_b64decode(given).isascii()
    again = fleet.query(fleet.north, text, **{"x-ms-max-item-count": "1"}).headers["x-ms-continuation"]
    assert again != token
    for wrong in (listed, token[:-8], token.swapcase(), f"A{token[1:]}", "MDow", "x" * 40_000):
        assert fleet.query(fleet.north, text, **{"x-ms-continuation": wrong}).status_code == 400
    for wrong in (token, "MDow", listed.swapcase()):
        asked = fleet.ask(fleet.north, "GET", "/v1/devices", params={"continuation": wrong})
        assert asked.status_code == 400


def test_deployments_show_what_they_do_within_the_scope(fleet: Fleet) -> None:
    lines = {one["id"]: one for one in fleet.get(fleet.north, "/v1/deployments")}
    assert lines.keys() == {"everywhere"}
    assert lines["everywhere"]["counts"]["target"] == 3
    (shown,) = fleet.get(fleet.north, "/configurations")
    assert shown["systemMetrics"]["results"]["targetedCount"] == 3
    assert fleet.get(fleet.north, "/configurations/everywhere")["systemMetrics"]["results"]["appliedCount"] == 3
    assert fleet.get(fleet.everybody, "/configurations/everywhere")["systemMetrics"]["results"]["targetedCount"] == 6
    counts = fleet.get(fleet.north, "/v1/deployments/everywhere/status")["counts"]
    for status, count in counts.items():
        members = fleet.paged(fleet.north, f"/v1/deployments/everywhere/status/{status}")
        assert (set(members) <= NORTHERN, len(members)) == (True, count)
    assert counts["actual"] == 3


@pytest.mark.parametrize(
    "path", ["/configurations/{}", "/v1/deployments/{}/status", "/v1/deployments/{}/status/target"]
)
def test_a_deployment_out_of_sight_is_as_none(fleet: Fleet, path: str) -> None:
    hidden = told(fleet.ask(fleet.north, "GET", path.format("southern")), "southern")
    assert hidden == told(fleet.ask(fleet.north, "GET", path.format("nothing")), "nothing")
    assert hidden[0] == 404
    assert fleet.ask(fleet.south, "GET", path.format("southern")).status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/v1/policies", "/v1/tokens", "/nowhere", "/v1/nowhere", "/jobs/v2"])
def test_what_cannot_be_kept_within_a_scope_is_closed(fleet: Fleet, path: str) -> None:
    assert fleet.ask(fleet.north, "GET", path).status_code == 401


OF_ONE_DEVICE: list[tuple[str, str, Any]] = [
    ("GET", "/devices/{}", None),
    ("GET", "/devices/{}/modules", None),
    ("GET", "/devices/{}/modules/m", None),
    ("GET", "/devices/{}/modules/nothing", None),
    ("GET", "/twins/{}", None),
    ("GET", "/twins/{}/modules/$edgeAgent", None),
    ("GET", "/twins/{}/modules/m", None),
    *(("GET", f"/v1/devices/{{}}/{name}", None) for name in ("effective", "not-applied", "conflicts", "modules")),
    ("GET", "/v1/devices/{}/explain", None),
    ("GET", "/v1/devices/{}/explain?deployment=everywhere", None),
    *(("GET", f"/v1/devices/{{}}/{name}", None) for name in ("assignments", "desired", "nothing")),
    ("PATCH", "/twins/{}", {"tags": {"site": "north"}}),
    ("PATCH", "/twins/{}", {"tags": {"x": "y" * 5000}}),
    ("PATCH", "/twins/{}", ["nothing"]),
    ("PUT", "/twins/{}", {"tags": {"site": "north"}}),
    ("PATCH", "/twins/{}/modules/m", {"tags": {"a": 1}}),
    ("PUT", "/twins/{}/modules/m", {}),
    ("PUT", "/devices/{}", {"status": "disabled"}),
    ("DELETE", "/devices/{}", None),
    ("PUT", "/devices/{}/modules/m", {}),
    ("DELETE", "/devices/{}/modules/m", None),
    ("POST", "/devices/{}/applyConfigurationContent", base("m")),
    ("POST", "/v1/devices/{}/reports", {"patch": {"a": 1}}),
]


@pytest.mark.parametrize(("method", "path", "body"), OF_ONE_DEVICE)
def test_a_device_outside_answers_as_one_that_is_not_there(fleet: Fleet, method: str, path: str, body: Any) -> None:
    heads = written(fleet.serving.system)
    for conditions in ({}, {"If-Match": "*"}, {"If-Match": '"bm9uZQ=="'}):
        answers = [
            told(fleet.ask(fleet.north, method, path.format(name), json=body, headers=conditions), name)
            for name in ("s1", "nx", "bare")
        ]
        assert answers[0] == answers[1] == answers[2]
        assert answers[0][0] in {401, 404}
    assert written(fleet.serving.system) == heads


def test_an_explanation_names_what_is_theirs_and_what_targets_them_and_nothing_else(fleet: Fleet) -> None:
    found = fleet.get(fleet.north, "/v1/devices/n1/explain")
    assert [one["id"] for one in found["deployments"]] == ["everywhere"]
    assert "southern" not in str(found)
    assert len(fleet.get(fleet.everybody, "/v1/devices/n1/explain")["deployments"]) > 1
    hidden, absent = (
        told(fleet.ask(fleet.north, "GET", "/v1/devices/n1/explain", params={"deployment": name}), name)
        for name in ("southern", "nothing")
    )
    assert hidden == absent


# -- writing


def test_a_device_is_worked_on_within_the_scope_and_not_moved_out(fleet: Fleet) -> None:
    assert fleet.tag("n1", fleet.north, floor=2).json()["tags"] == {"site": "north", "floor": 2}
    refusals = [
        fleet.tag("n1", fleet.north, site="south"),
        fleet.tag("n1", fleet.north, site=None),
        fleet.ask(fleet.north, "PUT", "/twins/n1", json={"tags": {"floor": 1}}),
    ]
    for answer in refusals:
        assert (answer.status_code, answer.headers["iothub-errorcode"]) == (401, "IotHubUnauthorizedAccess")
        assert "outside the scope" in answer.text
    assert fleet.get(fleet.everybody, "/twins/n1")["tags"] == {"site": "north", "floor": 2}


def test_lines_of_a_bulk_request_are_held_to_the_scope_one_by_one(fleet: Fleet) -> None:
    bodies = [
        {"id": "n2", "importMode": "updateTwin", "tags": {"floor": 3}},
        {"id": "n2", "importMode": "updateTwin", "tags": {"site": "south"}},
        {"id": "s1", "importMode": "updateTwin", "tags": {"site": "north"}},
        {"id": "nx", "importMode": "updateTwin", "tags": {"site": "north"}},
        {"id": "s1", "importMode": "delete"},
        {"id": "new", "importMode": "create", "tags": {"site": "north"}},
        {"id": "s1", "importMode": "create", "tags": {"site": "north"}},
    ]
    errors = fleet.ask(fleet.north, "POST", "/devices", json=bodies).json()["errors"]
    moved, outside, missing, deleted, new, taken = errors
    codes = [one["errorCode"] for one in errors]
    assert codes == ["IotHubUnauthorizedAccess", *["DeviceNotFound"] * 3, *["IotHubUnauthorizedAccess"] * 2]
    assert outside["errorStatus"] == deleted["errorStatus"] == missing["errorStatus"].replace("nx", "s1")
    assert taken["errorStatus"] == new["errorStatus"].replace("new", "s1")
    assert "'n2'" in moved["errorStatus"]
    assert fleet.get(fleet.everybody, "/twins/n2")["tags"] == {"site": "north", "floor": 3}
    assert fleet.get(fleet.everybody, "/twins/s1")["tags"] == {"site": "south"}


def test_lines_of_events_are_held_to_the_scope_one_by_one(fleet: Fleet) -> None:
    answer = fleet.events(
        fleet.north,
        {"command": "PatchTags", "device_id": "n3", "tags": {"floor": 4}},
        {"command": "PatchTags", "device_id": "s1", "tags": {"site": "north"}},
        {"command": "PatchTags", "device_id": "nx", "tags": {"site": "north"}},
        {"command": "RetireDevice", "device_id": "s1"},
        {"command": "DeleteDeployment", "deployment_id": "southern"},
        {"command": "ChangeAdmission", "deployment_id": "everywhere", "admission": {"type": "Ended"}},
        {"command": "CreateDeployment", "deployment_id": "x", "content": base("m"), "scope": "*"},
        {"command": "RegisterDevice", "device_id": "new"},
    )
    assert (answer["written"], [one["line"] for one in answer["refused"]]) == (1, [2, 3, 4, 5, 6, 7, 8])
    outside, missing = answer["refused"][0]["error"], answer["refused"][1]["error"]
    assert outside == missing.replace("nx", "s1")


def test_a_registration_goes_by_the_id_that_a_scope_names(fleet: Fleet) -> None:
    lab = fleet.serving.token("operate", scope="deviceId >= 'lab-' AND deviceId < 'lab.'")
    assert fleet.ask(lab, "PUT", "/devices/lab-1", json={}).status_code == 200
    assert fleet.ask(lab, "PUT", "/devices/lab-1", json={}).status_code == 409
    for name in ("s1", "other"):
        assert fleet.ask(lab, "PUT", f"/devices/{name}", json={}).status_code == 401
    assert fleet.ask(lab, "DELETE", "/devices/lab-1", headers={"If-Match": "*"}).status_code == 204
    assert fleet.ask(lab, "GET", "/devices/lab-1").status_code == 404


# -- deployments


def test_a_deployment_reaches_its_scope_and_no_further_whatever_becomes_of_its_condition(fleet: Fleet) -> None:
    created = fleet.create(fleet.north, "mine", "*", 5).raise_for_status().json()
    query = created["systemMetrics"]["queries"]["targetedCount"]
    assert query.endswith("capabilities.iotEdge = true and (tags.site = 'north')")
    fleet.settle()
    everything = f"/v1/deployments/{created['id']}/status/actual"
    assert set(fleet.paged(fleet.everybody, everything)) == NORTHERN
    assert {row["deviceId"] for row in fleet.query(fleet.everybody, query).json()} == NORTHERN
    for who, condition in ((fleet.north, "tags.site = 'south'"), (fleet.everybody, "*")):
        body = {"content": base("m"), "targetCondition": condition, "priority": 5}
        changed = fleet.ask(who, "PUT", "/configurations/mine", json=body, headers={"If-Match": "*"})
        assert changed.status_code == 200
        fleet.settle()
        expected = NORTHERN if condition == "*" else set()
        assert set(fleet.paged(fleet.everybody, everything)) == expected
    lines = {one["id"]: one["scope"] for one in fleet.get(fleet.everybody, "/v1/deployments")}
    assert lines == {"everywhere": None, "southern": None, "mine": SCOPE}
    assert "mine" not in {one["id"] for one in fleet.get(fleet.south, "/v1/deployments")}
    assert fleet.ask(fleet.north, "DELETE", "/configurations/mine").status_code == 204
    fleet.settle()


def test_a_deployment_of_somebody_else_cannot_be_touched(fleet: Fleet) -> None:
    body = {"content": base("m"), "targetCondition": "", "priority": 5}
    for name in ("southern", "everywhere"):
        for method, json in (("PUT", body), ("DELETE", None)):
            for etag in ("*", '"wrong"'):
                theirs, none = (
                    told(
                        fleet.ask(fleet.north, method, f"/configurations/{one}", json=json, headers={"If-Match": etag}),
                        one,
                    )
                    for one in (name, "nothing")
                )
                assert theirs == none
                assert theirs[0] == 404
    assert fleet.create(fleet.north, "southern", "*").status_code == 409
    assert fleet.get(fleet.everybody, "/configurations/southern")["etag"] == "MQ=="


def test_advice_does_not_name_what_is_out_of_sight(fleet: Fleet) -> None:
    body = {"content": base("m"), "targetCondition": "*", "priority": 1}
    layered = {
        "content": {"modulesContent": {"$edgeAgent": {"properties.desired.modules.z": module()}}},
        "targetCondition": "*",
        "priority": 1,
    }
    assert fleet.ask(fleet.south, "POST", "/v1/deployments/base-of-south", json=body).status_code == 201
    answer = fleet.ask(fleet.north, "POST", "/v1/deployments/layer-of-north", json=layered).json()
    assert answer["advice"] == []
    for who, name in ((fleet.south, "base-of-south"), (fleet.north, "layer-of-north")):
        assert fleet.ask(who, "DELETE", f"/configurations/{name}").status_code == 204
    fleet.settle()


def module() -> dict[str, Any]:
    return {"type": "docker", "status": "running", "restartPolicy": "always", "settings": {"image": "example.com/z:1"}}


# -- coming and going


def test_a_device_that_is_moved_out_is_gone_from_everything(fleet: Fleet) -> None:
    fleet.serving.register("mover", capabilities={"iotEdge": True})
    fleet.tag("mover", site="north")
    fleet.settle()
    own = {"Authorization": fleet.north["Authorization"]}
    version = fleet.get(own, "/v1/devices/mover/desired")["version"]
    waiting = {"version": version, "wait": 20}
    waited: list[int] = []

    def ask_until_told() -> None:
        while not waited or waited[-1] == 204:
            waited.append(fleet.ask(own, "GET", "/v1/devices/mover/desired", params=waiting).status_code)

    asking = threading.Thread(target=ask_until_told)
    asking.start()
    eventually(
        lambda: "twinfold_waiting_devices 1.0" in fleet.ask(fleet.everybody, "GET", "/metrics").text,
        what="the device's change is waited for",
    )
    assert "mover" in fleet.paged(own, "/v1/devices")
    fleet.tag("mover", site="south")
    assert fleet.ask(own, "GET", "/twins/mover").status_code == 404
    assert "mover" not in {row["deviceId"] for row in fleet.query(own, "select * from devices").json()}
    assert "mover" not in {one["deviceId"] for one in fleet.get(own, "/devices")}
    eventually(lambda: "mover" not in fleet.paged(own, "/v1/devices"), what="the projections follow")
    assert "mover" not in fleet.paged(own, "/v1/deployments/everywhere/status/target")
    assert fleet.get(own, "/statistics/devices")["totalDeviceCount"] == 3
    asking.join()
    assert waited[-1] == 404
    fleet.ask(fleet.everybody, "DELETE", "/devices/mover", headers={"If-Match": "*"}).raise_for_status()
    fleet.settle()
