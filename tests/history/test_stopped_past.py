"""An event that cannot be applied stops only reads of later points in time, and their error names it."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from events.device.events import TwinPatched
from events.log.keys import FLEET, partition_of
from events.log.port import Proposed
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import Guarded, guarded
from tests.servers import eventually
from tests.workers.system import PARTITIONS, base, deploy, fresh_system, join
from tests.workers.test_blocked import by_hand, damage

pytestmark = pytest.mark.redis_server

NUMBER = partition_of("d", PARTITIONS)
HIDDEN = next(one for one in (f"hidden{n}" for n in range(99)) if partition_of(one, PARTITIONS) == NUMBER)


class Stopped(msgspec.Struct, frozen=True):
    """A system with an event that does not follow in a partition, and one that cannot be read in the fleet's stream behind it."""

    serving: Guarded
    bad: int
    bad_fleet: int


@pytest.fixture(scope="module")
def stopped(shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stopped]:
    with (
        fresh_system(shared_redis) as system,
        system.process("-m", "workers.pool"),
        guarded(system, tmp_path_factory.mktemp("stopped")) as serving,
    ):
        system.do(*join("d", site="north"), deploy("all", base("m")))
        system.settle()
        bad = by_hand(system, Proposed(HIDDEN, 0, TwinPatched({"on": True})), "c")
        eventually(lambda: NUMBER in system.fleet_projection.blocked(), what="the partition stops")
        bad_fleet = damage(system, FLEET)
        system.waker.wake([FLEET])
        eventually(
            lambda: len(system.fleet_projection.blocked()) == PARTITIONS, what="the fleet's stream stops everybody"
        )
        yield Stopped(serving, bad, bad_fleet)


@pytest.mark.full
def test_an_unreadable_event_of_the_fleet_is_in_nobodys_way_before_it(stopped: Stopped) -> None:
    http, owner, bad = stopped.serving.http, stopped.serving.policy(), stopped.bad_fleet

    def get(path: str, **params: str) -> Any:
        return http.get(path, params=params, headers=owner)

    now = f"p{NUMBER:02}:{stopped.bad - 1}"
    before = f"fleet:{bad - 1},{now}"
    for at in (before, f"fleet:{bad},{now}"):
        assert get("/v1/devices/d/effective", at=at).raise_for_status().json()["layers"] == ["all"]
        assert get("/twins/d", at=at).raise_for_status().json()["tags"] == {"site": "north"}
    assert get("/v1/deployments", at=before).is_success
    for what in ({}, {"device": "d"}, {"deployment": "all"}):
        assert get("/v1/diff", **{"from": "fleet:1", "to": before, **what}).is_success
        beyond = get("/v1/diff", **{"from": "fleet:1", **what})
        assert (beyond.status_code, beyond.json()["error"]["code"]) == (500, "LogDamaged")
        assert f"fleet:{bad} cannot be read" in beyond.text
    beyond = get("/v1/devices/d/effective", at=f"fleet:{bad},{now}", mode="implied")
    assert (beyond.status_code, beyond.json()["error"]["code"]) == (500, "LogDamaged")


@pytest.mark.full
def test_an_event_that_does_not_follow_is_named_to_operators_and_to_nobody_who_is_scoped(stopped: Stopped) -> None:
    http, owner, bad = stopped.serving.http, stopped.serving.policy(), stopped.bad
    north = stopped.serving.token("operate", scope="tags.site = 'north'")
    at = f"fleet:{stopped.bad_fleet - 1},p{NUMBER:02}:{bad}"
    assert http.get("/v1/devices/d/effective", params={"at": at}, headers=north).is_success
    for path, params in (
        ("/v1/devices/d/effective", {"at": at, "mode": "implied"}),
        ("/v1/diff", {"from": "fleet:1", "to": at, "mode": "implied", "device": "d"}),
        (f"/twins/{HIDDEN}", {"at": at}),
    ):
        told = http.get(path, params=params, headers=owner)
        assert told.status_code == 500, (path, told.text)
        assert "LogDamaged" in told.text
        assert f"position {bad}, {HIDDEN}" in told.text
    limited = http.get("/v1/devices/d/effective", params={"at": at, "mode": "implied"}, headers=north)
    assert (limited.status_code, limited.json()["error"]["code"]) == (500, "LogDamaged")
    assert HIDDEN not in limited.text
    assert str(bad) not in limited.json()["error"]["message"]
