"""Previews over HTTP: what would happen, the token to go on with, and what is refused without."""

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from events import PatchTags
from events.canonical import encode
from events.log.keys import partition_of
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import NDJSON, api, served
from tests.api.test_description import operations, run_example
from tests.servers import eventually
from tests.workers.system import System, base, deploy, join
from tests.workers.test_blocked import damage

pytestmark = pytest.mark.redis_server


@pytest.fixture(scope="module")
def serving(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with served(shared_redis) as (system, http):
        for number in range(6):
            system.do(*join(f"d{number}", site="north" if number < 4 else "south"))
        system.do(deploy("ground", base("a"), "*", 1))
        system.settle()
        yield system, http


@pytest.fixture
def system(serving: tuple[System, httpx.Client]) -> System:
    return serving[0]


@pytest.fixture
def http(serving: tuple[System, httpx.Client]) -> httpx.Client:
    return serving[1]


def lines(*commands: dict[str, Any]) -> bytes:
    return b"\n".join(map(encode, commands))


def previewed(http: httpx.Client, *commands: dict[str, Any], **query: Any) -> Any:
    return http.post("/v1/preview", content=lines(*commands), headers=NDJSON, params=query).raise_for_status().json()


CREATE = {
    "command": "CreateDeployment",
    "deployment_id": "north",
    "content": base("b"),
    "target_condition": "tags.site = 'north'",
    "priority": 5,
}


def test_what_a_new_deployment_would_do_is_shown_and_nothing_is_done(system: System, http: httpx.Client) -> None:
    heads = system.log.heads()
    found = previewed(http, CREATE)
    assert system.log.heads() == heads
    assert found["affected"]["devices"] == found["reconfigured"]["devices"] == 4
    assert found["says"][0] == "4 devices would get another configuration"
    by_id = {one["id"]: one for one in found["deployments"]}
    assert (by_id["north"]["gained"]["devices"], by_id["ground"]["lost"]["devices"]) == (4, 4)
    (change,) = found["changes"]
    assert [one["how"] for one in change["differences"]] == ["removed", "added"]
    assert change["differences"][0]["path"] == "modules.a"


def test_a_count_comes_with_its_list_page_by_page(http: httpx.Client) -> None:
    first = previewed(http, CREATE, list="deployments/north/gained", top=3)
    rest = previewed(http, CREATE, list="deployments/north/gained", top=3, continuation=first["continuation"])
    assert sorted(first["devices"] + rest["devices"]) == ["d0", "d1", "d2", "d3"]
    assert rest["continuation"] is None


def test_every_list_that_an_answer_names_can_be_asked_for_though_nobody_is_on_it(http: httpx.Client) -> None:
    found = previewed(http, CREATE)
    named = [one for one in found.values() if isinstance(one, dict) and "list" in one]
    named += [one for deployment in found["deployments"] for one in deployment.values() if isinstance(one, dict)]
    assert {one["list"] for one in named if not one["devices"]} > {"managed", "deployments/north/lost"}
    for one in named:
        assert len(previewed(http, CREATE, list=one["list"])["devices"]) == one["devices"]
    missing = http.post(
        "/v1/preview", content=lines(CREATE), headers=NDJSON, params={"list": "deployments/nowhere/lost"}
    )
    assert (missing.status_code, "has no list" in missing.text) == (404, True)


def test_a_write_asked_with_preview_answers_what_it_would_do(system: System, http: httpx.Client) -> None:
    heads = system.log.heads()
    found = http.patch("/twins/d4", json={"tags": {"site": "north"}}, params={"preview": "true"}).json()
    assert found["changesNothing"] is False
    assert found["affected"]["devices"] == 0
    assert system.log.heads() == heads


def test_with_its_token_what_was_shown_is_done(system: System, http: httpx.Client) -> None:
    path, body = "/v1/deployments/calm", {"content": base("c"), "targetCondition": "deviceId = 'd5'", "priority": 9}
    token = http.post(path, json=body, params={"preview": "true"}).raise_for_status().json()["token"]
    done = http.post(path, json=body, headers={"Twinfold-Preview": token})
    assert done.status_code == 201
    assert done.headers["Twinfold-Preview-Between"] == "none"
    system.settle()
    assert [*system.fleet_projection.members("calm", "actual")] == ["d5"]
    http.delete("/configurations/calm").raise_for_status()
    system.settle()


def test_events_that_came_in_between_and_change_nothing_are_told(system: System, http: httpx.Client) -> None:
    body = {"tags": {"site": "east"}}
    token = http.patch("/twins/d5", json=body, params={"preview": "true"}).raise_for_status().json()["token"]
    system.do(PatchTags("d5", {"note": "unheard"}))
    done = http.patch("/twins/d5", json=body, headers={"Twinfold-Preview": token})
    assert done.status_code == 200
    number, position = partition_of("d5", 4), system.log.head(partition_of("d5", 4))
    assert done.headers["Twinfold-Preview-Between"] == f"p{number:02d}:{position - 1}-{position - 1}"


def test_another_result_than_was_shown_is_refused_and_says_what_differs(system: System, http: httpx.Client) -> None:
    path, body = "/v1/deployments/eastern", {"content": base("e"), "targetCondition": "tags.site = 'west'"}
    body["priority"] = 3
    token = http.post(path, json=body, params={"preview": "true"}).raise_for_status().json()["token"]
    system.do(PatchTags("d5", {"site": "west"}))
    heads = system.log.heads()
    refused = http.post(path, json=body, headers={"Twinfold-Preview": token})
    assert (refused.status_code, refused.json()["error"]["code"]) == (412, "PreviewDiffers")
    assert "deployments/eastern/gained had 0 devices and now has 1" in refused.json()["error"]["message"]
    assert system.log.heads() == heads


def test_a_token_is_good_for_its_command_alone(http: httpx.Client) -> None:
    body = {"tags": {"site": "east"}}
    token = http.patch("/twins/d5", json=body, params={"preview": "true"}).raise_for_status().json()["token"]
    other = http.patch("/twins/d5", json={"tags": {"site": "nowhere"}}, headers={"Twinfold-Preview": token})
    assert other.status_code == 412
    assert "was issued for other commands" in other.text
    assert http.patch("/twins/d5", json=body, headers={"Twinfold-Preview": "made-up"}).status_code == 412


# -- rollouts


def test_a_rollout_says_whom_it_would_admit_first(system: System, http: httpx.Client) -> None:
    plan = {"phases": [{"percent": 50}, {"percent": 100}]}
    body = {
        "content": base("r"),
        "targetCondition": "tags.site = 'north'",
        "priority": 30,
        "rollout": plan,
        "hold": True,
    }
    found = http.post("/v1/deployments/rolled", json=body, params={"preview": "true"}).raise_for_status().json()
    (rollout,) = found["rollouts"]
    assert rollout["says"].startswith("once it is started, it admits these devices first, or as many other devices")
    assert rollout["admitted"]["devices"] == 2
    assert found["changed"]["devices"] == 0
    http.post("/v1/deployments/rolled", json=body).raise_for_status()
    system.settle()
    token = http.post("/v1/deployments/rolled/rollout/start", json={}, params={"preview": "true"}).raise_for_status()
    (again,) = token.json()["rollouts"]
    assert again["admitted"]["devices"] == rollout["admitted"]["devices"]
    assert again["says"] == "it admits these devices first"


# -- nothing is done


def test_no_write_that_is_asked_with_preview_leaves_an_event_a_secret_or_a_command(
    system: System, http: httpx.Client
) -> None:
    description = http.get("/openapi.json").json()
    before = everything(system)
    asked = 0
    for one in operations(description):
        if one.method != "get":
            answer = run_example(http, one, description, preview="true")
            assert answer.status_code < 500, (one, answer.text)
            asked += "tokenUntil" in answer.text
    assert asked >= 8
    assert everything(system) == before


def everything(system: System) -> dict[bytes, Any]:
    """What the log and the store of secrets hold, with the commands that are remembered."""
    client: Any = system.log.client
    names = sorted(name for name in client.scan_iter("{*") if b":projection:" not in name)
    # The key that tokens are sealed with, how far the projections are behind, and counters of requests are no traces.
    apart = (b"continuations", b"wake", b"assignments", b"metrics", b"work", b"series", b"lease", b"scheduler")
    return {name: client.dump(name) for name in names if not name.endswith(apart) and not any(a in name for a in apart)}


def test_a_secret_shows_nowhere_and_is_kept_nowhere(system: System, http: httpx.Client) -> None:
    content = base("safe")
    credentials = {"r": {"address": "r.example.com", "username": "u", "password": "very secret indeed"}}
    agent = content["modulesContent"]["$edgeAgent"]["properties.desired"]
    agent["runtime"]["settings"] = {"registryCredentials": credentials}
    body = {"content": content, "targetCondition": "tags.site = 'north'", "priority": 40}
    before = everything(system)
    shown = http.post("/v1/deployments/safe", json=body, params={"preview": "true"}).raise_for_status()
    assert "very secret" not in shown.text
    assert '"***"' in shown.text
    assert everything(system) == before
    # Applied, it has a reference of its own; the result is the same.
    token = shown.json()["token"]
    other = {**body, "content": msgspec.json.decode(msgspec.json.encode(content).replace(b"indeed", b"in fact"))}
    headers = {"Twinfold-Preview": token}
    assert http.post("/v1/deployments/safe", json=other, headers=headers).status_code == 412
    assert everything(system) == before
    http.post("/v1/deployments/safe", json=body, headers=headers).raise_for_status()


def test_what_would_be_refused_is_refused_the_same_way(http: httpx.Client) -> None:
    body = {"content": base("x"), "targetCondition": 'tags.site = "north"', "priority": 1}
    real = http.post("/v1/deployments/bad", json=body)
    shown = http.post("/v1/deployments/bad", json=body, params={"preview": "true"})
    assert (shown.status_code, shown.json()["error"]["code"]) == (real.status_code, real.json()["error"]["code"])
    assert shown.json()["error"]["message"] == real.json()["error"]["message"]
    found = http.post(
        "/v1/preview", content=lines({"command": "DeleteDeployment", "deployment_id": "nowhere"}), headers=NDJSON
    )
    assert (found.status_code, found.json()["error"]["code"]) == (404, "ConfigurationNotFound")
    several = previewed(http, {"command": "DeleteDeployment", "deployment_id": "nowhere"}, CREATE)
    assert [one["line"] for one in several["refused"]] == [1]


def test_lines_are_decided_each_on_what_the_ones_before_it_make(http: httpx.Client) -> None:
    found = previewed(
        http,
        {"command": "RegisterDevice", "device_id": "fresh"},
        {"command": "PatchTags", "device_id": "fresh", "tags": {"site": "moon"}},
        {**CREATE, "deployment_id": "moon", "target_condition": "tags.site = 'moon'", "priority": 50},
    )
    assert found["refused"] == []
    assert found["registered"]["examples"] == ["fresh"]
    gained = {one["id"]: one["gained"]["examples"] for one in found["deployments"]}
    assert gained["moon"] == ["fresh"]


# -- lines with a token


def test_lines_that_were_previewed_are_done_with_the_token_all_together(system: System, http: httpx.Client) -> None:
    wanted = lines(
        {"command": "PatchTags", "device_id": "d4", "tags": {"shelf": 1}},
        {"command": "PatchTags", "device_id": "bad id", "tags": {"shelf": 1}},
        {"command": "PatchTags", "device_id": "d5", "tags": {"shelf": 1}},
        {"command": "PatchTags", "device_id": "d4", "tags": {"shelf": 2}},
    )
    shown = http.post("/v1/preview", content=wanted, headers=NDJSON).raise_for_status().json()
    headers = {**NDJSON, "Twinfold-Preview": shown["token"]}
    done = http.post("/v1/events", content=wanted, headers=headers).raise_for_status()
    assert done.json() == {"written": 3, "refused": shown["refused"]}
    assert done.headers["Twinfold-Preview-Between"] == "none"
    heads = system.log.heads()
    assert http.post("/v1/events", content=wanted.replace(b"2", b"3"), headers=headers).status_code == 412
    long = http.post("/v1/events", content=(wanted + b"\n") * 300, headers=headers)
    assert (long.status_code, "a request with its token, must have at most 1000 lines" in long.text) == (400, True)
    assert system.log.heads() == heads


def test_of_lines_that_need_a_look_the_answer_says_which_are_done_and_a_token_lets_them_through(
    system: System, http: httpx.Client
) -> None:
    doomed = {"content": base("z"), "targetCondition": "*", "priority": 2}
    http.post("/v1/deployments/doomed", json=doomed).raise_for_status()
    system.settle()
    wide = lines({"command": "DeleteDeployment", "deployment_id": "doomed"})
    with api(system, TWINFOLD_PREVIEW_REQUIRED_ABOVE="3") as careful:
        refused = careful.post("/v1/events", content=wide, headers=NDJSON)
        assert (refused.status_code, "are done" in refused.text) == (428, False)
        names = ["d5", *(f"nobody-{number}" for number in range(999))]
        many = lines(*({"command": "PatchTags", "device_id": name, "tags": {"n": 999}} for name in names))
        refused = careful.post("/v1/events", content=many + b"\n" + wide, headers=NDJSON)
        assert (refused.status_code, "lines before 1001 are done" in refused.text) == (428, True)
        assert careful.get("/twins/d5").json()["tags"]["n"] == 999
        token = careful.post("/v1/preview", content=wide, headers=NDJSON).raise_for_status().json()["token"]
        careful.post("/v1/events", content=wide, headers={**NDJSON, "Twinfold-Preview": token}).raise_for_status()
        assert careful.get("/configurations/doomed").status_code == 404


# -- without a look


def test_what_reaches_too_many_is_refused_without_a_preview_and_done_with_one(system: System) -> None:
    with api(system, TWINFOLD_PREVIEW_REQUIRED_ABOVE="3") as careful:
        body = {"content": base("w"), "targetCondition": "*", "priority": 60}
        heads = system.log.heads()
        refused = careful.post("/v1/deployments/wide", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (428, "PreviewRequired")
        assert "preview=true" in refused.json()["error"]["message"]
        hub = careful.put("/configurations/wide", json={"id": "wide", **body})
        assert (hub.status_code, hub.headers["iothub-errorcode"]) == (428, "PreviewRequired")
        assert system.log.heads() == heads
        few = {**body, "targetCondition": "tags.site = 'nowhere at all'"}
        careful.post("/v1/deployments/few", json=few).raise_for_status()
        careful.patch("/twins/d4", json={"tags": {"note": 1}}).raise_for_status()
        token = careful.post("/v1/deployments/wide", json=body, params={"preview": "true"}).json()["token"]
        careful.post("/v1/deployments/wide", json=body, headers={"Twinfold-Preview": token}).raise_for_status()
        start = "/v1/deployments/rolled/rollout/start"
        assert careful.post(start, json={}).status_code == 428
        token = careful.post(start, json={}, params={"preview": "true"}).json()["token"]
        careful.post(start, json={}, headers={"Twinfold-Preview": token}).raise_for_status()
        # What stops something needs no look.
        careful.post("/v1/deployments/rolled/rollout/pause", json={"reason": "smoke"}).raise_for_status()


def test_what_changes_no_device_needs_no_projections_that_may_be_stopped(system: System, http: httpx.Client) -> None:
    with api(system, TWINFOLD_PREVIEW_REQUIRED_ABOVE="3") as careful:
        body = {"content": base("r"), "targetCondition": "*", "priority": 70, "rollout": {"phases": [{"percent": 100}]}}
        http.post("/v1/deployments/held", json=body).raise_for_status()
        http.post("/v1/deployments/held/rollout/start", json={}).raise_for_status()
        system.settle()
        damage(system, 0)
        system.waker.wake([0])
        eventually(lambda: system.projections.blocked(0) is not None, what="a partition stands still")
        careful.post("/v1/deployments/held/rollout/pause", json={"reason": "smoke"}).raise_for_status()
        careful.post("/v1/deployments/held/rollout/abort", json={"reason": "fire"}).raise_for_status()
        refused = careful.delete("/configurations/ground")
        assert (refused.is_success, "is blocked at an event" in refused.text) == (False, True)
