"""The answer to a write of a twin is not behind what the caller has seen of configurations."""

import pytest

from events.clock import now_ms
from tests.api.serving import api
from tests.servers import redis_server
from tests.workers.system import System
from workers.projector import Projector

pytestmark = pytest.mark.redis_server


def test_the_answer_has_what_the_first_configuration_of_own_twins_gives() -> None:
    with redis_server() as server:
        system = System(server.url)
        projector = Projector(system.log, system.projections, clock=now_ms)

        def apply() -> None:
            for number in range(system.log.partitions):
                projector.drain(number, go_on=lambda: True)

        with api(system) as http:
            http.put("/devices/edge1", json={"deviceId": "edge1", "capabilities": {"iotEdge": True}})
            apply()
            desired = http.patch("/twins/edge1", json={"tags": {"n": 1}}).json()["properties"]["desired"]
            assert desired["$version"] == 1
            content = {"deviceContent": {"properties.desired.on": True}}
            body = {"id": "own", "content": content, "targetCondition": "*", "priority": 1}
            assert http.put("/configurations/own", json=body).is_success
            apply()
            device = http.get("/v1/devices/edge1/effective").json()["device"]
            assert (device["desired"], device["version"]) == ({"on": True}, 2)
            desired = http.patch("/twins/edge1", json={"tags": {"n": 2}}).json()["properties"]["desired"]
            assert (desired["on"], desired["$version"]) == (True, 2)
        system.close()
