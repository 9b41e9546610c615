"""A device id that was registered again is somebody else, in queries of the past too."""

from pathlib import Path
from typing import Any

import pytest

from services.embedded_redis import EmbeddedRedis
from tests.api.serving import guarded
from tests.history.past_reads import vector
from tests.workers.system import fresh_system

pytestmark = pytest.mark.redis_server


@pytest.mark.full
def test_whoever_is_scoped_is_not_shown_an_earlier_registration_that_the_projections_still_take_for_theirs(
    shared_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    with fresh_system(shared_redis) as system, guarded(system, tmp_path) as serving:
        http, owner = serving.http, serving.policy()
        north = serving.token("operate", scope="tags.site = 'north'")
        with system.process("-m", "workers.pool"):
            for name in ("stays", "anew", "left"):
                serving.register(name, capabilities={"iotEdge": True})
                tags = {"site": "north", "owner": "first"}
                http.patch(f"/twins/{name}", json={"tags": tags}, headers=owner).raise_for_status()
            system.settle()
        then = vector(system, 0).rpartition(",")[0]
        # Nobody replays from here on.
        http.delete("/devices/anew", headers={**owner, "If-Match": "*"}).raise_for_status()
        serving.register("anew", capabilities={"iotEdge": True})
        http.patch("/twins/anew", json={"tags": {"site": "north"}}, headers=owner).raise_for_status()
        http.patch("/twins/left", json={"tags": {"site": "south"}}, headers=owner).raise_for_status()

        def ask(query: str, headers: dict[str, str], **params: str) -> Any:
            answer = http.post("/devices/query", json={"query": query}, params={"at": then, **params}, headers=headers)
            return answer.raise_for_status().json()

        for which in ("in-effect", "implied"):
            assert len(ask("SELECT * FROM devices", owner, mode=which)) == 3
            assert [one["deviceId"] for one in ask("SELECT * FROM devices", north, mode=which)] == ["stays"]
        assert ask("SELECT deviceId FROM devices", north) == [{"deviceId": "stays"}]
        modules = "SELECT deviceId FROM devices.modules WHERE moduleId = '$edgeHub'"
        assert ask(modules, north) == [{"deviceId": "stays"}]
        assert ask("SELECT COUNT() AS n FROM devices", north) == [{"n": 1}]
        assert ask("SELECT tags.owner AS o, COUNT() AS n FROM devices GROUP BY tags.owner", north) == [
            {"o": "first", "n": 1}
        ]
        assert http.get("/twins/anew", params={"at": then}, headers=north).status_code == 404
