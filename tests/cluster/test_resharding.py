"""Slots move between masters, and masters come and go, while twinfold works."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.embedded_redis import EmbeddedRedis
from tests.api.serving import api
from tests.cluster.writers import Writers, assert_nothing_is_lost_or_doubled, assert_retryable_at_most
from tests.redis_cluster import Cluster, cluster, slots_of
from tests.servers import oldest_server
from tests.workers.system import PARTITIONS, System, assert_rebuilt, base, deploy, join, layer

pytestmark = [pytest.mark.redis_server, pytest.mark.full]

DEVICES = [f"edge-{number}" for number in range(12)]


@pytest.fixture(params=["embedded", "oldest"])
def nodes(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with cluster(binary=oldest_server() if request.param == "oldest" else None) as nodes:
        yield nodes


def test_slots_and_masters_move_while_twinfold_works(
    nodes: Cluster, shared_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        system = stack.enter_context(contextlib.closing(System(nodes.url, queue_url=shared_redis.url)))
        says = stack.enter_context((tmp_path / "said").open("wb"))
        stack.enter_context(system.process("-m", "workers.pool", says=says, TWINFOLD_WORKERS="2"))
        stack.enter_context(system.process("-m", "services.scheduler", says=says))
        http = stack.enter_context(api(system, says=says))
        system.do(*(join(device_id, environment="prod") for device_id in DEVICES))
        system.do(deploy("all", base("z"), "*"), deploy("some", layer("x", v=1), "tags.produced > 3", priority=5))
        slots = slots_of(PARTITIONS)
        with Writers(system, http, DEVICES) as writers:
            writers.go_on()
            for round_number in range(2):
                for number, slot in enumerate(slots.values()):
                    nodes.move(slot, nodes.masters[(number + round_number) % 3])
                writers.go_on()
            # A master that no process has met gets its first slots.
            added = nodes.add_master()
            for slot in slots.values():
                nodes.move(slot, added)
            writers.go_on()
            move = nodes.move_at_once if nodes.can_move_at_once else nodes.move
            for number, slot in enumerate(slots.values()):
                move(slot, nodes.masters[number % 3])
            nodes.remove_master(added)
            writers.go_on()
        assert not writers.errors
        system.settle()
        assert_nothing_is_lost_or_doubled(system, writers)
        for device_id in DEVICES:
            tags = http.get(f"/twins/{device_id}").json()["tags"]
            assert tags["produced"] >= writers.acknowledged[device_id, "produced"]
        assert system.status("all")["target"] == len(DEVICES)
        assert_rebuilt(system)
    assert_retryable_at_most(tmp_path / "said")
