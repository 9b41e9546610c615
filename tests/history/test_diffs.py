"""What a diff tells of the events in between: however many there are, and whatever stands among them."""

import datetime as dt
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from events import ReportProperties
from events.device.events import TwinPatched
from events.log.keys import FLEET, name, partition_of
from events.log.port import Proposed
from events.readiness.commands import GrantWaiver
from services.api.v1.diff import EVENTS_MAX
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import api
from tests.servers import eventually
from tests.workers.system import PARTITIONS, System, base, deploy, fresh_system, join
from tests.workers.test_blocked import ADA, damage

pytestmark = pytest.mark.redis_server

Served = tuple[System, httpx.Client]


@pytest.fixture(scope="module")
def served(shared_redis: EmbeddedRedis) -> Iterator[Served]:
    with fresh_system(shared_redis) as system, system.process("-m", "workers.pool"), api(system) as http:
        system.do(*join("d", site="north"), *join("many"), deploy("all", base("m")))
        system.do(ReportProperties("d", {"v": 1}, module_id="$edgeAgent"))
        system.do(GrantWaiver("w1", "privileged", "so be it", dt.date(2036, 1, 1)))
        system.settle()
        yield system, http


def _diff(http: httpx.Client, **what: str) -> Any:
    return http.get("/v1/diff", params={"from": "fleet:1", **what})


def test_an_event_that_was_left_out_is_not_told_and_in_nobodys_way(served: Served) -> None:
    system, http = served
    skipped = set()
    for stream in (partition_of("d", PARTITIONS), FLEET):
        bad = damage(system, stream, subject="d")
        system.waker.wake([stream])
        eventually(system.fleet_projection.blocked, what="it stops")
        system.producer.skip(stream, bad, reason="a faulty disk")
        system.settle()
        skipped.add(f"{name(stream)}:{bad}")
    for found in (_diff(http, device="d"), _diff(http)):
        told_of = [event["position"] for event in found.raise_for_status().json()["events"]]
        assert told_of
        assert not skipped & {*told_of}


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ({"device": "d/$edgeAgent"}, "DeviceNotFound"),
        ({"device": "d/"}, "DeviceNotFound"),
        ({"deployment": "waiver:w1"}, "ConfigurationNotFound"),
        ({"deployment": "rollout:all"}, "ConfigurationNotFound"),
    ],
)
def test_a_diff_is_of_a_device_or_of_a_deployment_and_of_no_other_document(
    served: Served, what: dict[str, str], code: str
) -> None:
    found = _diff(served[1], **what)
    assert (found.status_code, found.json()["error"]["code"]) == (404, code)


def test_of_many_events_of_one_time_the_last_ones_are_told_in_the_order_of_their_positions(served: Served) -> None:
    system, http = served
    count, number = EVENTS_MAX + 100, partition_of("many", PARTITIONS)
    version = system.log.load(["many"])[0].head.version
    events = [Proposed("many", version + one, TwinPatched({"k": one})) for one in range(count)]
    system.log.append(events, command_id="many", by=ADA, at=time.time_ns() // 1_000_000)
    system.waker.wake([number])
    system.settle()
    found = _diff(http, device="many").raise_for_status().json()
    locations = [event["position"].rpartition(":") for event in found["events"]]
    own = [int(position) for stream, _, position in locations if stream == name(number)]
    head = system.log.head(number)
    assert len(locations) == EVENTS_MAX
    assert own == list(range(head + 1 - len(own), head + 1))
    assert found["eventCount"] == sum(found["by"].values()) > count
