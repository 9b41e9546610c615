from collections.abc import Iterator
from typing import Any

import pytest

from events import (
    CreateModule,
    DeleteDeployment,
    DeleteModule,
    PatchTwin,
    RegisterDevice,
    ReportProperties,
    RetireDevice,
)
from events.log.keys import FLEET
from events.projection_store.twins import TwinProjection
from services.embedded_redis import EmbeddedRedis
from tests.replayed import replay
from tests.workers.system import PARTITIONS, System, answer, base, deploy, fresh_system, join, layer

pytestmark = pytest.mark.redis_server


@pytest.fixture
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis) as system, system.process("-m", "workers.pool"):
        yield system


def test_a_device_has_twins_for_the_system_modules_its_configuration_and_those_made_by_hand(system: System) -> None:
    twins = TwinProjection(system.log, system.fleet_projection)
    system.do(*join("d", site="north"), CreateModule("d", "byhand"), RegisterDevice("leaf", edge=False))
    assert (twins.module_ids("d"), twins.module_ids("leaf")) == (("$edgeAgent", "$edgeHub", "byhand"), ())
    system.do(deploy("a", base("temp")), deploy("b", layer("camera", rate=5), priority=2))
    system.settle()
    assert twins.module_ids("d") == ("$edgeAgent", "$edgeHub", "byhand", "camera", "temp")
    assert twins.module("d", "nobody") is None
    assert twins.module("leaf", "$edgeAgent") is None
    assert twins.module_ids("unknown") == ()
    assert twins.device("unknown") is None


def test_whoever_has_the_answer_to_a_write_reads_that_write(system: System) -> None:
    twins = TwinProjection(system.log, system.fleet_projection)
    system.do(*join("d", site="north"))
    twin = twins.device("d")
    assert twin is not None
    assert (twin["tags"], twin["etag"], twin["capabilities"]) == ({"site": "north"}, "AAAAAAAAAAI=", {"iotEdge": True})


def plain(section: dict[str, Any]) -> dict[str, Any]:
    """A section without its times."""
    return {name: value for name, value in section.items() if name != "$metadata"}


def test_a_module_twin_is_its_own_document_under_the_section_of_the_configuration(system: System) -> None:
    twins = TwinProjection(system.log, system.fleet_projection)
    system.do(*join("d"), deploy("a", base("camera")), deploy("b", layer("camera", rate=5), priority=2))
    system.settle()
    system.do(
        PatchTwin("d", module_id="camera", desired={"byhand": True, "rate": 1}),
        ReportProperties("d", {"seen": 1}, module_id="camera"),
        answer(system, "d", camera="running"),
    )
    camera, agent = twins.module("d", "camera"), twins.module("d", "$edgeAgent")
    assert camera is not None
    assert agent is not None
    assert plain(camera["properties"]["desired"]) == {"byhand": True, "rate": 5, "$version": 3}
    assert plain(camera["properties"]["reported"]) == {"seen": 1, "$version": 2}
    assert agent["properties"]["desired"]["$version"] == agent["properties"]["reported"]["lastDesiredVersion"]
    assert agent["properties"]["desired"]["modules"]["camera"]["status"] == "running"
    system.do(DeleteDeployment("b"))
    system.settle()
    camera = twins.module("d", "camera")
    assert camera is not None
    assert plain(camera["properties"]["desired"]) == {"byhand": True, "rate": 1, "$version": 4}


def test_a_module_begins_anew_with_each_registration_of_its_device(system: System) -> None:
    twins = TwinProjection(system.log, system.fleet_projection)
    system.do(*join("d"), CreateModule("d", "m"), PatchTwin("d", module_id="m", desired={"x": 1}))
    assert twins.module("d", "m") is not None
    system.do(RetireDevice("d"))
    assert twins.module("d", "m") is None
    assert twins.device("d") is None
    system.do(RegisterDevice("d"))
    assert twins.module("d", "m") is None
    system.do(CreateModule("d", "m"))
    again = twins.module("d", "m")
    assert again is not None
    assert plain(again["properties"]["desired"]) == {"$version": 1}
    system.do(DeleteModule("d", "m"))
    assert twins.module("d", "m") is None


def test_snapshots_in_redis_are_what_a_replay_of_the_events_gives(system: System) -> None:
    system.do(*join("d"), CreateModule("d", "m"), PatchTwin("d", module_id="m", desired={"x": 1}), RetireDevice("d"))
    system.do(*join("d", a=1), *join("e"), deploy("a", base("camera")), deploy("b", base("x")), DeleteDeployment("b"))
    for stream in (FLEET, *range(PARTITIONS)):
        subjects = list(system.log.subjects(stream))
        stored = zip(subjects, system.log.load(subjects, fleet=stream == FLEET), strict=True)
        assert replay(system.log.read(stream, after=0, limit=100)) == {
            name: document.snapshot for name, document in stored
        }
