"""What explanations tell whoever is kept to a scope of devices that they do not reach: nothing."""

from collections.abc import Iterator
from typing import Any

import pytest

from events import PatchTags, RegisterDevice
from events.device.events import TwinPatched
from events.log.keys import partition_of
from events.log.port import Proposed
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import Guarded, guarded
from tests.servers import eventually
from tests.workers.system import PARTITIONS, base, fresh_system
from tests.workers.test_blocked import by_hand

pytestmark = pytest.mark.redis_server

ROLLED = {"content": base("r"), "targetCondition": "*", "priority": 9, "rollout": {"phases": [{"percent": 100}]}}


@pytest.fixture(scope="module")
def serving(shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with (
        fresh_system(shared_redis) as system,
        system.process("-m", "workers.pool"),
        system.process("-m", "services.scheduler"),
        guarded(system, tmp_path_factory.mktemp("explained")) as serving,
    ):
        system.do(RegisterDevice("n1"), PatchTags("n1", {"site": "north"}))
        yield serving


def roll_out(serving: Guarded, name: str, who: dict[str, str]) -> None:
    """Roll a deployment out, until the device has it."""
    serving.http.post(f"/v1/deployments/{name}", json=ROLLED, headers=who).raise_for_status()
    serving.http.post(f"/v1/deployments/{name}/rollout/start", json={}, headers=who).raise_for_status()
    eventually(
        lambda: serving.system.fleet_projection.status(name).get(name, {}).get("actual") == 1, what="the device has it"
    )


def explained(serving: Guarded, who: dict[str, str], **params: str) -> Any:
    return serving.http.get("/v1/devices/n1/explain", headers=who, params=params).raise_for_status().json()


def acts(found: Any) -> list[str]:
    return [cause["act"] for cause in found["runs"]["causes"]]


@pytest.mark.full
def test_how_their_own_deployment_was_rolled_out_they_are_told(serving: Guarded) -> None:
    north = serving.token("operate", scope="tags.site = 'north'")
    roll_out(serving, "mine", north)
    assert "PhaseOpened" in acts(explained(serving, north))
    serving.http.delete("/configurations/mine", headers=north).raise_for_status()


@pytest.mark.full
def test_no_error_and_no_rollout_tells_them_of_others_though_no_foreign_deployment_is_left(serving: Guarded) -> None:
    system, everybody = serving.system, serving.policy()
    north = serving.token("operate", scope="tags.site = 'north'")
    mine = {"content": base("m"), "targetCondition": "tags.site = 'nowhere'", "priority": 3}
    serving.http.post("/v1/deployments/mine", json=mine, headers=north).raise_for_status()
    roll_out(serving, "rolled", everybody)
    number = partition_of("n1", PARTITIONS)
    names = (f"secret-plant-{one}" for one in range(99))
    hidden = next(name for name in names if partition_of(name, PARTITIONS) == number)
    by_hand(system, Proposed(hidden, 0, TwinPatched({"on": True})), "c")
    eventually(lambda: number in system.fleet_projection.blocked(), what="the partition is stopped")
    # What stopped it is not applied, so that the device still has what is deleted now.
    serving.http.delete("/configurations/rolled", headers=everybody).raise_for_status()
    for params in ({}, {"deployment": "mine"}):
        all_of_it, some = (explained(serving, who, **params) for who in (everybody, north))
        assert hidden in all_of_it["asOf"]["blocked"]["error"]
        assert some["asOf"]["blocked"] == {**all_of_it["asOf"]["blocked"], "error": None}
        assert "secret-plant" not in str(some)
        assert "PhaseOpened" in acts(all_of_it)
        assert "PhaseOpened" not in acts(some)
