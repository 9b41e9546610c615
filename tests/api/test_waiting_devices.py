"""Devices that wait, while a part of Redis cannot be read."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from events.log.keys import key, partition_of
from events.projection_store.redis import ASSIGNMENT_CHANGES, projection_key
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.api.serving import api, counted
from tests.servers import eventually
from tests.workers.system import base, deploy, fresh_system, join

pytestmark = pytest.mark.redis_server


def test_a_change_wakes_its_device_although_another_partition_cannot_be_read(
    shared_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    with (
        (tmp_path / "log").open("wb") as log,
        fresh_system(shared_redis) as system,
        system.process("-m", "workers.pool"),
        api(system, says=log, TWINFOLD_LOG_LEVEL="info") as http,
    ):
        by_partition = {partition_of(name, system.log.partitions): name for name in map("edge-{}".format, range(50))}
        # Partitions are read in order: the one that cannot be read comes before the other.
        broken, other = sorted(by_partition)[:2]
        devices = [by_partition[broken], by_partition[other]]
        system.do(*(join(device, has="base") for device in devices), deploy("base", base("m"), "*"))
        system.settle()

        def states() -> list[str]:
            lines = (tmp_path / "log").read_text().splitlines()
            return ["postponed" if "postponed" in line else "done again" for line in lines if "waking devices" in line]

        def wait(device: str) -> httpx.Response:
            path = f"{http.base_url}/v1/devices/{device}/desired"
            query = {**http.params, "version": http.get(path).json()["version"], "wait": 120}
            return httpx.get(path, params=query, timeout=waiting.seconds())

        with ThreadPoolExecutor() as pool:
            answers = [pool.submit(wait, device) for device in devices]
            eventually(lambda: counted(http)["waiting_devices"] == 2, what="both devices wait")
            checkpoint = projection_key(broken, "checkpoint")
            stored = system.log.client.get(checkpoint)
            # Two keys at once, as a reader must find the one or the other.
            with system.log.client.pipeline() as pipe:
                pipe.delete(checkpoint).rpush(checkpoint, "of another type").execute()
            # As a commit does: the partition is read, and cannot be.
            system.log.client.publish(key(broken, ASSIGNMENT_CHANGES), "")
            http.patch(f"/twins/{devices[1]}", json={"properties": {"desired": {"x": 1}}}).raise_for_status()
            assert answers[1].result().json()["device"]["desired"] == {"x": 1}
            # The read of the other partition is no success of this one.
            assert states() == ["postponed"]
            system.log.client.set(checkpoint, stored)
            http.patch(f"/twins/{devices[0]}", json={"properties": {"desired": {"x": 2}}}).raise_for_status()
            assert answers[0].result().json()["device"]["desired"] == {"x": 2}
            assert states() == ["postponed", "done again"]
