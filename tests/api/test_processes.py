"""Several API processes: on one port, and which of them answers makes no difference."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests import waiting
from tests.api.serving import api, counted, written
from tests.process_tree import children
from tests.servers import eventually, redis_server
from tests.workers.system import System, base, deploy, fresh_system, join

pytestmark = pytest.mark.redis_server
DEVICES = 12


def on_new_connection(http: httpx.Client, method: str, path: str, **how: Any) -> httpx.Response:
    """An answer of whichever process accepts the connection."""
    how.setdefault("timeout", waiting.seconds())
    params = {**http.params, **how.pop("params", {})}
    return httpx.request(method, f"{http.base_url}{path}", params=params, **how)


def total(http: httpx.Client, name: str) -> float:
    with httpx.Client(base_url=http.base_url, timeout=waiting.seconds()) as client:
        return counted(client)[name]


# -- on one port


@pytest.fixture(scope="module")
def port_of_two() -> Iterator[tuple[System, httpx.Client]]:
    with (
        redis_server() as server,
        fresh_system(server) as system,
        system.process("-m", "workers.pool"),
        api(system, TWINFOLD_API_PROCESSES="2") as http,
    ):
        system.do(*(command for number in range(DEVICES) for command in join(f"w{number}", has="base")))
        system.settle()
        yield system, http


def processes() -> list[int]:
    (supervisor,) = [pid for pid in children(os.getpid(), "services.api") if children(pid, "services.api")]
    return children(supervisor, "services.api")


def test_the_metrics_of_any_process_are_those_of_all(port_of_two: tuple[System, httpx.Client]) -> None:
    _, http = port_of_two
    before = total(http, "requests_total")
    for number in range(40):
        on_new_connection(http, "GET", f"/v1/devices/w{number % DEVICES}/effective").raise_for_status()
    totals = [total(http, "requests_total") for _ in range(10)]
    # Each scrape is a request as well, counted once its answer begins.
    assert totals == [before + 41 + scrapes for scrapes in range(10)]


def test_devices_that_wait_at_any_process_are_woken_by_one_deployment(port_of_two: tuple[System, httpx.Client]) -> None:
    system, http = port_of_two

    def wait(number: int) -> httpx.Response:
        path = f"/v1/devices/w{number}/desired"
        version = on_new_connection(http, "GET", path).json()["version"]
        return on_new_connection(http, "GET", path, params={"version": version, "wait": "250"})

    with ThreadPoolExecutor(DEVICES) as pool:
        answers = [pool.submit(wait, number) for number in range(DEVICES)]
        eventually(lambda: total(http, "waiting_devices") == DEVICES, what="all devices wait")
        system.do(deploy("base", base("m"), "tags.has = 'base'"))
        assert {answer.result().status_code for answer in answers} == {200}
    eventually(lambda: total(http, "waiting_devices") == 0, what="no device waits")


def test_a_process_that_is_killed_is_started_again_and_what_it_counted_remains(
    port_of_two: tuple[System, httpx.Client],
) -> None:
    _, http = port_of_two
    running = processes()
    assert len(running) == 2
    for _ in range(40):
        on_new_connection(http, "GET", "/v1/devices/w0/effective").raise_for_status()
    before = total(http, "requests_total")
    os.kill(running[0], signal.SIGKILL)
    eventually(lambda: len(set(processes()) - {running[0]}) == 2, what="two processes run again")
    assert on_new_connection(http, "GET", "/v1/devices/w0/effective").is_success
    # The first scrape is counted once its answer begins.
    assert total(http, "requests_total") == before + 2


def test_processes_that_are_killed_leave_no_clients_in_the_metrics(port_of_two: tuple[System, httpx.Client]) -> None:
    _, http = port_of_two
    path = "/v1/devices/w0/desired"
    query = {"version": on_new_connection(http, "GET", path).json()["version"], "wait": "250"}
    with ThreadPoolExecutor() as pool:
        wait = pool.submit(on_new_connection, http, "GET", path, params=query)
        eventually(lambda: total(http, "waiting_devices") == 1, what="the device waits")
        for pid in processes():
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            wait.result()
    # The connection waits in the supervisor's socket for a process that was started again.
    assert total(http, "waiting_devices") == 0


# -- which one answers


@pytest.fixture(scope="module")
def two() -> Iterator[tuple[System, httpx.Client, httpx.Client]]:
    with (
        redis_server() as server,
        fresh_system(server) as system,
        system.process("-m", "workers.pool"),
        api(system) as first,
        api(system) as second,
    ):
        system.do(*(command for number in range(DEVICES) for command in join(f"w{number}", has="base")))
        system.settle()
        yield system, first, second


def test_a_write_that_is_sent_again_to_another_process_is_done_once(
    two: tuple[System, httpx.Client, httpx.Client],
) -> None:
    system, first, second = two
    body, headers = {"deviceId": "once"}, {"Idempotency-Key": "once"}
    first.put("/devices/once", json=body, headers=headers).raise_for_status()
    events = written(system)
    assert second.put("/devices/once", json=body, headers=headers).is_success
    assert written(system) == events
    other = second.put("/devices/other", json={"deviceId": "other"}, headers=headers)
    assert (other.status_code, other.headers["iothub-errorcode"]) == (422, "IdempotencyKeyReused")


def test_a_page_of_one_process_is_followed_by_the_next_of_another(
    two: tuple[System, httpx.Client, httpx.Client],
) -> None:
    _, first, second = two
    query = {"query": "SELECT deviceId FROM devices WHERE tags.has = 'base'"}
    page = first.post("/devices/query", json=query, headers={"x-ms-max-item-count": "5"}).raise_for_status()
    names = [row["deviceId"] for row in page.json()]
    clients = [second, first]
    while continuation := page.headers.get("x-ms-continuation"):
        clients.reverse()
        headers = {"x-ms-max-item-count": "5", "x-ms-continuation": continuation}
        page = clients[1].post("/devices/query", json=query, headers=headers).raise_for_status()
        names += [row["deviceId"] for row in page.json()]
    assert sorted(names) == sorted(f"w{number}" for number in range(DEVICES))


def test_a_preview_of_one_process_is_done_by_another(two: tuple[System, httpx.Client, httpx.Client]) -> None:
    _, first, second = two
    body = {"tags": {"floor": 3}}
    token = first.patch("/twins/w1", json=body, params={"preview": "true"}).raise_for_status().json()["token"]
    second.patch("/twins/w1", json=body, headers={"Twinfold-Preview": token}).raise_for_status()
    assert first.get("/twins/w1").json()["tags"]["floor"] == 3


def test_a_stream_goes_on_at_another_process_from_the_id_of_the_last_event(
    two: tuple[System, httpx.Client, httpx.Client],
) -> None:
    _, first, second = two
    params = {"follow": "false", "from": "start"}
    whole = first.get("/v1/stream", params=params).raise_for_status().text
    ids = [line.removeprefix("id: ") for line in whole.splitlines() if line.startswith("id: ")]
    middle = ids[len(ids) // 2]
    rest = second.get("/v1/stream", params=params, headers={"Last-Event-ID": middle}).raise_for_status().text
    assert [line.removeprefix("id: ") for line in rest.splitlines() if line.startswith("id: ")][1:] == ids[
        len(ids) // 2 + 1 :
    ]
