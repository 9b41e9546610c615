"""Our own paths, over real HTTP."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from events import PatchTags, RegisterDevice
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.api.serving import NDJSON, api, counted, served
from tests.servers import eventually, redis_server
from tests.workers.system import System, answer, base, deploy, fresh_system, join, layer

pytestmark = pytest.mark.redis_server


@pytest.fixture
def serving(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with served(shared_redis) as both:
        yield both


def test_what_a_device_runs_and_why_and_who_is_in_a_status(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(
        *join("d", n=1), *join("e", n=2), deploy("low", base("a"), "*", 1), deploy("high", base("b"), "tags.n = 1", 5)
    )
    system.do(deploy("extra", layer("x", rate=1), "*", 3))
    system.settle()
    found = http.get("/v1/devices/d/effective").json()
    assert (found["managed"], found["status"], found["layers"]) == (True, "managed", ["high"])
    assert found["versions"]["$edgeAgent"] >= 2
    not_applied = http.get("/v1/devices/d/not-applied").json()["notApplied"]
    assert {one["deployment"]: one["by"] for one in not_applied} == {"low": "high", "extra": "high"}
    assert http.get("/v1/devices/e/effective").json()["layers"] == ["low", "extra"]
    system.do(answer(system, "e", a="running", x="failed"))
    system.settle()
    counts = http.get("/v1/deployments/low/status").json()["counts"]
    assert (counts["target"], counts["actual"], counts["unhealthy"]) == (2, 1, 1)
    for name, count in counts.items():
        assert len(http.get(f"/v1/deployments/low/status/{name}").json()["devices"]) == count
    runs = http.get("/v1/devices/e/modules").json()["modules"]
    assert runs["x"] == {"desired": "running", "runtimeStatus": "failed"}
    assert http.get("/v1/deployments/low/status/nonsense").status_code == 404
    assert http.get("/v1/devices/nobody/effective").json()["error"]["code"] == "DeviceNotFound"


def test_layers_that_disagree_are_reported_with_their_winner(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(*join("d"), deploy("base", base("m"), "*", 1))
    system.do(deploy("one", layer("x", rate=1), "*", 2), deploy("two", layer("x", rate=2), "*", 3))
    system.settle()
    found = http.get("/v1/devices/d/conflicts").json()["conflicts"]
    assert {"module": "x", "path": "properties.desired.rate", "winner": "two", "losers": ["one"]} in found


def test_pages_hold_nobody_twice_and_miss_nobody_who_stood_throughout(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(*(RegisterDevice(f"d{number}") for number in range(50)), deploy("a", base("m"), "*"))
    system.settle()
    seen: list[str] = []
    token, pages = None, 0
    while True:
        page = http.get(
            "/v1/deployments/a/status/target", params={"top": 7, **({"continuation": token} if token else {})}
        )
        seen += page.json()["devices"]
        token, pages = page.json()["continuation"], pages + 1
        if token is None:
            break
        system.do(RegisterDevice(f"late{pages}"))
        system.settle()
    assert len(seen) == len(set(seen))
    assert {f"d{number}" for number in range(50)} <= set(seen)
    assert http.get("/v1/deployments/a/status/target", params={"continuation": "nonsense"}).status_code == 400


def test_events_come_in_as_lines_and_bad_lines_do_not_hold_up_the_others(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    lines: list[Any] = [
        {"command": "RegisterDevice", "device_id": "d"},
        {"command": "PatchTags", "device_id": "d", "tags": {"site": "north"}},
        "{",
        {"command": "Explode", "device_id": "d"},
        {"command": "PatchTags", "device_id": "d", "tag": {}},
        {"command": "PatchTags", "device_id": "nobody", "tags": {}},
        {"command": "RegisterDevice", "device_id": 7},
        {"command": "PatchTags", "device_id": "d", "tags": {"line": 4}},
    ]
    body = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    result = http.post("/v1/events", content=body, headers=NDJSON).json()
    assert result["written"] == 3
    assert [one["line"] for one in result["refused"]] == [3, 4, 5, 6, 7]
    assert http.get("/twins/d").json()["tags"] == {"site": "north", "line": 4}
    many = "\n".join(json.dumps({"command": "RegisterDevice", "device_id": f"m{number}"}) for number in range(2500))
    assert http.post("/v1/events", content=many, headers=NDJSON).json() == {"written": 2500, "refused": []}
    assert system.log.load(["m2499"])[0].snapshot is not None


def test_a_device_that_waits_is_told_of_every_change_once(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(*join("d"), *join("other"))
    system.settle()
    assert http.get("/v1/devices/d/desired", params={"version": 0}).status_code == 204

    async def wait_for_all(count: int) -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = []
        version = 0
        async with httpx.AsyncClient(base_url=http.base_url, timeout=waiting.seconds(), params=http.params) as client:
            while len(seen) < count:
                answer = await client.get("/v1/devices/d/desired", params={"version": version, "wait": 30})
                if answer.status_code == 200:
                    seen += answer.json()["changes"]
                    version = answer.json()["version"]
        return seen

    async def change_and_wait() -> list[dict[str, Any]]:
        waiting = asyncio.create_task(wait_for_all(5))
        for number in range(5):
            await asyncio.to_thread(system.do, deploy(f"n{number}", base(f"m{number}"), "*", number))
            await asyncio.to_thread(system.settle)
        return await waiting

    seen = asyncio.run(change_and_wait())
    assert [change["layers"] for change in seen] == [[f"n{number}"] for number in range(5)]
    last = http.get("/v1/devices/d/desired").json()
    assert set(last["modules"]["$edgeAgent"]["desired"]["modules"]) == {"m4"}
    assert http.get("/v1/devices/nobody/desired").status_code == 404


def test_what_was_written_answers_with_advice_and_reports_come_in(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(*join("d"))
    told = http.post("/v1/deployments/nobody", json={"content": base("m"), "priority": 1})
    assert [one["rule"] for one in told.json()["advice"]] == ["empty-condition"]
    http.post("/v1/deployments/base", json={"content": base("m"), "priority": 1, "targetCondition": "*"})
    told = http.post("/v1/deployments/over", json={"content": layer("x"), "targetCondition": "*", "priority": 1})
    assert (told.status_code, told.json()["advice"][0]["about"]) == (201, "base")
    assert http.post("/v1/devices/d/reports", json={"patch": {"model": "m"}}).status_code == 204
    assert http.get("/twins/d").json()["properties"]["reported"]["model"] == "m"


def test_a_new_or_changed_deployment_says_how_many_devices_it_targets_now(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(*(command for number in range(5) for command in join(f"d-{number}", floor=str(number % 2), site="north")))
    system.do(
        RegisterDevice("leaf", edge=False), PatchTags("leaf", {"site": "north"}), *join("e", floor=1, site="north")
    )

    def asked(method: str, name: str, **body: Any) -> tuple[int, dict[str, str]]:
        told = http.request(method, f"/v1/deployments/{name}", json=body)
        assert told.is_success, told.text
        return told.json()["targeted"], {one["rule"]: one["message"] for one in told.json()["advice"]}

    targeted, advice = asked("POST", "a", content=base("m"), targetCondition="tags.site = 'north'", priority=1)
    assert (targeted, advice) == (6, {})
    targeted, advice = asked("POST", "b", content=base("m"), targetCondition="tags.floor = 2", hold=True)
    assert targeted == 0
    assert advice["targets-nothing"].startswith("b targets 0 devices now")
    assert "tags.floor is text on 5 devices and a number on 1; the condition compares it with" in advice["another-type"]
    targeted, advice = asked("PUT", "b", targetCondition="tags.floor = '1'")
    assert (targeted, advice.keys()) == (2, {"another-type"})
    assert asked("PUT", "b", targetCondition="")[0] == 0
    twins = {"moduleContent": {"properties.desired.x": 1}}
    condition = "FROM devices.modules WHERE moduleId = 'm'"
    assert asked("POST", "twins", content=twins, targetCondition=condition)[0] == 6
    assert asked("POST", "own", content={"deviceContent": {"properties.desired.x": 1}}, targetCondition="*")[0] == 7
    apart = layer("extra")
    assert "layer-not-above-base" in asked("POST", "over", content=apart, targetCondition="tags.floor = 1")[1]
    assert "layer-not-above-base" not in asked("POST", "off", content=apart, targetCondition="tags.floor = 7")[1]


def test_without_workers_it_is_not_known_how_many_devices_are_targeted(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis, waking=False) as system, api(system) as http:
        system.do(*join("d"))
        told = http.post("/v1/deployments/a", json={"content": base("m"), "targetCondition": "*"})
        assert (told.status_code, told.json()["targeted"]) == (201, None)


def test_whoever_waits_is_answered_when_the_process_ends(shared_redis: EmbeddedRedis) -> None:
    with contextlib.ExitStack() as stack:
        system = stack.enter_context(fresh_system(shared_redis))
        stack.enter_context(system.process("-m", "workers.pool"))
        system.do(*join("d"))
        system.settle()
        pool = stack.enter_context(ThreadPoolExecutor())
        with api(system) as http:
            path = f"{http.base_url}/v1/devices/d/desired?version=0&wait=60"
            waits = pool.submit(httpx.get, path, timeout=waiting.seconds())
            eventually(lambda: counted(http)["waiting_devices"] == 1, what="the device waits")
            assert not waits.done()
        # The process was told to end, and has ended.
        assert waits.result(timeout=waiting.seconds(1)).status_code == 204


def test_events_commits_and_conflicts_are_counted(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    before = counted(http)
    system.do(*join("d", n=1), deploy("a", base("m"), "*"))
    system.settle()
    eventually(
        lambda: counted(http)["applied_events_total"] == before["applied_events_total"] + 2, what="it is counted"
    )
    now = counted(http)
    assert now["events_total"] == before["events_total"] + 3
    assert now["commit_seconds_count"] > before["commit_seconds_count"]
    assert now["commit_seconds_sum"] > before["commit_seconds_sum"]

    def met() -> bool:
        others = pool.submit(system.do, *(PatchTags("d", {"theirs": number}) for number in range(20)))
        for number in range(20):
            http.patch("/twins/d", json={"tags": {"ours": number}}).raise_for_status()
        others.result()
        return counted(http)["conflicts_total"] > 0

    with ThreadPoolExecutor() as pool:
        eventually(met, what="two writers met")


@pytest.mark.full
def test_requests_that_are_written_together_are_answered_each_for_itself(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(*(RegisterDevice(f"d{number}") for number in range(10)))

    async def write_all() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=http.base_url, timeout=waiting.seconds(), params=http.params) as client:
            asked = []
            for number in range(200):
                name = "nobody" if number % 20 == 7 else f"d{number % 10}"
                headers = {"If-Match": '"AAAAAAAAA+c="'} if number % 20 == 3 else {}
                tags = {f"t{number}": number} if number % 20 != 5 else {"a.b": 1}
                asked.append(client.patch(f"/twins/{name}", json={"tags": tags}, headers=headers))
            return await asyncio.gather(*asked)

    for number, told in enumerate(asyncio.run(write_all())):
        match number % 20:
            case 7:
                assert told.headers["iothub-errorcode"] == "DeviceNotFound"
            case 5:
                assert told.headers["iothub-errorcode"] == "ArgumentInvalid"
            case 3:
                assert told.status_code == 412
            case _:
                assert (told.status_code, told.json()["tags"][f"t{number}"]) == (200, number)
    assert sum(len(http.get(f"/twins/d{number}").json()["tags"]) for number in range(10)) == 170


@pytest.mark.full
def test_a_refused_line_is_named_also_when_a_secret_was_taken_out(serving: tuple[System, httpx.Client]) -> None:
    _, http = serving
    content = base("m")
    content["modulesContent"]["$edgeAgent"]["properties.desired"]["runtime"]["settings"]["registryCredentials"] = {
        "r": {"address": "example.com", "username": "u", "password": "hidden"}
    }
    line = json.dumps({"command": "CreateDeployment", "deployment_id": "a", "content": content})
    response = http.post("/v1/events", content=f"{{\n{line}\n{line}\n", headers=NDJSON)
    assert response.json()["written"] == 1
    assert [one["line"] for one in response.json()["refused"]] == [1, 3]
    assert "hidden" not in response.text


def test_health_readiness_and_metrics_tell_of_lag_and_of_a_redis_that_is_away() -> None:
    with redis_server(appendfsync="always") as server, fresh_system(server) as system, api(system) as http:
        system.do(*join("d", n=1))
        ready = http.get("/readyz")
        assert (ready.status_code, sum(ready.json()["lag"].values())) == (200, 2)
        metrics = http.get("/metrics").text
        assert "twinfold_redis_up 1.0" in metrics
        assert "twinfold_requests_total" in metrics
        server.kill()
        away = http.get("/twins/d")
        assert (away.status_code, away.headers["retry-after"]) == (503, "1")
        assert http.patch("/twins/d", json={"tags": {"a": 1}}).status_code == 503
        assert (http.get("/healthz").status_code, http.get("/readyz").status_code) == (200, 503)
        assert "twinfold_redis_up 0.0" in http.get("/metrics").text
        server.start()
        eventually(lambda: http.get("/twins/d").status_code == 200, what="it recovers without a restart")
        assert http.patch("/twins/d", json={"tags": {"a": 1}}).json()["tags"] == {"a": 1, "n": 1}
        system.do(PatchTags("d", {"b": 2}))


def test_the_description_of_the_api_is_served(serving: tuple[System, httpx.Client]) -> None:
    _, http = serving
    paths = http.get("/openapi.json").json()["paths"]
    assert {"/devices/{device_id}", "/configurations/{name}", "/v1/events", "/v1/devices/{device_id}/desired"} <= set(
        paths
    )
