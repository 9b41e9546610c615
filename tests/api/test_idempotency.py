"""`Idempotency-Key`: what is sent again with the same key is done once, whatever became of the first answer."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from events.log.failpoints import VARIABLE, FailPoint
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import api, served, written
from tests.servers import eventually
from tests.workers.system import System, base, fresh_system, join

pytestmark = [pytest.mark.redis_server, pytest.mark.full]


@pytest.fixture(scope="module")
def serving(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with served(shared_redis) as both:
        both[0].do(*join("d"))
        yield both


def key(name: str, **more: str) -> dict[str, str]:
    return {"Content-Type": "application/json", "Idempotency-Key": name, **more}


def lines(*commands: dict[str, Any]) -> str:
    return "\n".join(map(json.dumps, commands))


def reports(device_id: str, count: int) -> str:
    """Commands each of which is an event however often it is sent."""
    return lines(
        *({"command": "ReportProperties", "device_id": device_id, "patch": {"n": number}} for number in range(count))
    )


def reported_version(http: httpx.Client, device_id: str) -> int:
    version: int = http.get(f"/twins/{device_id}").raise_for_status().json()["properties"]["reported"]["$version"]
    return version


def test_a_batch_that_is_sent_again_is_stored_once_and_answered_alike(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    body = lines(
        {"command": "RegisterDevice", "device_id": "once"},
        {"command": "ReportProperties", "device_id": "once", "patch": {"a": 1}},
        {"command": "PatchTags", "device_id": "nobody", "tags": {}},
        {"command": "Explode"},
        {"command": "PatchTags", "device_id": "once", "tags": {"site": "north"}},
    )
    first = http.post("/v1/events", content=body, headers=key("batch-1")).raise_for_status().json()
    assert (first["written"], [one["line"] for one in first["refused"]]) == (3, [3, 4])
    before = written(system)
    http.patch("/twins/once", json={"tags": {"site": "south"}}).raise_for_status()
    assert http.post("/v1/events", content=body, headers=key("batch-1")).json() == first
    assert http.get("/twins/once").json()["tags"] == {"site": "south"}
    assert sum(written(system).values()) == sum(before.values()) + 1
    assert http.post("/v1/events", content=body, headers=key("batch-2")).json()["written"] == 2


def test_a_long_body_is_completed_from_the_batch_where_it_broke_off(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(*join("long"))
    before = reported_version(http, "long")
    body = reports("long", 2500)
    http.post("/v1/events", content="\n".join(body.split("\n")[:1000]), headers=key("long")).raise_for_status()
    result = http.post("/v1/events", content=body, headers=key("long")).json()
    assert result == {"written": 2500, "refused": []}
    assert reported_version(http, "long") == before + 2500


def test_a_key_that_comes_with_another_request_is_refused(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    http.post("/v1/events", content=reports("d", 1), headers=key("taken")).raise_for_status()
    http.patch("/twins/d", json={"tags": {"a": 1}}, headers=key("taken-twin")).raise_for_status()
    before = written(system)
    for answer in (
        http.post("/v1/events", content=reports("d", 2), headers=key("taken")),
        http.patch("/twins/d", json={"tags": {"a": 2}}, headers=key("taken-twin")),
        http.put("/twins/d", json={"tags": {"a": 1}}, headers=key("taken-twin")),
        http.patch("/twins/d", json={"tags": {"a": 1}}, headers=key("taken-twin", **{"If-Match": "*"})),
    ):
        assert (answer.status_code, answer.headers["iothub-errorcode"]) == (422, "IdempotencyKeyReused")
    assert written(system) == before


@pytest.mark.parametrize("name", ["", "a b", "x" * 256, "\u00e9"])
def test_a_key_is_some_printable_characters(serving: tuple[System, httpx.Client], name: str) -> None:
    _, http = serving
    headers = {b"Content-Type": b"application/json", b"Idempotency-Key": name.encode()}
    for answer in (
        http.post("/v1/events", content=reports("d", 1), headers=headers),
        http.patch("/twins/d", json={"tags": {"a": 1}}, headers=headers),
    ):
        assert answer.status_code == 400
        assert "Idempotency-Key" in answer.text


def test_those_who_send_the_same_at_once_store_it_once(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(*join("crowd"))
    before, body = reported_version(http, "crowd"), reports("crowd", 20)

    def send(_: int) -> Any:
        return httpx.post(f"{http.base_url}/v1/events", content=body, headers=key("crowd"), timeout=60).json()

    def report(_: int) -> int:
        path = f"{http.base_url}/v1/devices/crowd/reports"
        return httpx.post(path, json={"patch": {"m": 1}}, headers=key("crowd-report"), timeout=60).status_code

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(send, range(8))) == [{"written": 20, "refused": []}] * 8
        assert set(pool.map(report, range(8))) == {204}
    assert reported_version(http, "crowd") == before + 21


def test_a_connection_that_is_cut_after_the_append_loses_and_doubles_nothing(
    serving: tuple[System, httpx.Client],
) -> None:
    system, http = serving
    system.do(*join("cut"))
    before, body = reported_version(http, "cut"), reports("cut", 5).encode()
    request = (
        "POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nIdempotency-Key: cut\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    assert http.base_url.port is not None
    with socket.create_connection(("127.0.0.1", http.base_url.port)) as wire:
        wire.sendall(request.encode() + body)
        eventually(lambda: reported_version(http, "cut") == before + 5, what="it is in the log")
        # Nobody reads the answer.
    result = http.post("/v1/events", content=body, headers=key("cut")).json()
    assert result == {"written": 5, "refused": []}
    assert reported_version(http, "cut") == before + 5


@pytest.mark.full
@pytest.mark.parametrize("method", ["events", "identity"])
def test_an_api_that_dies_between_the_append_and_its_answer_doubles_nothing(
    shared_redis: EmbeddedRedis, method: str
) -> None:
    body = reports("d", 3)

    def send(http: httpx.Client) -> httpx.Response:
        if method == "events":
            return http.post("/v1/events", content=body, headers=key("dies"))
        return http.put("/devices/new", json={"deviceId": "new"}, headers=key("dies"))

    with fresh_system(shared_redis) as system:
        system.do(*join("d"))
        before = sum(written(system).values())
        with (
            api(system, **{VARIABLE: FailPoint.APPEND_AFTER_SCRIPT.value}) as http,
            pytest.raises(httpx.TransportError),
        ):
            send(http)
        # The reports of one device are appended one after the other: it dies behind the first.
        assert sum(written(system).values()) == before + 1
        with api(system) as http:
            for _ in range(2):
                answer = send(http)
                assert answer.is_success, answer.text
                if method == "events":
                    assert answer.json() == {"written": 3, "refused": []}
        assert sum(written(system).values()) == before + (3 if method == "events" else 1)


def test_every_other_write_is_done_once_too(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(*join("other"))
    content = base("m")
    writes: list[tuple[str, str, Any]] = [
        ("PUT", "/devices/made", {"deviceId": "made"}),
        ("PUT", "/devices/made/modules/m", {"managedBy": "me"}),
        ("PATCH", "/twins/made", {"tags": {"a": 1}}),
        ("PUT", "/twins/made", {"tags": {"b": 1}}),
        ("PATCH", "/twins/made/modules/m", {"tags": {"a": 1}}),
        ("POST", "/v1/devices/made/reports", {"patch": {"a": 1}}),
        ("POST", "/devices", [{"id": "bulk", "tags": {"a": 1}}, {"id": "bulk2"}]),
        ("PUT", "/configurations/hub", {"id": "hub", "content": content}),
        ("POST", "/v1/deployments/held", {"content": content, "hold": True, "rollout": {"phases": ["100%"]}}),
        ("POST", "/v1/deployments/plain", {"content": content, "hold": True}),
        ("POST", "/v1/deployments/plain/start", None),
        ("POST", "/v1/deployments/held/rollout/start", None),
        ("POST", "/v1/deployments/held/rollout/pause", {"reason": "x"}),
        ("POST", "/v1/deployments/held/cancel", {"reason": "x"}),
        ("PUT", "/v1/waivers/w", {"rule": "privileged", "reason": "x", "until": "2099-01-01"}),
        ("PUT", "/v1/updates/contoso/camera/1.0", {"content": content}),
        ("PUT", "/v1/groups/g", {"condition": "tags.a = 1"}),
        ("PUT", "/v1/groups/g/deployments/1", {"update": "contoso/camera/1.0"}),
        ("POST", "/v1/groups/g/deployments/1/cancel", {}),
        ("PUT", "/v1/webhooks/hook", {"url": "https://hooks.example/x"}),
        ("DELETE", "/v1/webhooks/hook", None),
        ("DELETE", "/v1/waivers/w", None),
        ("DELETE", "/configurations/hub", None),
        ("DELETE", "/devices/bulk2", None),
        ("POST", "/devices/other/applyConfigurationContent", {"modulesContent": content["modulesContent"]}),
    ]
    for number, (method, path, body) in enumerate(writes):
        headers = key(f"write-{number}", **({"If-Match": "*"} if method == "DELETE" else {}))
        first = http.request(method, path, json=body, headers=headers)
        assert first.is_success, (method, path, first.text)
        before = written(system)
        again = http.request(method, path, json=body, headers=headers)
        assert again.status_code == first.status_code, (method, path, again.text)
        assert written(system) == before, (method, path)


def test_a_condition_that_held_holds_for_the_repeat(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(*join("etag"))
    etag = http.get("/twins/etag").json()["etag"]
    for _ in range(2):
        answer = http.patch("/twins/etag", json={"tags": {"a": 1}}, headers=key("etag", **{"If-Match": f'"{etag}"'}))
        assert answer.status_code == 200, answer.text


def test_what_was_refused_leaves_its_key_free_for_the_corrected_request(serving: tuple[System, httpx.Client]) -> None:
    _, http = serving
    assert http.patch("/twins/late", json={"tags": {"a b": 1}}, headers=key("late")).status_code == 400
    assert http.patch("/twins/late", json={"tags": {"a": 1}}, headers=key("late")).status_code == 404
    http.put("/devices/late", json={}).raise_for_status()
    assert http.patch("/twins/late", json={"tags": {"a": 1}}, headers=key("late")).json()["tags"] == {"a": 1}


def test_a_preview_does_not_use_the_key_up(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(*join("looks"))
    body = {"tags": {"a": 1}}
    assert "token" in http.patch("/twins/looks", json=body, params={"preview": "true"}, headers=key("looks")).json()
    assert http.patch("/twins/looks", json=body, headers=key("looks")).json()["tags"] == {"a": 1}


def test_what_is_kept_of_a_key_holds_no_body_and_is_forgotten(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    secret = "hunter2hunter2hunter2hunter2"
    http.patch("/twins/d", json={"tags": {"password": secret}}, headers=key("kept")).raise_for_status()
    kept = list(system.log.client.scan_iter(match="*idempotency:*"))
    assert kept
    for name in kept:
        assert secret.encode() not in system.log.client.get(name)
        assert 0 < system.log.client.pttl(name) <= 24 * 3600 * 1000
