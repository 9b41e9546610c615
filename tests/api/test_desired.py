"""`/v1/devices/{id}/desired`: what a device is told, from whoever it comes, and what it acknowledges by asking again."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import Request

from events.device.events import DesiredDelivered
from events.envelope import Envelope
from events.fleet.assignments import NO_ASSIGNMENT
from events.log.keys import partition_of
from events.projection_store.port import StoredDevice
from events.stored_projection.stored_partition import Checkpoint
from services.api.v1.desired import _assignment
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.api.serving import counted, guarded, served
from tests.servers import eventually
from tests.workers.system import PARTITIONS, System, base, deploy, fresh_system, hub_answer_of, join, layer

RATE = {"modulesContent": {"$edgeAgent": {}, "m": {"properties.desired.rate": 5}}}


@pytest.fixture(scope="module")
def serving(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with served(shared_redis) as (system, http):
        system.do(deploy("base", base("m"), "tags.has = 'base'"), deploy("rate", RATE, "tags.rate = true", 5))
        yield system, http


def told(http: httpx.Client, device: str, **query: Any) -> Any:
    answer = http.get(f"/v1/devices/{device}/desired", params={**http.params, **query})
    assert answer.status_code == 200, answer.text
    return answer.json()


def events_of(system: System, device: str) -> list[Envelope[Any]]:
    """The deliveries to a device."""
    every = system.log.read(partition_of(device, PARTITIONS), after=0, limit=10_000)
    return [
        envelope for envelope in every if envelope.subject == device and isinstance(envelope.event, DesiredDelivered)
    ]


def deliveries(system: System, device: str) -> list[dict[str, int]]:
    """What is written down that a device acknowledged."""
    return [envelope.event.versions for envelope in events_of(system, device)]


def test_what_is_written_by_hand_is_told_with_the_sections_version(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(*join("hand", has="base"))
    system.settle()
    before = told(http, "hand")
    assert before["modules"].keys() == {"$edgeAgent", "$edgeHub"}
    assert "device" not in before
    http.patch("/twins/hand", json={"properties": {"desired": {"mode": "eco"}}}).raise_for_status()
    http.patch("/twins/hand/modules/m", json={"properties": {"desired": {"fps": 3}}}).raise_for_status()
    system.settle()
    after = told(http, "hand", version=before["version"])
    assert after["version"] != before["version"]
    assert after["device"] == {"desired": {"mode": "eco"}, "version": 2, "layers": [], "reason": None}
    assert after["modules"]["m"] == {"desired": {"fps": 3}, "version": 2}
    assert after["changes"] == [], "no deployment changed"
    for subject, version in (
        ("hand", after["device"]["version"]),
        ("hand/modules/m", after["modules"]["m"]["version"]),
    ):
        assert http.get(f"/twins/{subject}").json()["properties"]["desired"]["$version"] == version
    assert http.get("/v1/devices/hand/desired", params={"version": after["version"]}).status_code == 204


def test_deployments_are_laid_over_what_was_written_by_hand_and_versions_count_both(
    serving: tuple[System, httpx.Client],
) -> None:
    system, http = serving
    system.do(*join("both", has="base", rate=True))
    system.settle()
    desired = {"rate": 1, "fps": 3}
    http.patch("/twins/both/modules/m", json={"properties": {"desired": desired}}).raise_for_status()
    system.settle()
    assert told(http, "both")["modules"]["m"] == {"desired": {"rate": 5, "fps": 3}, "version": 3}
    http.patch("/twins/both/modules/m", json={"properties": {"desired": {"fps": None}}}).raise_for_status()
    system.settle()
    section = told(http, "both")["modules"]["m"]
    assert section == {"desired": {"rate": 5}, "version": 4}
    twin = http.get("/twins/both/modules/m").json()["properties"]["desired"]
    assert (twin["$version"], twin["rate"]) == (4, 5)


@pytest.mark.parametrize("path", ["/twins/{}", "/twins/{}/modules/m"], ids=["device", "module"])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_device_that_waits_is_woken_by_what_is_written_by_hand(
    serving: tuple[System, httpx.Client], method: str, path: str
) -> None:
    system, http = serving
    device = f"waits-{method}-{path.count('/')}"
    system.do(*join(device, has="base"), *join(f"{device}-other", has="base"))
    system.settle()
    version = told(http, device)["version"]
    query = {**http.params, "version": version, "wait": 60}
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(httpx.get, f"{http.base_url}/v1/devices/{device}/desired", params=query, timeout=120)
        eventually(lambda: counted(http)["waiting_devices"] == 1, what="the device waits")
        other = {"properties": {"desired": {"x": 1}}}
        http.request(method, path.format(f"{device}-other"), json=other).raise_for_status()
        http.request(method, path.format(device), json={"properties": {"desired": {"x": 2}}}).raise_for_status()
        answer = waits.result()
    assert answer.status_code == 200
    told_ = answer.json()
    assert {"x": 2} in [one["desired"] for one in (*told_["modules"].values(), told_.get("device", {"desired": None}))]


def test_a_device_that_waits_is_woken_although_the_connection_that_listens_for_commits_is_lost(
    serving: tuple[System, httpx.Client],
) -> None:
    system, http = serving
    system.do(*join("cut", has="base"))
    system.settle()
    query = {**http.params, "version": told(http, "cut")["version"], "wait": 250}

    def listening() -> list[str]:
        # Workers of RQ listen as well, on channels without a pattern.
        return [client["id"] for client in system.log.client.client_list(_type="pubsub") if client["psub"] != "0"]

    with ThreadPoolExecutor() as pool:
        waits = pool.submit(
            httpx.get, f"{http.base_url}/v1/devices/cut/desired", params=query, timeout=waiting.seconds()
        )
        eventually(listening, what="the process listens")
        for client_id in listening():
            system.log.client.client_kill_filter(_id=client_id)
        http.patch("/twins/cut", json={"properties": {"desired": {"x": 7}}}).raise_for_status()
        assert waits.result().json()["device"]["desired"] == {"x": 7}
    eventually(lambda: not listening(), what="nobody listens where no device waits")


def test_a_long_poll_whose_client_leaves_ends(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(*join("leaves", has="base"))
    system.settle()
    version = told(http, "leaves")["version"]
    path = f"/v1/devices/leaves/desired?version={version}&wait=300"
    with socket.create_connection((http.base_url.host, http.base_url.port or 80)) as wire:
        wire.sendall(f"GET {path} HTTP/1.1\r\nHost: {http.base_url.netloc.decode()}\r\n\r\n".encode())
        eventually(lambda: counted(http)["waiting_devices"] == 1, what="the device waits")
    eventually(lambda: counted(http)["waiting_devices"] == 0, what="its request ended")


def test_a_device_acknowledges_what_its_modules_are_told_by_its_next_request(
    serving: tuple[System, httpx.Client],
) -> None:
    system, http = serving
    system.do(deploy("module", layer("x", v=1), "tags.module = true", 6), *join("acks", has="base", module=True))
    system.settle()
    effective = told(http, "acks")
    for module, patch in (
        ("$edgeAgent", {**hub_answer_of(2), "modules": {name: {"runtimeStatus": "running"} for name in "mx"}}),
        ("$edgeHub", hub_answer_of(2)),
    ):
        system_modules = {name: {"runtimeStatus": "running"} for name in ("edgeAgent", "edgeHub")}
        report = {"moduleId": module, "patch": {**patch, "systemModules": system_modules}}
        http.post("/v1/devices/acks/reports", json=report).raise_for_status()
    system.settle()
    assert system.status("module") == {**system.status("module"), "actual": 1, "healthy": 0, "pending": 1}
    assert http.get("/v1/devices/acks/desired", params={"version": "0"}).status_code == 200
    assert deliveries(system, "acks") == [], "that is not the version that it was told"
    for _ in range(2):
        assert http.get("/v1/devices/acks/desired", params={"version": effective["version"]}).status_code == 204
    assert deliveries(system, "acks") == [{"x": 2}], "it is written once"
    system.settle()
    assert system.status("module") == {**system.status("module"), "healthy": 1, "pending": 0}


def test_nothing_is_written_where_only_the_system_modules_have_something_to_answer(
    serving: tuple[System, httpx.Client],
) -> None:
    system, http = serving
    system.do(*join("plain", has="base"))
    system.settle()
    version = told(http, "plain")["version"]
    http.get("/v1/devices/plain/desired", params={"version": version}).raise_for_status()
    assert deliveries(system, "plain") == []


@pytest.mark.parametrize("version", ["-1", "x", "1.", "1.2.3", "1" * 17, "99999999999999999", "\u0661"])
def test_a_version_that_is_none_is_refused_with_what_one_is(serving: tuple[System, httpx.Client], version: str) -> None:
    _, http = serving
    answer = http.get("/v1/devices/plain/desired", params={"version": version})
    assert answer.status_code == 400
    assert "version" in answer.text


def test_only_who_may_report_for_a_device_acknowledges_for_it(shared_redis: EmbeddedRedis, tmp_path: Path) -> None:
    with fresh_system(shared_redis) as system, system.process("-m", "workers.pool"), guarded(system, tmp_path) as gate:
        gate.register("own", capabilities={"iotEdge": True})
        gate.register("other", capabilities={"iotEdge": True})
        system.do(deploy("base", base("m")), deploy("rate", RATE, "*", 5))
        system.settle()
        path = "/v1/devices/own/desired"
        reader, own = gate.token("read"), gate.device("own")
        version = gate.http.get(path, headers=own).json()["version"]
        asked = {**gate.http.params, "version": version}
        assert gate.http.get(path, params=asked, headers=reader).status_code == 204
        assert gate.http.get(path, params=asked, headers=gate.device("other")).status_code == 401
        assert deliveries(system, "own") == []
        assert gate.http.get(path, params=asked, headers=own).status_code == 204
        assert deliveries(system, "own") == [{"m": 2}]
        (written,) = events_of(system, "own")
        assert str(written.by) == "device:own"


def test_a_device_that_waits_keeps_no_configuration_in_memory() -> None:
    device = StoredDevice("d", Checkpoint(), 7, NO_ASSIGNMENT, b"large", 3, 0, "", own=b"large", hand_written=2)
    context = SimpleNamespace(fleet_projection=SimpleNamespace(assignment=lambda _: device))
    app = SimpleNamespace(state=SimpleNamespace(context=context))
    kept = _assignment(Request({"type": "http", "app": app, "state": {}}), "d")
    assert (kept.ordinal, kept.assignment_change, kept.hand_written) == (7, 3, 2)
    assert (kept.configuration, kept.own) == (b"", b"")
